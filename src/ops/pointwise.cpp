// The pointwise operators' rules: shapes broadcast, dtypes promote. Their work is in
// pointwise_cluster.cpp.
#include "ops/pointwise.h"
#include "ops/cuda_kernels.h"

#include <cmath>

#include "ops/fused.h"
#include "ops/pointwise_grad.h"

namespace trireme {
namespace {

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_floating(a) != is_floating(b)) return is_floating(a) ? a : b;
  if ((a == DType::kFloat16 && b == DType::kBFloat16) ||
      (a == DType::kBFloat16 && b == DType::kFloat16))
    return DType::kFloat32;
  return size_of(a) >= size_of(b) ? a : b;
}

// The result lies as the first input of the full shape does, so that a chain keeps its layout.
void out(const Infer& in, DType dtype, const Shape& shape) {
  Type type{dtype, shape, Layout::kPlain};
  for (const Value* v : in.inputs)
    if (v && v->type.shape == shape && v->type.layout == Layout::kChannelsLast)
      type.layout = Layout::kChannelsLast;
  in.outputs.push_back(type);
}

// Bits are of integers, NaNs of floating numbers.
void check_bits(const Infer& in) {
  if (!in.op.name.starts_with("bitwise")) return;
  for (size_t i = 0; i < in.inputs.size(); ++i)
    TRI_CHECK(!is_floating(in.dtype(i)), '[' + std::string(in.op.name) +
                                             "] expects integers, got " +
                                             std::string(name_of(in.dtype(i))));
}

void infer_unary(const Infer& in) {
  check_bits(in);
  out(in, in.dtype(0), in.shape(0));
}

void infer_float(const Infer& in) {
  TRI_CHECK(is_floating(in.dtype(0)), '[' + std::string(in.op.name) +
                                          "] x expects a floating dtype, got " +
                                          std::string(name_of(in.dtype(0))));
  out(in, in.dtype(0), in.shape(0));
}

Shape broadcast_inputs(const Infer& in) {
  return broadcast_shapes(in.op.name, in.shape(0), in.shape(1));
}

void infer_binary(const Infer& in) {
  check_bits(in);
  out(in, promote(in.dtype(0), in.dtype(1)), broadcast_inputs(in));
}
void infer_grad(const Infer& in) {
  TRI_CHECK(is_floating(in.dtype(0)) && is_floating(in.dtype(1)),
            '[' + std::string(in.op.name) + "] expects floating dtypes, got " +
                std::string(name_of(in.dtype(0))) + " and " + std::string(name_of(in.dtype(1))));
  out(in, promote(in.dtype(0), in.dtype(1)), broadcast_inputs(in));
}
void infer_compare(const Infer& in) { out(in, DType::kBool, broadcast_inputs(in)); }
void infer_cast(const Infer& in) { out(in, in.attrs<CastAttrs>().dtype, in.shape(0)); }
void infer_not(const Infer& in) { out(in, DType::kBool, in.shape(0)); }

void infer_where(const Infer& in) {
  TRI_CHECK(in.dtype(0) == DType::kBool,
            "[where] condition expects bool, got " + std::string(name_of(in.dtype(0))));
  const Shape xy = broadcast_shapes("where", in.shape(1), in.shape(2));
  out(in, promote(in.dtype(1), in.dtype(2)), broadcast_shapes("where", in.shape(0), xy));
}

Kernel prepare(const Prepare& p) {
  std::vector<const Value*> outputs;
  for (const auto& v : p.node.outputs) outputs.push_back(v.get());
  return pointwise_cluster({&p.node}, {p.node.inputs.begin(), p.node.inputs.end()}, outputs);
}

}  // namespace

