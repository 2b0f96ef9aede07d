// Pointwise operators, reductions and indices into ONNX.
#include <cstring>

#include "formats/export_onnx.h"
#include "ops/index.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using E = OnnxEmitter;
using Name = E::Name;

// ---- pointwise

struct Simple {
  const Op* op;
  const char* type;
  const char *alpha = nullptr, *beta = nullptr;
};
constexpr Simple kSimple[] = {
    {&ops::relu_op, "Relu"},
    {&ops::sigmoid_op, "Sigmoid"},
    {&ops::tanh_op, "Tanh"},
    {&ops::exp_op, "Exp"},
    {&ops::log_op, "Log"},
    {&ops::sqrt_op, "Sqrt"},
    {&ops::abs_op, "Abs"},
    {&ops::floor_op, "Floor"},
    {&ops::ceil_op, "Ceil"},
    {&ops::round_op, "Round"},
    {&ops::erf_op, "Erf"},
    {&ops::sin_op, "Sin"},
    {&ops::cos_op, "Cos"},
    {&ops::reciprocal_op, "Reciprocal"},
    {&ops::hardswish_op, "HardSwish"},
    {&ops::logical_not_op, "Not"},
    {&ops::leaky_relu_op, "LeakyRelu", "alpha"},
    {&ops::elu_op, "Elu", "alpha"},
    {&ops::hardsigmoid_op, "HardSigmoid", "alpha", "beta"},
    {&ops::add_op, "Add"},
    {&ops::subtract_op, "Sub"},
    {&ops::multiply_op, "Mul"},
    {&ops::divide_op, "Div"},
    {&ops::maximum_op, "Max"},
    {&ops::minimum_op, "Min"},
    {&ops::elementwise_pow_op, "Pow"},
    {&ops::prelu_op, "PRelu"},
    {&ops::equal_op, "Equal"},
    {&ops::less_than_op, "Less"},
    {&ops::less_equal_op, "LessOrEqual"},
    {&ops::greater_than_op, "Greater"},
    {&ops::greater_equal_op, "GreaterOrEqual"},
    {&ops::logical_and_op, "And"},
    {&ops::logical_or_op, "Or"},
    {&ops::logical_xor_op, "Xor"},
};

// Both inputs in the dtype that they have in common, which ONNX does not find itself.
std::vector<Name> operands(E& e, const Node& node) {
  std::vector<Name> names;
  DType common = node.inputs[0]->type.dtype;
  if (node.inputs.size() > 1) {
    const DType other = node.inputs[1]->type.dtype;
    const bool wider = is_floating(other) == is_floating(common) ? size_of(other) > size_of(common)
                                                                 : is_floating(other);
    if (wider) common = other;
    if (node.out()->type.dtype != DType::kBool) common = node.out()->type.dtype;
  }
  for (const Value* v : node.inputs) names.push_back(e.cast(e.get(v), v->type.dtype, common));
  return names;
}

void simple(E& e, const Node& node) {
  const Simple* row = kSimple;
  while (row->op != node.op) ++row;
  E::Attrs attrs;
  e.same_attrs(node);
  if (row->alpha != nullptr)
    attrs.emplace_back(row->alpha, static_cast<float>(node.get<PointwiseAttrs>().alpha));
  if (row->beta != nullptr)
    attrs.emplace_back(row->beta, static_cast<float>(node.get<PointwiseAttrs>().beta));
  e.set(node.out(), e.op(row->type, operands(e, node), attrs));
}

// What is made of several: arithmetic with numbers of x's dtype.
class Formula {
 public:
  Formula(E& e, const Node& node) : x(e.get(node.inputs[0])), e_(e), node_(node) {
    e.same_attrs(node);
  }
  Name n(double value) const { return e_.number(value, node_.inputs[0]->type.dtype); }
  Name operator()(const char* type, std::vector<Name> in) const { return e_.op(type, in); }
  Name times(const Name& a, double b) const { return b == 1 ? a : e_.op("Mul", {a, n(b)}); }
  Name plus(const Name& a, double b) const { return b == 0 ? a : e_.op("Add", {a, n(b)}); }
  void result(Name name) const { e_.set(node_.out(), std::move(name)); }
  double alpha() const { return node_.get<PointwiseAttrs>().alpha; }
  double beta() const { return node_.get<PointwiseAttrs>().beta; }

  const Name x;

 private:
  E& e_;
  const Node& node_;
};

void affine(E& e, const Node& node) {
  const Formula f(e, node);
  f.result(f.plus(f.times(f.x, f.alpha()), f.beta()));
}

void clip(E& e, const Node& node) {
  const Formula f(e, node);
  const bool six = node.op == &ops::relu6_op;
  f.result(f("Clip", {f.x, f.n(six ? 0 : f.alpha()), f.n(six ? 6 : f.beta())}));
}

void pow(E& e, const Node& node) {
  const Formula f(e, node);
  f.result(f("Pow", {f.x, f.n(f.alpha())}));
}

