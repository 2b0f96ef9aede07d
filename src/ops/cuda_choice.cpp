#include "ops/cuda_choice.h"

#include <algorithm>

#include "device/cuda/autotune.h"
#include "device/cuda/cudnn.h"
#include "device/cuda/disk_cache.h"
#include "ops/elements.h"

namespace trireme::cuda {
namespace {

std::string key_of(const Prepare& p, const char* what) {
  std::string key = message(what, '\n', p.device->info().model, "\ncuDNN ", dnn_version(), '\n',
                            p.node.op->name, ' ', p.node.attrs.str());
  for (const Value* v : p.node.inputs) key += '\n' + (v ? v->type.str() : "-");
  for (const auto& v : p.node.outputs) key += '\n' + v->type.str();
  return key;
}

}  // namespace

bool is_faster(const Prepare& p, const Kernel& a, const Kernel& b, const char* what) {
  static const DiskCache disk("choice");
  if (!autotunes()) return true;
  const std::string key = key_of(p, what);
  if (const auto known = disk.get(key)) return *known == "a";
  Device& device = *p.device;
  std::vector<Storage> memory;
  std::vector<void*> in, out;
  try {
    for (const Value* v : p.node.inputs) {
      if (v) memory.push_back(tuning_memory(device, v->type.dtype, v->type.bytes()));
      in.push_back(v ? memory.back().data : nullptr);
    }
    for (const auto& v : p.node.outputs) {
      memory.push_back(device.allocate(v->type.bytes(), "a buffer of autotuning"));
      out.push_back(memory.back().data);
    }
    const auto scratch = static_cast<int64_t>(std::max({a.scratch, b.scratch, size_t{1}}));
    memory.push_back(device.allocate(scratch, "a buffer of autotuning"));
  } catch (const Error& e) {
    if (e.code() != Code::kResourceExhausted) throw;
    return true;
  }
  std::vector<Candidate> candidates;
  for (const Kernel* kernel : {&a, &b})
    candidates.push_back([&, kernel](void* stream) {
      kernel->run({in.data(), out.data(), memory.back().data, stream});
    });
  const int best = fastest(device, candidates);
  memory.clear();
  device.trim();  // a plan's arena has other sizes
  if (best >= 0) disk.put(key, best == 0 ? "a" : "b");
  return best <= 0;
}

}  // namespace trireme::cuda
