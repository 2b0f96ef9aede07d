// Passes: rewriting a graph before it is planned. Every pass goes through run_pass.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "graph/kernel.h"
#include "graph/target.h"

namespace trireme {

struct PassContext {
  const Target& target;
  ModelCache* cache = nullptr;        // folded constants are kept here; may be null
  DType precision = DType::kFloat32;  // what `amp` casts to
  // Operators that `amp` leaves in float32, by Paddle's types: those of the op table, and
  // depthwise_conv2d and depthwise_conv2d_transpose, which conv2d and conv2d_transpose leave out.
  std::span<const std::string> float32_ops = {};
};

struct Pass {
  std::string_view name;
  void (*run)(Graph&, const PassContext&);
};

// The passes of an inference plan, in order.
std::span<const Pass> passes();
const Pass* find_pass(std::string_view name);

// Whether PassContext::float32_ops may hold the name.
bool is_op_type(std::string_view name);

// Runs one pass: unless TRIREME_DISABLE lists its name; with TRIREME_DUMP=dir the graph before and
// after goes there; the result is verified (always in debug builds, else with TRIREME_VERIFY=1).
void run_pass(const Pass& pass, Graph& graph, const PassContext& context);

// Runs all passes, or those up to and including `last` when it is not empty ("record": none).
void run_passes(Graph& graph, const PassContext& context, std::string_view last = {});

void branches(Graph& graph, const PassContext& context);  // graphs inside operators, too
void amp(Graph& graph, const PassContext& context);       // casts to half precision around anchors
void clean(Graph& graph, const PassContext& context);     // folds, simplifies, removes
void fuse_attention(Graph& graph, const PassContext& context);  // products around a softmax
void layout(Graph& graph, const PassContext& context);  // channels-last where anchors want it
// Training batch norm with a residual, ReLU and max pooling, for targets that want it.
void fuse_norm(Graph& graph, const PassContext& context);
void fuse_loss(Graph& graph, const PassContext& context);  // cross entropy of half logits, likewise
void fuse_anchor(Graph& graph,
                 const PassContext& context);  // anchors with what stands before and after
void fuse_pointwise(Graph& graph, const PassContext& context);  // clusters of pointwise operators
void schedule(Graph& graph, const PassContext& context);  // an order that keeps few bytes alive

// Offsets in one arena for all values that a node computes. Views and in-place results share their
// input's place; an in-place result may take over the memory of a donated graph input. The target
// tells which of its kernels work in place, beside what operators promise everywhere.
struct MemoryPlan {
  struct Place {
    const Value* value;  // whose memory it is; views of it are not listed
    int64_t offset, bytes;
    int first, last;  // nodes between which it is alive
    int output = -1;  // the graph output it is written to directly, outside the arena; -1: none
  };
  std::vector<Place> places;
  std::unordered_map<const Value*, const Value*>
      root;  // of every computed value: the value whose memory it uses (a place's, or an input)
  int64_t arena_bytes = 0;
  int64_t total_bytes = 0;  // without sharing
};
MemoryPlan plan_memory(const Graph& graph, const Target* target = nullptr);

}  // namespace trireme
