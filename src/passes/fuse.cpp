// Making fused nodes.
#include "passes/fuse.h"

#include <algorithm>

#include "ops/fused.h"

namespace trireme {

Readers find_readers(const Graph& graph) {
  Readers readers;
  for (const auto& n : graph.nodes)
    for (const Value* v : n->inputs)
      if (v && (readers[v].empty() || readers[v].back() != n.get())) readers[v].push_back(n.get());
  return readers;
}

void fuse_nodes(const std::vector<Node*>& nodes) {
  auto body = std::make_shared<Graph>();
  body->fold_below = 0;
  std::unordered_map<const Value*, Value*> inside;
  std::vector<Value*> outer;
  const auto bring_in = [&](Value* v) {
    if (v == nullptr || inside.contains(v)) return;
    if (const Array* t = constant_of(v)) {
      inside[v] = body->add_constant(*t, v->name);
      body->inputs.push_back(inside[v]);
    } else {
      inside[v] = body->add_input(v->type, v->name);
    }
    outer.push_back(v);
  };
  for (const Node* n : nodes) {
    auto copy = std::make_unique<Node>();
    copy->op = n->op;
    copy->attrs = n->attrs;
    copy->where = n->where;
    for (Value* v : n->inputs) {
      bring_in(v);
      copy->inputs.push_back(v ? inside.at(v) : nullptr);
    }
    for (const auto& v : n->outputs) {
      copy->outputs.push_back(
          std::make_unique<Value>(Value{copy.get(), v->index, v->type, v->name, {}}));
      inside[v.get()] = copy->outputs.back().get();
    }
    body->nodes.push_back(std::move(copy));
  }
  Node* last = nodes.back();
  body->outputs.push_back(inside.at(last->out()));
  // The last node itself becomes the fused one: its place in the order and its value's address
  // stay.
  last->op = &ops::fused_op;
  last->inputs = std::move(outer);
  last->attrs = FusedAttrs{std::move(body)};
}

Node* Rewriter::only_reader(const Value* v) const {
  const auto it = readers_.find(v);
  return it != readers_.end() && it->second.size() == 1 && uses_.at(v) == 1 ? it->second[0]
                                                                            : nullptr;
}
bool Rewriter::only_read(const Value* v) const {
  const auto it = readers_.find(v);
  return it != readers_.end() && static_cast<size_t>(uses_.at(v)) == it->second.size();
}

std::vector<Value*> Rewriter::add(const Node& old, const Op& op, std::vector<Value*> inputs,
                                  Attrs attrs) {
  set_location(old.where);
  return graph_.add(op, std::move(inputs), std::move(attrs));
}

void Rewriter::finish() {
  set_location({});
  graph_.sort();
  graph_.drop_unused();
}

}  // namespace trireme
