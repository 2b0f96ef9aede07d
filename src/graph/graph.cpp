// Graph: adding nodes, folding small constants, rewiring, ordering, comparing.
#include "graph/graph.h"

#include <algorithm>
#include <unordered_set>

#include "graph/kernel.h"

namespace trireme {

namespace {

bool all_constant(const std::vector<Value*>& inputs, bool named) {
  bool any = false;
  for (const Value* v : inputs) {
    if (v == nullptr) continue;
    if (constant_of(v) == nullptr) return false;
    if (!named && !v->name.empty() && is_floating(v->type.dtype)) return false;
    any = true;
  }
  return any;
}

}  // namespace

namespace {

Node& append(std::vector<std::unique_ptr<Node>>& nodes, std::unique_ptr<Node> node) {
  node->number = nodes.size();
  nodes.push_back(std::move(node));
  return *nodes.back();
}

void number_nodes(std::vector<std::unique_ptr<Node>>& nodes) {
  for (size_t i = 0; i < nodes.size(); ++i) nodes[i]->number = i;
}

// Where nodes stand: as they are numbered, or, where a pass has moved some, by a map.
class Places {
 public:
  explicit Places(const Graph& graph) {
    const auto& nodes = graph.nodes;
    size_t i = 0;
    while (i < nodes.size() && nodes[i]->number == i) ++i;
    if (i == nodes.size()) return;
    for (i = 0; i < nodes.size(); ++i) places_[nodes[i].get()] = i;
  }
  size_t operator()(const Node* n) const { return places_.empty() ? n->number : places_.at(n); }

