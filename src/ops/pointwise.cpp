// The pointwise operators' rules: shapes broadcast, dtypes promote. Their work is in
// pointwise_cluster.cpp.
#include "ops/pointwise.h"

#include "ops/fused.h"

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

void infer_unary(const Infer& in) { out(in, in.dtype(0), in.shape(0)); }

Shape broadcast_inputs(const Infer& in) {
  return broadcast_shapes(in.op.name, in.shape(0), in.shape(1));
}

void infer_binary(const Infer& in) {
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

namespace ops {

// clang-format off
#define TRI_POINTWISE(opname, count, attr, rule) \
  const Op opname##_op{.name = #opname, .inputs = count, .attrs = attr, .infer = rule, \
                       .cpu = prepare, \
                       .fuse = Fuse::kPointwise, .layouts = Layouts::kFollow, .in_place = 1};
#define TRI_UNARY(name, ...) \
  TRI_POINTWISE(name, 1, &attr_info<PointwiseAttrs>, infer_unary) \
  Value* name(Value* x, double alpha, double beta) { \
    return record1(name##_op, {x}, PointwiseAttrs{alpha, beta}); \
  }
#define TRI_BINARY(name, ...) \
  TRI_POINTWISE(name, 2, nullptr, infer_binary) \
  Value* name(Value* x, Value* y) { return record1(name##_op, {x, y}); }
#define TRI_COMPARE(name, ...) \
  TRI_POINTWISE(name, 2, nullptr, infer_compare) \
  Value* name(Value* x, Value* y) { return record1(name##_op, {x, y}); }
#define TRI_LOGIC(name, ...) TRI_COMPARE(name)
// clang-format on
#include "ops/pointwise.def"

TRI_POINTWISE(cast, 1, &attr_info<CastAttrs>, infer_cast)
TRI_POINTWISE(where, 3, nullptr, infer_where)
TRI_POINTWISE(logical_not, 1, nullptr, infer_not)

Value* cast(Value* x, DType dtype) {
  return x->type.dtype == dtype ? x : record1(cast_op, {x}, CastAttrs{dtype});
}
Value* where(Value* condition, Value* x, Value* y) { return record1(where_op, {condition, x, y}); }
Value* logical_not(Value* x) { return record1(logical_not_op, {x}); }

}  // namespace ops
}  // namespace trireme
