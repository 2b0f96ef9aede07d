// Control flow: operators that hold graphs.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct BranchAttrs {
  std::shared_ptr<Graph> then_graph,
      else_graph;  // inputs: the captured values, in the order of the node's inputs 1..
  static const Field fields[];
};
inline constexpr Field BranchAttrs::fields[] = {TRI_FIELD(BranchAttrs, then_graph),
                                                TRI_FIELD(BranchAttrs, else_graph)};

struct LoopAttrs {
  std::shared_ptr<Graph>
      body;  // inputs: the variables, then the captured values; outputs: condition, variables
  int64_t variables = 0;
  static const Field fields[];
};
inline constexpr Field LoopAttrs::fields[] = {TRI_FIELD(LoopAttrs, body),
                                              TRI_FIELD(LoopAttrs, variables)};

namespace ops {
extern const Op if_op;  // (condition bool, captured...) -> outputs of the chosen graph; both must
                        // have equal types
extern const Op while_op;  // (condition bool, variables..., captured...) -> final variables; their
                           // types do not change
std::vector<Value*> if_else(Value* condition, const std::vector<Value*>& captured,
                            std::shared_ptr<Graph> then_graph, std::shared_ptr<Graph> else_graph);
std::vector<Value*> while_loop(Value* condition, const std::vector<Value*>& variables,
                               const std::vector<Value*>& captured, std::shared_ptr<Graph> body);
}  // namespace ops
}  // namespace trireme
