// Pointwise operators, reductions and indices into Paddle's formats.
#include "formats/export_paddle.h"
#include "ops/index.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using E = PaddleEmitter;

// ---- pointwise, one input

struct Unary {
  const Op* op;
  std::string_view names, alpha = {}, beta = {};
  bool wide = false;  // alpha and beta are float64 in PIR
};

constexpr Unary kUnary[] = {
    {&ops::relu_op, "relu"},
    {&ops::relu6_op, "relu6"},
    {&ops::leaky_relu_op, "leaky_relu", "alpha", "", true},
    {&ops::elu_op, "elu", "alpha"},
    {&ops::sigmoid_op, "sigmoid"},
    {&ops::hardsigmoid_op, "hard_sigmoid|hardsigmoid", "slope", "offset"},
    {&ops::hardswish_op, "hard_swish|hardswish"},
    {&ops::tanh_op, "tanh"},
    {&ops::softplus_op, "softplus", "beta", "threshold", true},
    {&ops::exp_op, "exp"},
    {&ops::log_op, "log"},
    {&ops::sqrt_op, "sqrt"},
    {&ops::rsqrt_op, "rsqrt"},
    {&ops::square_op, "square"},
    {&ops::abs_op, "abs"},
    {&ops::floor_op, "floor"},
    {&ops::ceil_op, "ceil"},
    {&ops::round_op, "round"},
    {&ops::erf_op, "erf"},
    {&ops::sin_op, "sin"},
    {&ops::cos_op, "cos"},
    {&ops::reciprocal_op, "reciprocal"},
};

void unary(E& e, const Node& node) {
  const Unary* row = kUnary;
  while (row->op != node.op) ++row;
  const auto& a = node.get<PointwiseAttrs>();
  std::vector<OutAttr> attrs;
  const auto put = [&](std::string_view name, double value) {
    if (name.empty()) return;
    OutAttr attr{std::string(name), static_cast<float>(value)};
    if (row->wide) attr.value = value;
    attrs.push_back(attr);
  };
  put(row->alpha, a.alpha);
  put(row->beta, a.beta);
  e.same_attrs(node);
  e.set(node.out(), e.unary(row->names, e.get(node.inputs[0]), attrs));
}

OutId scaled(E& e, OutId x, double factor, double bias) {
  return e.unary("scale", x,
                 {{"scale", static_cast<float>(factor), "ScaleTensor", DType::kFloat32},
                  {"bias", static_cast<float>(bias)},
                  {"bias_after_scale", true}});
}

void affine(E& e, const Node& node) {
  const auto& a = node.get<PointwiseAttrs>();
  e.same_attrs(node);
  e.set(node.out(), scaled(e, e.get(node.inputs[0]), a.alpha, a.beta));
}

void clip(E& e, const Node& node) {
  const auto& a = node.get<PointwiseAttrs>();
  e.same_attrs(node);
  e.set(node.out(), e.unary("clip", e.get(node.inputs[0]),
                            {{"min", static_cast<float>(a.alpha), "Min", DType::kFloat32},
                             {"max", static_cast<float>(a.beta), "Max", DType::kFloat32}}));
}

void pow(E& e, const Node& node) {
  e.same_attrs(node);
  e.set(node.out(), e.unary("pow", e.get(node.inputs[0]),
                            {{"factor", static_cast<float>(node.get<PointwiseAttrs>().alpha)}}));
}

template <bool kTanh> void gelu(E& e, const Node& node) {
  e.set(node.out(), e.unary("gelu", e.get(node.inputs[0]), {{"approximate", kTanh}}));
}

void mish(E& e, const Node& node) {
  e.set(node.out(),
        e.unary("mish", e.get(node.inputs[0]), {{"threshold", 20.0f}, {"lambda", 20.0f}}));
}

// PIR's swish has no beta.
void swish(E& e, const Node& node) {
  const double beta = node.get<PointwiseAttrs>().alpha;
  e.same_attrs(node);
  const OutId x = e.get(node.inputs[0]);
  if (beta == 1) return e.set(node.out(), e.unary("swish", x, {{"beta", 1.0f}}));
  const OutId gate = e.unary("sigmoid", scaled(e, x, beta, 0));
  e.set(node.out(), e.binary("elementwise_mul|multiply", x, gate, e.sink.type(x)));
}

void cast(E& e, const Node& node) {
  e.set(node.out(), e.cast(e.get(node.inputs[0]), node.out()->type.dtype));
}

void logical_not(E& e, const Node& node) {
  e.set(node.out(), e.unary("logical_not", e.get(node.inputs[0])));
}

// ---- pointwise, two inputs