 private:
  std::unordered_map<const Node*, size_t> places_;
};

}  // namespace

const Op kData{.name = "data", .inputs = 0};
const Op kConstant{.name = "constant", .inputs = 0, .attrs = &attr_info<ConstantAttrs>};

const Array* constant_of(const Value* value) {
  if (value == nullptr || value->node->op != &kConstant) return nullptr;
  return &value->node->get<ConstantAttrs>().value;
}

Value* Graph::add_input(const Type& type, std::string name) {
  auto node = std::make_unique<Node>();
  node->op = &kData;
  node->outputs.push_back(std::make_unique<Value>(Value{node.get(), 0, type, std::move(name), {}}));
  inputs.push_back(node->out());
  append(nodes, std::move(node));
  return inputs.back();
}

Value* Graph::add_constant(const Array& tensor, std::string name) {
  auto node = std::make_unique<Node>();
  node->op = &kConstant;
  node->attrs = ConstantAttrs{tensor};
  const Type type{tensor.dtype(), tensor.shape(), Layout::kPlain};
  node->outputs.push_back(std::make_unique<Value>(Value{node.get(), 0, type, std::move(name), {}}));
  return append(nodes, std::move(node)).out();
}

std::vector<Value*> Graph::add(const Op& op, std::vector<Value*> in, Attrs attrs) {
  auto node = std::make_unique<Node>();
  node->op = &op;
  node->inputs = std::move(in);
  node->attrs = std::move(attrs);
  node->where = current_location();
  std::vector<Type> types;
  types.reserve(4);
  op.infer(Infer{op, node->inputs, node->attrs, types});
  node->outputs.reserve(types.size());
  for (size_t i = 0; i < types.size(); ++i)
    node->outputs.push_back(
        std::make_unique<Value>(Value{node.get(), static_cast<int>(i), types[i], {}, {}}));

  std::vector<Value*> result;
  result.reserve(types.size());
  if (fold_below > 0 && op.pure && all_constant(node->inputs, fold_named)) {
    int64_t elements = 0;
    for (const Type& t : types) elements += t.shape.numel();
    if (elements <= fold_below || op.view) {
      for (const Array& t : evaluate(*node)) result.push_back(add_constant(t, {}));
      return result;
    }
  }
  for (const auto& v : node->outputs) result.push_back(v.get());
  append(nodes, std::move(node));
  return result;
}

void Graph::replace_uses(Value* from, Value* to) {
  for (const auto& n : nodes) std::replace(n->inputs.begin(), n->inputs.end(), from, to);
  std::replace(outputs.begin(), outputs.end(), from, to);
}

std::unordered_map<const Value*, int> Graph::count_uses() const {
  std::unordered_map<const Value*, int> uses;
  for (const auto& n : nodes)
    for (const Value* v : n->inputs)
      if (v) ++uses[v];
  for (const Value* v : outputs) ++uses[v];
  return uses;
}

void Graph::sort() {
  std::unordered_map<const Node*, size_t> place;
  for (size_t i = 0; i < nodes.size(); ++i) place[nodes[i].get()] = i;
  std::vector<uint8_t> done(nodes.size(), 0);
  std::vector<std::unique_ptr<Node>> ordered;
  ordered.reserve(nodes.size());
  // Depth first with an explicit stack: graphs are deep.
  std::vector<std::pair<size_t, size_t>> stack;
  for (size_t root = 0; root < nodes.size(); ++root) {
    if (done[root]) continue;
    stack.emplace_back(root, 0);
    while (!stack.empty()) {
      auto& [i, next] = stack.back();
      if (done[i]) {
        stack.pop_back();
        continue;
      }
      const std::vector<Value*>& in = nodes[i]->inputs;
      while (next < in.size() && (in[next] == nullptr || done[place.at(in[next]->node)])) ++next;
      if (next < in.size()) {
        const size_t child = place.at(in[next]->node);
        stack.emplace_back(child, 0);
        continue;
      }
      done[i] = 1;
      ordered.push_back(nullptr);
      place[nodes[i].get()] = i;
      std::swap(ordered.back(), nodes[i]);
      // The slot is empty now, but `place` still maps the node (by its address) to a done mark.
      stack.pop_back();
    }
  }
  nodes = std::move(ordered);
  number_nodes(nodes);
}

void Graph::drop_unused() {
  std::unordered_set<const Node*> live;
  std::vector<const Node*> stack;
  const auto mark = [&](const Value* v) {
    if (v != nullptr && live.insert(v->node).second) stack.push_back(v->node);
  };
  for (const Value* v : outputs) mark(v);
  for (const Value* v : inputs) mark(v);
  while (!stack.empty()) {
    const Node* n = stack.back();
    stack.pop_back();
    for (const Value* v : n->inputs) mark(v);
  }
  std::erase_if(nodes, [&](const std::unique_ptr<Node>& n) { return !live.contains(n.get()); });
  number_nodes(nodes);
}

std::unique_ptr<Graph> copy_graph(const Graph& graph,
                                  std::unordered_map<const Value*, Value*>* map) {
  std::unordered_map<const Value*, Value*> local;
  auto& to = map ? *map : local;
  auto copy = std::make_unique<Graph>();
  copy->fold_below = graph.fold_below;
  copy->donated = graph.donated;
  copy->fold_named = graph.fold_named;
  for (const auto& n : graph.nodes) {
    auto node = std::make_unique<Node>();
    node->op = n->op;
    node->attrs = n->attrs;
    node->where = n->where;
    for (const Value* v : n->inputs) node->inputs.push_back(v ? to.at(v) : nullptr);
    for (const auto& v : n->outputs) {
      node->outputs.push_back(
          std::make_unique<Value>(Value{node.get(), v->index, v->type, v->name, {}}));
      to[v.get()] = node->outputs.back().get();
    }
    append(copy->nodes, std::move(node));
  }
  for (const Value* v : graph.inputs) copy->inputs.push_back(to.at(v));
  for (const Value* v : graph.outputs) copy->outputs.push_back(to.at(v));
  return copy;
}

bool same_graph(const Graph& a, const Graph& b) {
  if (a.nodes.size() != b.nodes.size() || a.inputs.size() != b.inputs.size() ||
      a.outputs.size() != b.outputs.size() || a.donated != b.donated)
    return false;
  const Places place_a(a), place_b(b);
  const auto agree = [&](const Value* x, const Value* y) {
    if (x == nullptr || y == nullptr) return x == y;
    return x->index == y->index && place_a(x->node) == place_b(y->node);
  };
  for (size_t i = 0; i < a.nodes.size(); ++i) {
    const Node &x = *a.nodes[i], &y = *b.nodes[i];
    if (x.op != y.op || x.inputs.size() != y.inputs.size() || x.outputs.size() != y.outputs.size())
      return false;
    if (!std::equal(x.inputs.begin(), x.inputs.end(), y.inputs.begin(), agree) ||
        !(x.attrs == y.attrs))
      return false;
    for (size_t k = 0; k < x.outputs.size(); ++k)
      if (!(x.out(k)->type == y.out(k)->type)) return false;
  }
  return std::equal(a.inputs.begin(), a.inputs.end(), b.inputs.begin(), agree) &&
         std::equal(a.outputs.begin(), a.outputs.end(), b.outputs.begin(), agree);
}

size_t hash_of(const Graph& graph) {
  size_t h = graph.nodes.size();
  const auto mix = [&h](size_t v) { h = (h ^ v) * 0x9e3779b97f4a7c15U + (h >> 29); };
  const Places place(graph);
  const auto number = [&](const Value* v) {
    return (place(v->node) + 1) * 64 + static_cast<size_t>(v->index);
  };
  for (const auto& n : graph.nodes) {
    mix(std::hash<const Op*>()(n->op));
    mix(n->attrs.hash());
    for (const Value* v : n->inputs) mix(v ? number(v) : size_t{0});
    for (const auto& v : n->outputs) {
      mix(static_cast<size_t>(v->type.dtype));
      for (const int64_t d : v->type.shape) mix(static_cast<size_t>(d));
    }
  }
  for (const Value* v : graph.outputs) mix(number(v));
  for (const bool d : graph.donated) mix(d ? 1 : 2);
  return h;
}

}  // namespace trireme
