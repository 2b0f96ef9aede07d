// Plan: a graph made ready to run on a device: kernels prepared, memory placed. Immutable, shared
// between threads.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "device/device.h"
#include "graph/kernel.h"
#include "runtime/profiler.h"

namespace trireme {

class Plan {
 public:
  // Takes the graph after its passes. `cache` keeps packed weights, and constants that are on the
  // device, for other plans; may be null. `device` null: the CPU.
  Plan(std::unique_ptr<Graph> graph, ModelCache* cache, Device* device = nullptr);

  const Graph& graph() const { return *graph_; }
  int64_t arena_bytes() const { return arena_bytes_; }                // values and scratch
  int64_t planned_peak_bytes() const { return planned_peak_bytes_; }  // values alone
  int64_t intermediate_bytes() const {
    return intermediate_bytes_;
  }  // the same if none shared memory
  // Of a graph output: the donated input in whose memory it lies when run() returns (what is given
  // as its pointer is not used then); -1: in its own.
  int donor_of(size_t output) const { return donors_[output]; }
  int kernels() const { return static_cast<int>(steps_.size()); }

  bool is_donated(size_t input) const {
    return input < graph_->donated.size() && graph_->donated[input];
  }
  // The largest values in the arena, for messages: "conv2d float32[1, 64, 80, 80] 1.56 MiB, ...".
  std::string largest_values(size_t count = 3) const;

  // `arena` has arena_bytes(), 64-byte aligned (256 on a GPU). Inputs and outputs are in the
  // graph's order; all are the device's memory. Several threads may run one plan, each with its own
  // arena. On a GPU this only gives work to `stream` (null: the device's own order).
  void run(std::span<void* const> inputs, std::span<void* const> outputs, char* arena,
           Profiler* profiler = nullptr, void* stream = nullptr) const;

 private:
  struct Source {
    enum Kind : uint8_t { kAbsent, kArena, kConstant, kInput, kOutput } kind = kAbsent;
    int64_t offset = 0;    // in the arena, or index of the input or output
    void* data = nullptr;  // of constants
  };
  struct Step {
    const Node* node;
    Kernel kernel;
    std::vector<Source> in, out;
  };
  struct Copy {
    Source from;
    size_t output, bytes;
  };

  void place(const Graph& graph);
  void prepare_step(const Node& node, ModelCache* cache);
  void place_outputs();
  void upload_constants(ModelCache* cache);
  Source source_of(const Value* v) const;

  struct Large {
    std::string name;
    int64_t bytes;
  };

  std::unique_ptr<Graph> graph_;
  Device* device_;                                 // null: the CPU
  std::vector<std::shared_ptr<const void>> held_;  // constants on the device
  std::vector<Large> large_;                       // of the arena, largest first
  std::vector<Step> steps_;
  std::vector<int> donors_;   // one an output
  std::vector<Copy> copies_;  // outputs that are inputs, constants or views of something else
  std::unordered_map<const Value*, Source> where_;
  int64_t arena_bytes_ = 0, planned_peak_bytes_ = 0, intermediate_bytes_ = 0;
  size_t scratch_offset_ = 0;
};

}  // namespace trireme