struct Binary {
  const Op* op;
  std::string_view names;
};
constexpr Binary kBinary[] = {
    {&ops::add_op, "elementwise_add|add"},
    {&ops::subtract_op, "elementwise_sub|subtract"},
    {&ops::multiply_op, "elementwise_mul|multiply"},
    {&ops::divide_op, "elementwise_div|divide"},
    {&ops::maximum_op, "elementwise_max|maximum"},
    {&ops::minimum_op, "elementwise_min|minimum"},
    {&ops::elementwise_pow_op, "elementwise_pow"},
    {&ops::remainder_op, "elementwise_mod|remainder"},
    {&ops::floor_divide_op, "elementwise_floordiv|floor_divide"},
    {&ops::equal_op, "equal"},
    {&ops::not_equal_op, "not_equal"},
    {&ops::less_than_op, "less_than"},
    {&ops::less_equal_op, "less_equal"},
    {&ops::greater_than_op, "greater_than"},
    {&ops::greater_equal_op, "greater_equal"},
    {&ops::logical_and_op, "logical_and"},
    {&ops::logical_or_op, "logical_or"},
    {&ops::logical_xor_op, "logical_xor"},
};

// Paddle does not bring two dtypes together; we have the promoted one in arithmetic's result.
void binary(E& e, const Node& node) {
  const Binary* row = kBinary;
  while (row->op != node.op) ++row;
  OutId x = e.get(node.inputs[0]), y = e.get(node.inputs[1]);
  const DType a = node.inputs[0]->type.dtype, b = node.inputs[1]->type.dtype;
  if (a != b) {
    const DType common = node.out()->type.dtype != DType::kBool ? node.out()->type.dtype
                         : is_floating(a) && !is_floating(b)    ? a
                         : is_floating(b) && !is_floating(a)    ? b
                         : size_of(a) > size_of(b)              ? a
                                                                : b;
    x = e.cast(x, common);
    y = e.cast(y, common);
  }
  e.set(node.out(), e.binary(row->names, x, y, e.type_of(node.out())));
}

// relu(x) - y relu(-x): Paddle's own knows only slopes by channel.
void prelu(E& e, const Node& node) {
  const OutId x = e.get(node.inputs[0]);
  const OutId below = e.unary("relu", scaled(e, x, -1, 0));
  const OutType type = e.type_of(node.out());
  const OutId part = e.binary("elementwise_mul|multiply", below, e.get(node.inputs[1]), type);
  e.set(node.out(), e.binary("elementwise_sub|subtract", e.unary("relu", x), part, type));
}

void where(E& e, const Node& node) {
  const DType dtype = node.out()->type.dtype;
  e.set(node.out(), e.op("where",
                         {{"Condition", {e.broadcast(node, 0)}},
                          {"X", {e.cast(e.broadcast(node, 1), dtype)}},
                          {"Y", {e.cast(e.broadcast(node, 2), dtype)}}},
                         "Out", e.type_of(node.out())));
}

// ---- reductions

struct Reduction {
  const Op* op;
  std::string_view names;
};
constexpr Reduction kReductions[] = {
    {&ops::sum_op, "reduce_sum|sum"},    {&ops::mean_op, "reduce_mean|mean"},
    {&ops::max_op, "reduce_max|max"},    {&ops::min_op, "reduce_min|min"},
    {&ops::prod_op, "reduce_prod|prod"}, {&ops::any_op, "reduce_any|any"},
    {&ops::all_op, "reduce_all|all"}};

void reduce(E& e, const Node& node) {
  const Reduction* row = kReductions;
  while (row->op != node.op) ++row;
  const auto& a = node.get<ReduceAttrs>();
  e.same_attrs(node);
  const bool all = static_cast<int>(a.axis.size()) == node.inputs[0]->type.shape.rank();
  std::vector<OutAttr> attrs;
  const auto dims = list_as<int32_t>(a.axis);
  if (row->op == &ops::any_op || row->op == &ops::all_op) {
    attrs.push_back({"dim", list_as<int64_t>(a.axis)});
  } else {
    attrs.push_back({"dim", dims, "dim"});
  }
  attrs.push_back({"keep_dim", a.keepdim});
  attrs.push_back({"reduce_all", all});
  if (row->op == &ops::sum_op) attrs.push_back({"out_dtype", int32_t{-1}});
  e.set(node.out(),
        e.op(row->names, {{"X", {e.get(node.inputs[0])}}}, "Out", e.type_of(node.out()), attrs));
}

template <bool kLog> void softmax(E& e, const Node& node) {
  e.same_attrs(node);
  e.set(node.out(), e.unary(kLog ? "log_softmax" : "softmax", e.get(node.inputs[0]),
                            {{"axis", static_cast<int32_t>(node.get<NormAttrs>().axis)}}));
}

