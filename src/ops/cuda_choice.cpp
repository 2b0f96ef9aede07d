#include "ops/cuda_choice.h"

#include <algorithm>

#include "device/cuda/autotune.h"
#include "device/cuda/cudnn.h"
#include "device/cuda/disk_cache.h"
#include "device/precision.h"
#include "ops/elements.h"

namespace trireme::cuda {
namespace {

std::string key_of(const Prepare& p, const char* what) {
  const bool tf32[] = {allows_tf32(Products::kConvolutions), allows_tf32(Products::kMatrices)};
  std::string key = message(what, '\n', p.device->info().model, "\ncuDNN ", dnn_version(), " tf32 ",
                            tf32[0], ' ', tf32[1], '\n', p.node.op->name, ' ', p.node.attrs.str());
  for (const Value* v : p.node.inputs) key += '\n' + (v ? v->type.str() : "-");
  for (const auto& v : p.node.outputs) key += '\n' + v->type.str();
  return key;
}

}  // namespace

size_t fastest_of(const Prepare& p, const std::vector<Alternative>& all, const char* what) {
  static const DiskCache disk("choice");
  if (all.size() < 2 || !autotunes()) return 0;
  const std::string key = key_of(p, what);
  if (const auto known = disk.get(key))
    for (size_t i = 0; i < all.size(); ++i)
      if (all[i].name == *known) return i;
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
    size_t scratch = 1;
    for (const Alternative& a : all) scratch = std::max(scratch, a.kernel.scratch);
    memory.push_back(device.allocate(static_cast<int64_t>(scratch), "a buffer of autotuning"));
  } catch (const Error& e) {
    if (e.code() != Code::kResourceExhausted) throw;
    return 0;
  }
  std::vector<Candidate> candidates;
  for (const Alternative& a : all)
    candidates.push_back([&](void* stream) {
      a.kernel.run({in.data(), out.data(), memory.back().data, stream});
    });
  const int best = fastest(device, candidates);
  memory.clear();
  device.trim();  // a plan's arena has other sizes
  if (best < 0) return 0;
  disk.put(key, all[static_cast<size_t>(best)].name);
  return static_cast<size_t>(best);
}

bool is_faster(const Prepare& p, const Kernel& a, const Kernel& b, const char* what) {
  return fastest_of(p, {{"a", a}, {"b", b}}, what) == 0;
}

}  // namespace trireme::cuda
