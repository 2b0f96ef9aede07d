// Walking back from the outputs: each node's rule once, the sums of what flows together.
#include "passes/gradient.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace trireme {
namespace {

// The nodes between `wrt` and `outputs`, each before the nodes that it reads.
struct Between {
  std::vector<const Node*> order;
  std::unordered_map<const Node*, bool> needs;  // whether something of `wrt` is below
};

Between nodes_back_from(std::span<Value* const> outputs,
                        const std::unordered_set<const Value*>& wrt) {
  Between between;
  auto& [order, needs] = between;  // inputs first at the beginning
  std::vector<std::pair<const Node*, size_t>> stack;
  for (const Value* v : outputs)
    if (!needs.contains(v->node)) {
      needs[v->node] = false;
      stack.emplace_back(v->node, 0);
      while (!stack.empty()) {
        const Node* n = stack.back().first;
        const size_t i = stack.back().second++;
        if (i < n->inputs.size()) {
          const Value* in = n->inputs[i];
          if (in == nullptr) continue;
          if (wrt.contains(in)) needs[n] = true;
          const auto [it, is_new] = needs.try_emplace(in->node, false);
          if (is_new) stack.emplace_back(in->node, 0);
          continue;
        }
        stack.pop_back();
        for (const Value* in : n->inputs)
          if (in && needs.at(in->node)) needs[n] = true;
        if (needs.at(n)) order.push_back(n);
      }
    }
  std::reverse(order.begin(), order.end());
  return between;
}

}  // namespace

Value* sum_to(Value* x, const Shape& shape) {
  if (x->type.shape == shape) return x;
  const Shape& from = x->type.shape;
  const int added = from.rank() - shape.rank();
  std::vector<int64_t> axes;
  for (int d = 0; d < from.rank(); ++d)
    if (d < added || (shape[d - added] == 1 && from[d] != 1)) axes.push_back(d);
  if (!axes.empty()) x = ops::reduce(ops::sum_op, x, axes, true);
  return ops::reshape(x, {shape.begin(), shape.end()});
}

std::vector<Value*> node_gradients(const Applied& node, std::vector<Value*> out_grads,
                                   std::vector<bool> wanted) {
  std::vector<Value*> none(node.inputs.size(), nullptr);
  if (node.op.grad == nullptr) return none;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i] == nullptr || !is_floating(node.inputs[i]->type.dtype)) wanted[i] = false;
  Grad g{node.op, node.inputs, node.outputs, node.attrs, out_grads, wanted, std::move(none)};
  node.op.grad(g);
  for (size_t i = 0; i < g.in_grads.size(); ++i) {
    Value*& v = g.in_grads[i];
    if (v == nullptr) continue;
    if (!wanted[i]) {
      v = nullptr;
      continue;
    }
    v = ops::cast(sum_to(v, node.inputs[i]->type.shape), node.inputs[i]->type.dtype);
  }
  return std::move(g.in_grads);
}

std::vector<Value*> gradients(std::span<Value* const> outputs, std::vector<Value*> out_grads,
                              std::span<Value* const> wrt) {
  const std::unordered_set<const Value*> targets(wrt.begin(), wrt.end());
  std::unordered_map<const Value*, Value*> gradient;
  const auto add_to = [&](const Value* v, Value* g) {
    Value*& sum = gradient[v];
    sum = sum ? ops::add(sum, g) : g;
  };
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Type& type = outputs[i]->type;
    Value* g = i < out_grads.size() ? out_grads[i] : nullptr;
    add_to(outputs[i], g ? g : ops::full({type.shape.begin(), type.shape.end()}, 1, type.dtype));
  }
  // The rules add nodes to the same graph: the nodes to visit are listed before.
  const auto [order, needs] = nodes_back_from(outputs, targets);
  for (const Node* n : order) {
    std::vector<Value*> outs, grads;
    bool any = false;
    for (const auto& v : n->outputs) {
      const auto it = gradient.find(v.get());
      outs.push_back(v.get());
      grads.push_back(it == gradient.end() ? nullptr : it->second);
      any = any || grads.back() != nullptr;
    }
    if (!any) continue;
    std::vector<bool> wanted;
    for (const Value* in : n->inputs)
      wanted.push_back(in && (targets.contains(in) || needs.at(in->node)));
    const std::vector<Value*> back =
        node_gradients({*n->op, n->inputs, outs, n->attrs}, std::move(grads), std::move(wanted));
    for (size_t i = 0; i < back.size(); ++i)
      if (back[i]) add_to(n->inputs[i], back[i]);
  }
  std::vector<Value*> result;
  for (const Value* v : wrt) {
    const auto it = gradient.find(v);
    result.push_back(it == gradient.end() ? nullptr : it->second);
  }
  return result;
}

}  // namespace trireme