void square(E& e, const Node& node) {
  const Formula f(e, node);
  f.result(f("Mul", {f.x, f.x}));
}

void rsqrt(E& e, const Node& node) {
  const Formula f(e, node);
  f.result(f("Reciprocal", {f("Sqrt", {f.x})}));
}

void swish(E& e, const Node& node) {
  const Formula f(e, node);
  f.result(f("Mul", {f.x, f("Sigmoid", {f.times(f.x, f.alpha())})}));
}

void mish(E& e, const Node& node) {
  const Formula f(e, node);
  f.result(f("Mul", {f.x, f("Tanh", {f("Softplus", {f.x})})}));
}

void softplus(E& e, const Node& node) {
  const Formula f(e, node);
  f.result(f.times(f("Softplus", {f.times(f.x, f.alpha())}), 1 / f.alpha()));
}

void gelu(E& e, const Node& node) {
  const Formula f(e, node);
  const Name inner = f.plus(f("Erf", {f.times(f.x, 0.70710678118654752)}), 1);
  f.result(f("Mul", {f.times(f.x, 0.5), inner}));
}

void gelu_tanh(E& e, const Node& node) {
  const Formula f(e, node);
  const Name cube = f("Mul", {f("Mul", {f.x, f.x}), f.x});
  const Name sum = f("Add", {f.x, f.times(cube, 0.044715)});
  const Name inner = f.plus(f("Tanh", {f.times(sum, 0.79788456080286536)}), 1);
  f.result(f("Mul", {f.times(f.x, 0.5), inner}));
}

void not_equal(E& e, const Node& node) {
  e.set(node.out(), e.op("Not", {e.op("Equal", operands(e, node))}));
}

// x - floor(x / y) y; ONNX's Mod has the divisor's sign for integers alone.
template <bool kQuotient> void remainder(E& e, const Node& node) {
  const auto in = operands(e, node);
  const bool real = is_floating(node.out()->type.dtype);
  Name quotient, rest;
  if (real) {
    quotient = e.op("Floor", {e.op("Div", in)});
    rest = kQuotient ? Name() : e.op("Sub", {in[0], e.op("Mul", {quotient, in[1]})});
  } else {
    rest = e.op("Mod", in);
    quotient = kQuotient ? e.op("Div", {e.op("Sub", {in[0], rest}), in[1]}) : Name();
  }
  e.set(node.out(), kQuotient ? quotient : rest);
}

void cast(E& e, const Node& node) {
  e.set(node.out(),
        e.cast(e.get(node.inputs[0]), node.inputs[0]->type.dtype, node.out()->type.dtype));
}

void where(E& e, const Node& node) {
  const DType dtype = node.out()->type.dtype;
  std::vector<Name> in{e.get(node.inputs[0])};
  for (size_t i = 1; i < 3; ++i)
    in.push_back(e.cast(e.get(node.inputs[i]), node.inputs[i]->type.dtype, dtype));
  e.set(node.out(), e.op("Where", in));
}

// ---- reductions

struct Reduction {
  const Op* op;
  const char* type;
};
constexpr Reduction kReductions[] = {{&ops::sum_op, "ReduceSum"},   {&ops::mean_op, "ReduceMean"},
                                     {&ops::max_op, "ReduceMax"},   {&ops::min_op, "ReduceMin"},
                                     {&ops::prod_op, "ReduceProd"}, {&ops::any_op, "ReduceMax"},
                                     {&ops::all_op, "ReduceMin"}};

void reduce(E& e, const Node& node) {
  const Reduction* row = kReductions;
  while (row->op != node.op) ++row;
  const auto& a = node.get<ReduceAttrs>();
  e.same_attrs(node);
  const DType from = node.inputs[0]->type.dtype, to = node.out()->type.dtype;
  const DType inner = to == DType::kBool ? DType::kInt32 : to;
  const Name x = e.cast(e.get(node.inputs[0]), from, inner);
  if (a.axis.empty()) return e.set(node.out(), e.cast(x, inner, to));
  const E::Attr keep{"keepdims", int64_t{a.keepdim}};
  const Name y = row->op == &ops::sum_op ? e.op(row->type, {x, e.ints(a.axis)}, {keep})
                                         : e.op(row->type, {x}, {keep, {"axes", a.axis}});
  e.set(node.out(), e.cast(y, inner, to));
}

template <bool kLog> void softmax(E& e, const Node& node) {
  e.same_attrs(node);
  e.set(node.out(), e.op(kLog ? "LogSoftmax" : "Softmax", {e.get(node.inputs[0])},
                         {{"axis", node.get<NormAttrs>().axis}}));
}

// ---- indices

void gather(E& e, const Node& node) {
  e.set(node.out(), e.op("Gather", {e.get(node.inputs[0]), e.get(node.inputs[1])},
                         {{"axis", node.get<AxisAttrs>().axis}}));
}

void gather_nd(E& e, const Node& node) {
  const Name ids = e.cast(e.get(node.inputs[1]), node.inputs[1]->type.dtype, DType::kInt64);
  e.set(node.out(), e.op("GatherND", {e.get(node.inputs[0]), ids}));
}