Shape broadcast_shapes(std::string_view op, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  Shape s;
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank()), ib = i - (rank - b.rank());
    const int64_t da = ia < 0 ? 1 : a[ia], db = ib < 0 ? 1 : b[ib];
    TRI_CHECK(da == db || da == 1 || db == 1, '[' + std::string(op) + "] shapes " + a.str() +
                                                  " and " + b.str() + " do not broadcast");
    s.push_back(da == 1 ? db : da);
  }
  return s;
}

namespace {

constexpr std::string_view kFloatInO1[] = {
#define TRI_FLOAT_IN_O1(name) #name,
#include "ops/pointwise.def"
#undef TRI_FLOAT_IN_O1
};
constexpr Amp amp_named(std::string_view name) {
  for (const std::string_view other : kFloatInO1)
    if (name == other) return Amp::kFloatInO1;
  return Amp::kFollow;
}

}  // namespace

namespace ops {

// clang-format off
#define TRI_POINTWISE(opname, count, attr, rule, gradient) \
  const Op opname##_op{.name = #opname, .inputs = count, .attrs = attr, .infer = rule, \
                       .grad = gradient, .cpu = prepare, .cuda = TRI_CUDA(cuda_pointwise), \
                       .amp = amp_named(#opname), .fuse = Fuse::kPointwise, \
                       .layouts = Layouts::kFollow, .in_place = 1};
#define TRI_RULE_IN(name) (rule_of_input<name##_grad_op>)
#define TRI_RULE_OUT(name) (rule_of_output<name##_grad_op>)
#define TRI_RULE_RULE(name) (name##_rule)
#define TRI_RULE_NONE(name) (nullptr)
#define TRI_UNARY_AS(name, kind, rule) \
  TRI_POINTWISE(name, 1, &attr_info<PointwiseAttrs>, rule, TRI_RULE_##kind(name)) \
  TRI_IF_##kind(TRI_POINTWISE(name##_grad, 2, &attr_info<PointwiseAttrs>, infer_grad, \
                              rule_of_grad)) \
  Value* name(Value* x, double alpha, double beta) { \
    return record1(name##_op, {x}, PointwiseAttrs{alpha, beta}); \
  }
#define TRI_UNARY(name, value, kind, ...) TRI_UNARY_AS(name, kind, infer_unary)
#define TRI_FLOAT(name, value, kind, ...) TRI_UNARY_AS(name, kind, infer_float)
#define TRI_BINARY(name, value, kind) \
  TRI_POINTWISE(name, 2, nullptr, infer_binary, TRI_RULE_##kind(name)) \
  Value* name(Value* x, Value* y) { return record1(name##_op, {x, y}); }
#define TRI_COMPARE(name, ...) \
  TRI_POINTWISE(name, 2, nullptr, infer_compare, nullptr) \
  Value* name(Value* x, Value* y) { return record1(name##_op, {x, y}); }
#define TRI_LOGIC(name, ...) TRI_COMPARE(name)
// clang-format on
#include "ops/pointwise.def"

TRI_POINTWISE(cast, 1, &attr_info<CastAttrs>, infer_cast, cast_rule)
TRI_POINTWISE(where, 3, nullptr, infer_where, where_rule)
TRI_POINTWISE(logical_not, 1, nullptr, infer_not, nullptr)

Value* cast(Value* x, DType dtype) {
  return x->type.dtype == dtype ? x : record1(cast_op, {x}, CastAttrs{dtype});
}
Value* where(Value* condition, Value* x, Value* y) { return record1(where_op, {condition, x, y}); }
Value* isnan(Value* x) { return not_equal(x, x); }
Value* isinf(Value* x) {
  if (!is_floating(x->type.dtype)) return not_equal(x, x);
  return equal(abs(x), scalar(HUGE_VAL, x->type.dtype));
}
Value* isfinite(Value* x) {
  Value* zero = subtract(x, x);  // NaN of infinities and NaNs
  return equal(zero, zero);
}
Value* logical_not(Value* x) { return record1(logical_not_op, {x}); }

}  // namespace ops
}  // namespace trireme
