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

// Where a normalisation's operands are among a node's inputs and outputs.
struct NormPlaces {
  size_t mean = 0, variance = 1, x = 2, scale = 3, bias = 4;  // inputs
  size_t sums = 5;                                            // input, may be absent
  size_t mean_out = 0, variance_out = 1, saved_mean = 3;      // outputs; saved_inv_std follows
};
// Of fused_dual_bn_add_activation.
inline constexpr NormPlaces kDualPlaces[2] = {{.sums = 10},
                                              {.mean = 5,
                                               .variance = 6,
                                               .x = 7,
                                               .scale = 8,
                                               .bias = 9,
                                               .sums = 11,
                                               .mean_out = 5,
                                               .variance_out = 6,
                                               .saved_mean = 7}};

namespace ops {
// All: (mean, variance, x, scale, bias, ...) -> (mean, variance, y, saved_mean, saved_inv_std,
// ...), as batch_norm_train has them; sums: what conv2d_statistics gives with x, or null.
// (..., sums): y = relu(batch_norm(x)).
extern const Op fused_batch_norm_act_op;
// (x, scale, saved_mean, saved_inv_std, bias, dy) -> (dx, dscale, dbias)
extern const Op fused_batch_norm_act_grad_op;
// (..., z, sums) -> (..., mask): y = relu(batch_norm(x) + z); mask: uint8, a bit an element, y > 0.
extern const Op fused_bn_add_activation_op;
// (x, scale, saved_mean, dy, saved_inv_std, mask, dy2 or null) -> (dx, dscale, dbias, dz); the
// gradient of y is dy + dy2. dz may overwrite dy.
extern const Op fused_bn_add_activation_grad_op;
// (mean, variance, x, scale, bias, mean2, variance2, x2, scale2, bias2, sums, sums2) -> (mean,
// variance, y, saved_mean, saved_inv_std, mean2, variance2, saved_mean2, saved_inv_std2, mask):
// y = relu(batch_norm(x) + batch_norm(x2)), of two pictures of the same shape.
extern const Op fused_dual_bn_add_activation_op;
// (x, x2, scale, saved_mean, saved_inv_std, scale2, saved_mean2, saved_inv_std2, dy, mask, dy2 or
// null) -> (dx, dx2, dscale, dbias, dscale2, dbias2)
extern const Op fused_dual_bn_add_activation_grad_op;
// -> (..., index, x_max): y = max_pool2d(relu(batch_norm(x))); index: uint8 of y's shape, which
// place of the window (kh * kernel width + kw, padding included) holds the first maximum; x_max: x
// there, so that the gradient's sums need not look at x. x channels-last.
extern const Op fused_batch_norm_act_pool_op;
// (x, scale, saved_mean, saved_inv_std, bias, dy, index, x_max, dy2 or null) -> (dx, dscale, dbias)
extern const Op fused_batch_norm_act_pool_grad_op;
}  // namespace ops
}  // namespace trireme
