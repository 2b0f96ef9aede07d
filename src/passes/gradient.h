// Reverse-mode differentiation: the gradient's nodes, made by the operators' rules.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "graph/op.h"

namespace trireme {

// One application of an operator, as its rule needs it.
struct Applied {
  const Op& op;
  std::span<Value*const> inputs, outputs;
  const Attrs& attrs;
};

// The gradients of one node's inputs, recorded into the graph that is being built: each of its
// input's shape and dtype; null where none is wanted or none flows. `out_grads` has one entry an
// output, null where nothing came. An operator without a rule stops the gradient.
std::vector<Value*> node_gradients(const Applied& node, std::vector<Value*> out_grads,
                                   std::vector<bool> wanted);

// The sum over the dimensions along which `shape` was broadcast to x's; x as it is when they agree.
Value* sum_to(Value* x, const Shape& shape);

// d(sum of outputs * out_grads) / d(wrt), recorded into the graph that is being built, which holds
// all of them. A null out_grad is all ones. Null where nothing of `wrt` reaches an output.
std::vector<Value*> gradients(std::span<Value* const> outputs, std::vector<Value*> out_grads,
                              std::span<Value* const> wrt);

}  // namespace trireme
