// Fused: a node that contains a graph. The fusion passes make them; the lowerings decide how they
// run.
#pragma once

#include "graph/graph.h"
#include "graph/kernel.h"

namespace trireme {

struct FusedAttrs {
  // Its inputs stand for the node's inputs, its outputs for the node's outputs. An input that is a
  // constant outside is the same constant inside, so that lowerings can look at it.
  std::shared_ptr<Graph> body;
  static const Field fields[];
};
inline constexpr Field FusedAttrs::fields[] = {TRI_FIELD(FusedAttrs, body)};

namespace ops {
extern const Op fused_op;
}

// A body's nodes in running order, without its inputs and constants.
std::vector<const Node*> operators_of(const Graph& body);

// The CPU's lowering of a graph of pointwise operators alone: one pass over memory, tile by tile.
// `inputs` and `outputs` name the values that cross the border, in the kernel's order; every output
// has the shape and layout of the first, inputs broadcast to it.
Kernel pointwise_cluster(const std::vector<const Node*>& nodes,
                         const std::vector<const Value*>& inputs,
                         const std::vector<const Value*>& outputs);

// Whether an operator is one of pointwise.def, cast, where, logical_not.
bool is_pointwise(const Op* op);

}  // namespace trireme
