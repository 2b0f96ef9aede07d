// amp: half precision where it pays. Anchors compute in it, what follows them follows, the rest
// stays float32.
#include <algorithm>
#include <unordered_map>

#include "ops/conv.h"
#include "ops/pointwise.h"
#include "passes/pass.h"

namespace trireme {
namespace {

constexpr std::string_view kDepthwise[] = {"depthwise_conv2d", "depthwise_conv2d_transpose"};

// Paddle's type of the operator.
std::string_view type_of(const Node& n) {
  const bool transposed = n.op == &ops::conv2d_transpose_op;
  if (n.op != &ops::conv2d_op && !transposed) return n.op->name;
  const int64_t groups = n.get<Conv2dAttrs>().groups;
  const bool depthwise = groups > 1 && groups == n.inputs[0]->type.shape[1];
  return depthwise ? kDepthwise[transposed] : n.op->name;
}

class AmpRewriter {
 public:
  AmpRewriter(const Graph& old, const PassContext& context)
      : old_(old), half_(context.precision), float32_ops_(context.float32_ops) {}

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
  Amp rule_of(const Node& n) const {
    const bool kept = std::ranges::find(float32_ops_, type_of(n)) != float32_ops_.end();
    return kept ? Amp::kFloat : amp_of(*n.op, false);
  }

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
    const Amp rule = rule_of(n);
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
  const std::span<const std::string> float32_ops_;
  std::unordered_map<const Value*, Value*> map_;
  std::unordered_map<Key, Value*, Hash> casts_;
};

}  // namespace

bool is_op_type(std::string_view name) {
  return find_op(name) != nullptr || std::ranges::find(kDepthwise, name) != std::end(kDepthwise);
}

void amp(Graph& graph, const PassContext& context) {
  if (context.precision == DType::kFloat32) return;
  Graph rewritten;
  AmpRewriter(graph, context).run(rewritten);
  graph.nodes = std::move(rewritten.nodes);
  graph.inputs = std::move(rewritten.inputs);
  graph.outputs = std::move(rewritten.outputs);
  clean(graph, context);  // casts of constants fold, casts back and forth go
}

}  // namespace trireme
