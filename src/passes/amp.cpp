// amp: half precision where it pays. Anchors compute in it, what follows them follows, the rest
// stays float32.
#include <unordered_map>

#include "ops/pointwise.h"
#include "passes/pass.h"

namespace trireme {
namespace {

class AmpRewriter {
 public:
  AmpRewriter(const Graph& old, DType half) : old_(old), half_(half) {}

  void run(Graph& graph) {
    const BuilderScope scope(graph);
    graph.fold_below = 0;
    for (const Value* v : old_.inputs) map_[v] = graph.add_input(v->type, v->name);
    for (const auto& n : old_.nodes) visit(graph, *n);
    for (const Value* v : old_.outputs) graph.outputs.push_back(as(map_.at(v), v->type.dtype));
    set_location({});
  }

 private:
  bool is_wide(const Value* v) const { return v->type.dtype == DType::kFloat32; }
  bool is_half(const Value* v) const { return v->type.dtype == half_; }

  Value* as(Value* v, DType dtype) {
    if (v->type.dtype == dtype || !is_floating(v->type.dtype)) return v;
    Value*& cast = casts_[{v, dtype}];
    if (cast == nullptr) cast = ops::cast(v, dtype);
    return cast;
  }

  void visit(Graph& graph, const Node& n) {
    if (n.op == &kData) return;
    if (n.op == &kConstant) {
      map_[n.out()] = graph.add_constant(*constant_of(n.out()), n.out()->name);
      return;
    }
    std::vector<Value*> in;
    bool follows = false;
    for (const Value* v : n.inputs) {
      in.push_back(v ? map_.at(v) : nullptr);
      follows = follows || (v && !constant_of(v) && is_half(in.back()));
    }
    bool any_output_floating = false;
    for (const auto& v : n.outputs)
      any_output_floating = any_output_floating || is_floating(v->type.dtype);
    const Amp rule = amp_of(*n.op, false);
    const bool half =
        rule == Amp::kHalf || (rule == Amp::kFollow && follows && any_output_floating);
    cast_inputs(n, in, half);
    set_location(n.where);
    const std::vector<Value*> results = graph.add(*n.op, std::move(in), n.attrs);
    for (size_t i = 0; i < results.size(); ++i) map_[n.out(i)] = results[i];
  }

  // Anchors take their data in half precision; constant weights stay float32, kernels pack them,
  // and so do biases.
  void cast_inputs(const Node& n, std::vector<Value*>& in, bool half) {
    for (size_t i = 0; i < in.size(); ++i) {
      if (in[i] == nullptr || !(is_wide(in[i]) || is_half(in[i]))) continue;
      if (i < 32 && (n.op->amp_inputs >> i & 1U) == 0) continue;
      if (!half) {
        in[i] = as(in[i], DType::kFloat32);
        continue;
      }
      const bool packed =
          n.op->fuse == Fuse::kAnchor && (i == 2 || (i == 1 && constant_of(in[i]) != nullptr));
      if (!packed) in[i] = as(in[i], half_);
    }
  }

  struct Key {
    Value* value;
    DType dtype;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& k) const {
      return std::hash<Value*>()(k.value) * 31 + static_cast<size_t>(k.dtype);
    }
  };

  const Graph& old_;
  const DType half_;
  std::unordered_map<const Value*, Value*> map_;
  std::unordered_map<Key, Value*, Hash> casts_;
};

}  // namespace

void amp(Graph& graph, const PassContext& context) {
  if (context.precision == DType::kFloat32) return;
  Graph rewritten;
  AmpRewriter(graph, context.precision).run(rewritten);
  graph.nodes = std::move(rewritten.nodes);
  graph.inputs = std::move(rewritten.inputs);
  graph.outputs = std::move(rewritten.outputs);
  clean(graph, context);  // casts of constants fold, casts back and forth go
}

}  // namespace trireme
