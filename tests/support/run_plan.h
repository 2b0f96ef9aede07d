// Running a graph on a device, from host memory to host memory.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "device/device.h"
#include "runtime/plan.h"

namespace trireme::test {

// The passes are up to the caller. Undefined arrays stand for absent inputs, which the graph does
// not have.
inline std::vector<Array> run_on(Device& device, std::unique_ptr<Graph> graph,
                                 const std::vector<Array>& inputs) {
  const Plan plan(std::move(graph), nullptr, &device);
  std::vector<Storage> memory;
  std::vector<void*> in, out;
  for (const Array& t : inputs) {
    if (!t.defined()) continue;
    memory.push_back(device.upload(t.data(), static_cast<int64_t>(t.bytes()), "an input"));
    in.push_back(memory.back().data);
  }
  const auto& values = plan.graph().outputs;
  std::vector<Array> results;
  for (const Value* v : values) {
    results.emplace_back(v->type.dtype, v->type.shape);
    // NaNs, so that what a kernel leaves out shows.
    std::memset(results.back().data(), 0xff, results.back().bytes());
    memory.push_back(device.upload(results.back().data(),
                                   static_cast<int64_t>(results.back().bytes()), "an output"));
    out.push_back(memory.back().data);
  }
  const Storage arena = device.allocate(plan.arena_bytes(), "the arena");
  plan.run(in, out, static_cast<char*>(arena.data));
  for (size_t k = 0; k < out.size(); ++k)
    device.download(results[k].data(), out[k], results[k].bytes());
  return results;
}

}  // namespace trireme::test
