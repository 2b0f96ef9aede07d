// Convolutions.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct Conv2dAttrs {
  std::vector<int64_t> strides{1, 1};
  std::vector<int64_t> paddings{0, 0, 0, 0};  // top, bottom, left, right
  std::vector<int64_t> dilations{1, 1};
  int64_t groups = 1;
  std::vector<int64_t> output_padding{0, 0};  // conv2d_transpose only
  std::vector<int64_t> kernel{};              // conv2d_wgrad only: kh, kw
  static const Field fields[];
};
inline constexpr Field Conv2dAttrs::fields[] = {
    TRI_FIELD(Conv2dAttrs, strides),        TRI_FIELD(Conv2dAttrs, paddings),
    TRI_FIELD(Conv2dAttrs, dilations),      TRI_FIELD(Conv2dAttrs, groups),
    TRI_FIELD(Conv2dAttrs, output_padding), TRI_FIELD(Conv2dAttrs, kernel)};

namespace ops {
extern const Op conv2d_op;  // (x [N, C, H, W], weight [O, C/groups, kh, kw], bias [O] or null) ->
                            // [N, O, H', W']
extern const Op
    conv2d_transpose_op;  // (x [N, C, H, W], weight [C, O/groups, kh, kw], bias [O] or null)
// The gradient of conv2d by its weight: (x, gradient of the result) -> [O, C/groups, kh, kw]. Its
// gradient by x is conv2d_transpose of the result's gradient by the same weight.
extern const Op conv2d_wgrad_op;
// (x, weight) -> (conv2d's result y, float32 [2, O]: each channel's sums of y and of y * y, before
// or after y is rounded; float64 for y of float64).
extern const Op conv2d_statistics_op;
Value* conv2d(Value* x, Value* weight, Value* bias, const Conv2dAttrs& attrs);
Value* conv2d_transpose(Value* x, Value* weight, Value* bias, const Conv2dAttrs& attrs);
Value* conv2d_wgrad(Value* x, Value* dout, const Conv2dAttrs& attrs);
// conv2d's gradient by its input, of the spatial size of `like`.
Value* conv2d_dgrad(Value* dout, Value* weight, const Value* like, const Conv2dAttrs& attrs);
}  // namespace ops
}  // namespace trireme
