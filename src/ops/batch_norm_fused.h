// Training batch norm together with what follows it. The pass fuse_norm makes these nodes, after
// `layout`: a mask is in the order of memory.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct BatchNormPoolAttrs {
  double momentum = 0.9, epsilon = 1e-5;
  std::vector<int64_t> kernel{1, 1}, strides{1, 1}, paddings{0, 0};  // paddings: top, left
  std::vector<int64_t> size{};                                       // H, W of the result
  static const Field fields[];
};
inline constexpr Field BatchNormPoolAttrs::fields[] = {
    TRI_FIELD(BatchNormPoolAttrs, momentum), TRI_FIELD(BatchNormPoolAttrs, epsilon),
    TRI_FIELD(BatchNormPoolAttrs, kernel),   TRI_FIELD(BatchNormPoolAttrs, strides),
    TRI_FIELD(BatchNormPoolAttrs, paddings), TRI_FIELD(BatchNormPoolAttrs, size)};

namespace ops {
// All: (mean, variance, x, scale, bias, ...) -> (mean, variance, y, saved_mean, saved_inv_std,
// ...), as batch_norm_train has them.
// y = relu(batch_norm(x)).
extern const Op fused_batch_norm_act_op;
// (x, scale, saved_mean, saved_inv_std, bias, dy) -> (dx, dscale, dbias)
extern const Op fused_batch_norm_act_grad_op;
// (..., z) -> (..., mask): y = relu(batch_norm(x) + z); mask: uint8, a bit an element, y > 0.
extern const Op fused_bn_add_activation_op;
// (x, scale, saved_mean, dy, saved_inv_std, mask, dy2 or null) -> (dx, dscale, dbias, dz); the
// gradient of y is dy + dy2. dz may overwrite dy.
extern const Op fused_bn_add_activation_grad_op;
// -> (..., index): y = max_pool2d(relu(batch_norm(x))); index: uint8 of y's shape, which place of
// the window (kh * kernel width + kw, padding included) holds the first maximum. x channels-last.
extern const Op fused_batch_norm_act_pool_op;
// (x, scale, saved_mean, saved_inv_std, bias, dy, index, dy2 or null) -> (dx, dscale, dbias)
extern const Op fused_batch_norm_act_pool_grad_op;
}  // namespace ops
}  // namespace trireme