// The row of the padding index is zero, whatever the weight has there.
void embedding(E& e, const Node& node) {
  const int64_t padding = node.get<AxisAttrs>().axis;
  const Value* weight = node.inputs[0];
  Name w = e.get(weight);
  if (padding >= 0) {
    const Array* array = constant_of(weight);
    if (array == nullptr) refuse_export(node, "padding_idx with a weight that is computed");
    Array copy(array->dtype(), array->shape());
    std::memcpy(copy.data(), array->data(), array->bytes());
    const size_t row = copy.bytes() / static_cast<size_t>(copy.shape()[0]);
    std::memset(static_cast<char*>(copy.data()) + static_cast<size_t>(padding) * row, 0, row);
    w = e.initializer(copy, weight->name + ".padded");
  }
  e.set(node.out(), e.op("Gather", {w, e.get(node.inputs[1])}, {{"axis", int64_t{0}}}));
}

void one_hot(E& e, const Node& node) {
  e.same_attrs(node);
  const std::vector<float> values{0, 1};
  const Name ids = e.cast(e.get(node.inputs[0]), node.inputs[0]->type.dtype, DType::kInt64);
  e.set(node.out(),
        e.op("OneHot",
             {ids, e.ints({node.get<OneHotAttrs>().depth}),
              e.initializer(Array::from<float>(Shape{2}, values, DType::kFloat32), "on_off")},
             {{"axis", int64_t{-1}}}));
}

void topk(E& e, const Node& node) {
  const auto& a = node.get<TopkAttrs>();
  e.same_attrs(node);
  const auto names =
      e.ops("TopK", {e.get(node.inputs[0]), e.ints({a.k})}, 2,
            {{"axis", a.axis}, {"largest", int64_t{a.largest}}, {"sorted", int64_t{a.sorted}}});
  e.set(node.out(0), names[0]);
  e.set(node.out(1), names[1]);
}

void argmax(E& e, const Node& node) {
  const auto& a = node.get<ArgAttrs>();
  e.same_attrs(node);
  Name x = e.get(node.inputs[0]);
  if (a.flatten) x = e.op("Reshape", {x, e.ints({-1})});
  const bool keep = a.keepdim && !a.flatten;
  Name y = e.op(a.min ? "ArgMin" : "ArgMax", {x},
                {{"axis", a.flatten ? int64_t{0} : a.axis}, {"keepdims", int64_t{keep}}});
  if (a.flatten && a.keepdim)
    y = e.op(
        "Reshape",
        {y, e.ints(std::vector<int64_t>(static_cast<size_t>(node.out()->type.shape.rank()), 1))});
  e.set(node.out(), e.cast(y, DType::kInt64, a.dtype));
}

void cumsum(E& e, const Node& node) {
  const auto& a = node.get<CumsumAttrs>();
  e.same_attrs(node);
  Name x = e.cast(e.get(node.inputs[0]), node.inputs[0]->type.dtype, node.out()->type.dtype);
  if (a.flatten) x = e.op("Reshape", {x, e.ints({-1})});
  e.set(node.out(),
        e.op("CumSum", {x, e.number(static_cast<double>(a.flatten ? 0 : a.axis), DType::kInt64)},
             {{"exclusive", int64_t{a.exclusive}}, {"reverse", int64_t{a.reverse}}}));
}

constexpr OnnxExport kOthers[] = {
    {&ops::affine_op, affine},
    {&ops::clip_op, clip},
    {&ops::relu6_op, clip},
    {&ops::pow_op, pow},
    {&ops::square_op, square},
    {&ops::rsqrt_op, rsqrt},
    {&ops::swish_op, swish},
    {&ops::mish_op, mish},
    {&ops::softplus_op, softplus},
    {&ops::gelu_op, gelu},
    {&ops::gelu_tanh_op, gelu_tanh},
    {&ops::not_equal_op, not_equal},
    {&ops::remainder_op, remainder<false>},
    {&ops::floor_divide_op, remainder<true>},
    {&ops::cast_op, cast},
    {&ops::where_op, where},
    {&ops::softmax_op, softmax<false>},
    {&ops::log_softmax_op, softmax<true>},
    {&ops::gather_op, gather},
    {&ops::gather_nd_op, gather_nd},
    {&ops::embedding_op, embedding},
    {&ops::one_hot_op, one_hot},
    {&ops::topk_op, topk},
    {&ops::argmax_op, argmax},
    {&ops::cumsum_op, cumsum},
};

}  // namespace

std::span<const OnnxExport> onnx_math_exports() {
  static const auto table = [] {
    std::vector<OnnxExport> all(std::begin(kOthers), std::end(kOthers));
    for (const Simple& row : kSimple) all.push_back({row.op, simple});
    for (const Reduction& row : kReductions) all.push_back({row.op, reduce});
    return all;
  }();
  return table;
}

}  // namespace trireme