// ---- indices

void gather(E& e, const Node& node) {
  const auto axis = static_cast<int32_t>(node.get<AxisAttrs>().axis);
  const Dims index = e.model.dims(node.inputs[1]), whole = e.model.dims(node.out());
  OutId ids = e.get(node.inputs[1]);
  // Paddle's takes a list of indices alone.
  Dim count{1, 1};
  for (const Dim& d : index) count = {count.first * d.first, count.second * d.second};
  ids = e.reshape(node, ids, index, {count});
  Dims flat(whole.begin(), whole.begin() + axis);
  flat.push_back(count);
  flat.insert(flat.end(), whole.begin() + axis + static_cast<int64_t>(index.size()), whole.end());
  const OutId y = e.op("gather", {{"X", {e.get(node.inputs[0])}}, {"Index", {ids}}}, "Out",
                       E::type_of(node.out()->type.dtype, flat), {{"axis", axis, "Axis"}});
  e.set(node.out(), e.reshape(node, y, flat, whole));
}

void gather_nd(E& e, const Node& node) {
  e.set(node.out(),
        e.op("gather_nd", {{"X", {e.get(node.inputs[0])}}, {"Index", {e.get(node.inputs[1])}}},
             "Out", e.type_of(node.out())));
}

void embedding(E& e, const Node& node) {
  e.set(node.out(), e.op("lookup_table_v2|embedding",
                         {{"W", {e.get(node.inputs[0])}}, {"Ids", {e.get(node.inputs[1])}}}, "Out",
                         e.type_of(node.out()),
                         {{"padding_idx", node.get<AxisAttrs>().axis}, {"sparse", false}}));
}

void one_hot(E& e, const Node& node) {
  e.same_attrs(node);
  e.set(node.out(),
        e.op("one_hot_v2|one_hot", {{"X", {e.get(node.inputs[0])}}}, "Out", e.type_of(node.out()),
             {{"depth", static_cast<int32_t>(node.get<OneHotAttrs>().depth), "depth_tensor"}}));
}

void topk(E& e, const Node& node) {
  const auto& a = node.get<TopkAttrs>();
  e.same_attrs(node);
  OutOp op{"top_k_v2", "topk", {{"X", {e.get(node.inputs[0])}}}, {}, {}, {}, {}, {}};
  op.results = {{"Out", {e.type_of(node.out(0))}}, {"Indices", {e.type_of(node.out(1))}}};
  op.attrs = {{"k", static_cast<int32_t>(a.k), "K"},
              {"axis", static_cast<int32_t>(a.axis)},
              {"largest", a.largest},
              {"sorted", a.sorted}};
  const auto ids = e.sink.op(std::move(op));
  e.set(node.out(0), ids[0]);
  e.set(node.out(1), ids[1]);
}

void argmax(E& e, const Node& node) {
  const auto& a = node.get<ArgAttrs>();
  e.same_attrs(node);
  e.set(node.out(), e.op(a.min ? "arg_min|argmin" : "arg_max|argmax",
                         {{"X", {e.get(node.inputs[0])}}}, "Out", e.type_of(node.out()),
                         {{"axis", a.axis, "axis", DType::kInt64},
                          {"keepdims", a.keepdim},
                          {"flatten", a.flatten},
                          {"dtype", a.dtype}}));
}

void cumsum(E& e, const Node& node) {
  const auto& a = node.get<CumsumAttrs>();
  e.same_attrs(node);
  e.set(node.out(), e.op("cumsum", {{"X", {e.get(node.inputs[0])}}}, "Out", e.type_of(node.out()),
                         {{"axis", static_cast<int32_t>(a.axis), "axis"},
                          {"flatten", a.flatten},
                          {"exclusive", a.exclusive},
                          {"reverse", a.reverse}}));
}

constexpr PaddleExport kOthers[] = {
    {&ops::affine_op, affine},
    {&ops::clip_op, clip},
    {&ops::pow_op, pow},
    {&ops::gelu_op, gelu<false>},
    {&ops::gelu_tanh_op, gelu<true>},
    {&ops::mish_op, mish},
    {&ops::swish_op, swish},
    {&ops::cast_op, cast},
    {&ops::logical_not_op, logical_not},
    {&ops::prelu_op, prelu},
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

std::span<const PaddleExport> paddle_math_exports() {
  static const auto table = [] {
    std::vector<PaddleExport> all(std::begin(kOthers), std::end(kOthers));
    for (const Unary& row : kUnary) all.push_back({row.op, unary});
    for (const Binary& row : kBinary) all.push_back({row.op, binary});
    for (const Reduction& row : kReductions) all.push_back({row.op, reduce});
    return all;
  }();
  return table;
}

}  // namespace trireme
