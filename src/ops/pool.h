// Pooling and resizing.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct Pool2dAttrs {
  std::string pooling_type = "max";  // or "avg"
  std::vector<int64_t> kernel{1, 1};
  std::vector<int64_t> strides{1, 1};
  std::vector<int64_t> paddings{0, 0, 0, 0};  // top, bottom, left, right
  bool ceil_mode = false;
  bool exclusive = true;        // avg: padding does not count
  bool adaptive = false;        // kernel is the output size
  std::vector<int64_t> size{};  // pool2d_grad only: H, W of its result
  static const Field fields[];
};
inline constexpr Field Pool2dAttrs::fields[] = {
    TRI_FIELD(Pool2dAttrs, pooling_type), TRI_FIELD(Pool2dAttrs, kernel),
    TRI_FIELD(Pool2dAttrs, strides),      TRI_FIELD(Pool2dAttrs, paddings),
    TRI_FIELD(Pool2dAttrs, ceil_mode),    TRI_FIELD(Pool2dAttrs, exclusive),
    TRI_FIELD(Pool2dAttrs, adaptive),     TRI_FIELD(Pool2dAttrs, size)};

struct InterpAttrs {
  std::vector<int64_t> size{};  // output height, width
  std::vector<double> scale{};  // the factors as given (they enter the ratio when set), else empty
  bool align_corners = false;
  int64_t align_mode = 1;        // bilinear: 0 half-pixel centres, 1 corners
  std::vector<int64_t> input{};  // of the gradients only: H, W of their result
  static const Field fields[];
};
inline constexpr Field InterpAttrs::fields[] = {
    TRI_FIELD(InterpAttrs, size), TRI_FIELD(InterpAttrs, scale),
    TRI_FIELD(InterpAttrs, align_corners), TRI_FIELD(InterpAttrs, align_mode),
    TRI_FIELD(InterpAttrs, input)};

namespace ops {
extern const Op pool2d_op;       // (x [N, C, H, W])
extern const Op pool2d_grad_op;  // (gradient of the result, x; for avg null) -> [N, C, H, W]
// (x [N, C, H, W]) -> (maxima, int32 places h * W + w of them)
extern const Op max_pool2d_with_index_op;
extern const Op nearest_interp_op;  // (x [N, C, H, W])
extern const Op bilinear_interp_op;
extern const Op nearest_interp_grad_op, bilinear_interp_grad_op;  // (gradient of the result)
Value* pool2d(Value* x, const Pool2dAttrs& attrs);
Value* pool2d_grad(Value* dout, Value* x, const Pool2dAttrs& attrs);
std::vector<Value*> max_pool2d_with_index(Value* x, const Pool2dAttrs& attrs);
Value* nearest_interp(Value* x, const InterpAttrs& attrs);
Value* bilinear_interp(Value* x, const InterpAttrs& attrs);
// By `op`, one of the two, of the spatial size of `like`.
Value* interp_grad(const Op& op, Value* dout, const Value* like, const InterpAttrs& attrs);
}  // namespace ops
}  // namespace trireme
