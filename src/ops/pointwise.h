// Pointwise operators: one result element from one element of each input, with symmetric
// broadcasting. The table of them is pointwise.def.
#pragma once

#include "graph/graph.h"

namespace trireme {

// Two numbers whose meaning the operator's line in pointwise.def tells (alpha: slope, min,
// factor...).
struct PointwiseAttrs {
  double alpha = 0, beta = 0;
  static const Field fields[];
};
inline constexpr Field PointwiseAttrs::fields[] = {TRI_FIELD(PointwiseAttrs, alpha),
                                                   TRI_FIELD(PointwiseAttrs, beta)};

struct CastAttrs {
  DType dtype = DType::kFloat32;
  static const Field fields[];
};
inline constexpr Field CastAttrs::fields[] = {TRI_FIELD(CastAttrs, dtype)};

// clang-format off
#define TRI_UNARY(name, value, kind, ...) \
  extern const Op name##_op; \
  TRI_IF_##kind(extern const Op name##_grad_op;)  /* (x, or the output; dout) */ \
  Value* name(Value* x, double alpha = 0, double beta = 0);
#define TRI_FLOAT(name, value, kind, ...) TRI_UNARY(name, value, kind)
#define TRI_BINARY(name, ...)  extern const Op name##_op;  Value* name(Value* x, Value* y);
#define TRI_COMPARE(name, ...) extern const Op name##_op;  Value* name(Value* x, Value* y);
#define TRI_LOGIC(name, ...)   extern const Op name##_op;  Value* name(Value* x, Value* y);
// clang-format on
namespace ops {
#include "ops/pointwise.def"

// (x, dout) -> (gelu_grad's result, that summed over all dimensions but the last, of x's dtype)
extern const Op gelu_grad_sum_op;
extern const Op cast_op;         // (x) -> x as attrs.dtype
extern const Op where_op;        // (condition bool, x, y)
extern const Op logical_not_op;  // (x) -> bool
Value* cast(Value* x, DType dtype);
Value* where(Value* condition, Value* x, Value* y);
Value* logical_not(Value* x);

Value* isnan(Value* x);  // -> bool, of numbers of any dtype
Value* isinf(Value* x);
Value* isfinite(Value* x);

// Paddle's scale: bias_after ? scale * x + bias : scale * (x + bias).
inline Value* scale(Value* x, double factor, double bias = 0, bool bias_after = true) {
  return affine(x, factor, bias_after ? bias : factor * bias);
}
}  // namespace ops
#undef TRI_UNARY
#undef TRI_FLOAT
#undef TRI_BINARY
#undef TRI_COMPARE
#undef TRI_LOGIC

// The shape both broadcast to (NumPy's rule); throws naming `op`.
Shape broadcast_shapes(std::string_view op, const Shape& a, const Shape& b);

}  // namespace trireme
