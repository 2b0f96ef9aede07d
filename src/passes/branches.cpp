// branches: graphs inside operators go through the passes, too. A target that cannot branch gets
// both sides of an `if`, and a choice of their results.
#include <algorithm>
#include <unordered_map>

#include "ops/control.h"
#include "ops/pointwise.h"
#include "passes/pass.h"

namespace trireme {
namespace {

bool is_control(const Node& n) { return n.op == &ops::if_op || n.op == &ops::while_op; }

// Both sides may run only where each comes to its end whatever the condition is.
bool has_loop(const Graph& graph) {
  for (const auto& n : graph.nodes) {
    if (n->op == &ops::while_op) return true;
    if (n->op != &ops::if_op) continue;
    const auto& a = n->get<BranchAttrs>();
    if (has_loop(*a.then_graph) || has_loop(*a.else_graph)) return true;
  }
  return false;
}

bool opens(const Node& n) {
  if (n.op != &ops::if_op) return false;
  const auto& a = n.get<BranchAttrs>();
  return !has_loop(*a.then_graph) && !has_loop(*a.else_graph);
}

class Opener {
 public:
  explicit Opener(Graph& graph) : graph_(graph) {}

  std::vector<Value*> copy(const Graph& old, const std::vector<Value*>& inputs) {
    std::unordered_map<const Value*, Value*> map;
    for (size_t i = 0; i < inputs.size(); ++i) map[old.inputs[i]] = inputs[i];
    for (const auto& n : old.nodes) {
      if (n->op == &kData) continue;
      std::vector<Value*> in;
      for (const Value* v : n->inputs) in.push_back(v ? map.at(v) : nullptr);
      set_location(n->where);
      const std::vector<Value*> out = result_of(*n, std::move(in));
      for (size_t i = 0; i < out.size(); ++i) map[n->out(i)] = out[i];
    }
    std::vector<Value*> outputs;
    for (const Value* v : old.outputs) outputs.push_back(map.at(v));
    return outputs;
  }

 private:
  std::vector<Value*> result_of(const Node& n, std::vector<Value*> in) {
    if (n.op == &kConstant) return {graph_.add_constant(*constant_of(n.out()), n.out()->name)};
    if (!opens(n)) return graph_.add(*n.op, std::move(in), n.attrs);
    const auto& a = n.get<BranchAttrs>();
    Value* condition = in[0];
    in.erase(in.begin());
    std::vector<Value*> yes = copy(*a.then_graph, in);
    const std::vector<Value*> no = copy(*a.else_graph, in);
    for (size_t i = 0; i < yes.size(); ++i)
      if (yes[i] != no[i]) yes[i] = ops::where(condition, yes[i], no[i]);
    return yes;
  }

  Graph& graph_;
};

void open_branches(Graph& graph) {
  Graph opened;
  {
    const BuilderScope scope(opened);
    opened.fold_below = 0;
    std::vector<Value*> inputs;
    for (const Value* v : graph.inputs) inputs.push_back(opened.add_input(v->type, v->name));
    opened.outputs = Opener(opened).copy(graph, inputs);
    set_location({});
  }
  graph.nodes = std::move(opened.nodes);
  graph.inputs = std::move(opened.inputs);
  graph.outputs = std::move(opened.outputs);
}

std::shared_ptr<Graph> passed(const Graph& graph, const PassContext& context) {
  std::shared_ptr<Graph> copy = copy_graph(graph);
  run_passes(*copy, context);
  return copy;
}

}  // namespace

void branches(Graph& graph, const PassContext& context) {
  const auto any = [&](auto&& is) {
    return std::ranges::any_of(graph.nodes, [&](const auto& n) { return is(*n); });
  };
  if (!any(is_control)) return;
  if (!context.target.branches() && any(opens)) open_branches(graph);
  for (const auto& n : graph.nodes) {
    if (n->op == &ops::if_op) {
      const auto& a = n->get<BranchAttrs>();
      n->attrs = BranchAttrs{passed(*a.then_graph, context), passed(*a.else_graph, context)};
    } else if (n->op == &ops::while_op) {
      const auto& a = n->get<LoopAttrs>();
      n->attrs = LoopAttrs{passed(*a.body, context), a.variables};
    }
  }
}

}  // namespace trireme
