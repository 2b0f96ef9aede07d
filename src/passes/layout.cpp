// layout: channels-last where an anchor wants it and as far as what follows can live with it;
// reorders between.
#include <algorithm>
#include <unordered_map>

#include "ops/shape.h"
#include "passes/pass.h"

namespace trireme {
namespace {

class LayoutRewriter {
 public:
  LayoutRewriter(const Graph& old, const Target& target) : old_(old), target_(target) {}

  void run(Graph& graph) {
    const BuilderScope scope(graph);
    graph.fold_below = 0;
    for (const Value* v : old_.inputs) map_[v] = graph.add_input(v->type, v->name);
    for (const auto& n : old_.nodes) visit(graph, *n);
    for (const Value* v : old_.outputs) graph.outputs.push_back(in(map_.at(v), v->type.layout));
    set_location({});
  }

 private:
  // The value in the wanted layout; one reorder serves all who want it.
  Value* in(Value* v, Layout wanted) {
    if (v->type.layout == wanted || layouts_agree(v->type.shape)) return v;
    Value*& other = reordered_[v];
    if (other == nullptr) {
      other = ops::reorder(v, wanted);
      reordered_[other] = v;
    }
    return other;
  }

  Layout wanted(const Node& n, const std::vector<Value*>& inputs) const {
    if (n.op->layouts == Layouts::kPrefersChannelsLast) {
      const bool picture = n.out()->type.shape.rank() == 4;
      return picture ? Layout::kChannelsLast : Layout::kPlain;
    }
    if (n.op->layouts == Layouts::kPlainOnly) return Layout::kPlain;
    if (n.op->layouts == Layouts::kReadsChannelsLast) return Layout::kChannelsLast;
    for (const Value* v : inputs)
      if (v && v->type.layout == Layout::kChannelsLast) return Layout::kChannelsLast;
    return Layout::kPlain;
  }

  void visit(Graph& graph, const Node& n) {
    if (n.op == &kData) return;
    if (n.op == &kConstant) {
      map_[n.out()] = graph.add_constant(*constant_of(n.out()), n.out()->name);
      return;
    }
    std::vector<Value*> inputs;
    for (const Value* v : n.inputs) inputs.push_back(v ? map_.at(v) : nullptr);
    const Layout layout = wanted(n, inputs);
    // Of the data; an operator's statistics and parameters have fewer dimensions.
    const bool reads = n.op->layouts == Layouts::kReadsChannelsLast;
    int rank = 0;
    for (const auto& v : n.outputs) rank = std::max(rank, v->type.shape.rank());
    if (reads) rank = 4;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] == nullptr) continue;
      const bool anchor = n.op->fuse == Fuse::kAnchor;
      if (n.op->layouts == Layouts::kPrefersChannelsLast) {
        if (i == 0) inputs[i] = in(inputs[i], anchor ? target_.input_layout(n) : layout);
        else inputs[i] = in(inputs[i], anchor ? Layout::kPlain : layout);
      } else if (n.op->layouts == Layouts::kPlainOnly || inputs[i]->type.shape.rank() == rank) {
        inputs[i] = in(inputs[i], reads && i == 0 ? target_.input_layout(n) : layout);
      }
    }
    set_location(n.where);
    const std::vector<Value*> results = graph.add(*n.op, std::move(inputs), n.attrs);
    for (size_t i = 0; i < results.size(); ++i) {
      Type& type = results[i]->type;
      type.layout =
          reads || layouts_agree(type.shape) || type.shape.rank() != rank ? Layout::kPlain : layout;
      results[i]->name = n.out(i)->name;
      map_[n.out(i)] = results[i];
    }
  }

  const Graph& old_;
  const Target& target_;
  std::unordered_map<const Value*, Value*> map_, reordered_;
};

}  // namespace

void layout(Graph& graph, const PassContext& context) {
  Graph rewritten;
  LayoutRewriter(graph, context.target).run(rewritten);
  graph.nodes = std::move(rewritten.nodes);
  graph.inputs = std::move(rewritten.inputs);
  graph.outputs = std::move(rewritten.outputs);
}

}  // namespace trireme
