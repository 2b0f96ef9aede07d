// Plan: a graph made ready to run on the CPU: kernels prepared, memory placed. Immutable, shared
// between threads.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "graph/kernel.h"
#include "runtime/profiler.h"

namespace trireme {

class Plan {
 public:
  // Takes the graph after its passes. `cache` keeps packed weights for other plans; may be null.
  Plan(std::unique_ptr<Graph> graph, ModelCache* cache);

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

  // `arena` has arena_bytes(), 64-byte aligned. Inputs and outputs are in the graph's order.
  // Several threads may run one plan, each with its own arena.
  void run(std::span<void* const> inputs, std::span<void* const> outputs, char* arena,
           Profiler* profiler = nullptr) const;

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

  bool is_donated(size_t input) const {
    return input < graph_->donated.size() && graph_->donated[input];
  }
  void place(const Graph& graph);
  Source source_of(const Value* v) const;

  std::unique_ptr<Graph> graph_;
  std::vector<Step> steps_;
  std::vector<int> donors_;   // one an output
  std::vector<Copy> copies_;  // outputs that are inputs, constants or views of something else
  std::unordered_map<const Value*, Source> where_;
  int64_t arena_bytes_ = 0, planned_peak_bytes_ = 0, intermediate_bytes_ = 0;
  size_t scratch_offset_ = 0;
};

}  // namespace trireme
