// Normalisations and softmax.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct NormAttrs {
  double epsilon = 1e-5;
  int64_t axis =
      1;  // layer_norm: first normalised dimension (begin_norm_axis); softmax: the dimension
  int64_t groups = 1;  // group_norm
  static const Field fields[];
};
inline constexpr Field NormAttrs::fields[] = {
    TRI_FIELD(NormAttrs, epsilon), TRI_FIELD(NormAttrs, axis), TRI_FIELD(NormAttrs, groups)};

struct BatchNormAttrs {
  double momentum = 0.9, epsilon = 1e-5;
  static const Field fields[];
};
inline constexpr Field BatchNormAttrs::fields[] = {TRI_FIELD(BatchNormAttrs, momentum),
                                                   TRI_FIELD(BatchNormAttrs, epsilon)};

namespace ops {
// Inference form: y = (x - mean) / sqrt(variance + epsilon) * scale + bias along dimension 1; all
// [C].
extern const Op batch_norm_op;  // (x, scale, bias, mean, variance)
// Training form: (mean, variance, x, scale, bias, sums or null) -> (mean, variance, y, saved_mean,
// saved_inv_std). sums: what conv2d_statistics gives with x. y is normalised by the batch's own
// statistics; the running ones move to running * momentum + batch * (1 - momentum), the batch's
// variance being the biased one. Inputs 0 to 2 may be overwritten by the results of the same place.
// Statistics are float32 (float64 with x of float64).
extern const Op batch_norm_train_op;
extern const Op batch_norm_grad_op;  // (x, scale, saved_mean, saved_inv_std, dy) -> (dx, dscale,
                                     // dbias)
extern const Op
    layer_norm_op;  // (x, scale or null, bias or null), scale and bias have the normalised elements
extern const Op layer_norm_grad_op;      // (x, scale or null, dy) -> (dx, dscale, dbias)
extern const Op layer_norm_grad_sum_op;  // the same -> (..., dx summed over the rows, of its dtype)
extern const Op group_norm_op;           // (x [N, C, ...], scale or null, bias or null)
extern const Op group_norm_grad_op;      // (x, scale or null, dy) -> (dx, dscale, dbias)
extern const Op instance_norm_op;        // (x [N, C, ...], scale or null, bias or null)
extern const Op softmax_op;              // (x), along attrs.axis
extern const Op log_softmax_op;
extern const Op softmax_grad_op;  // (y, dy)
Value* batch_norm(Value* x, Value* scale, Value* bias, Value* mean, Value* variance,
                  double epsilon);
std::vector<Value*> batch_norm_train(Value* mean, Value* variance, Value* x, Value* scale,
                                     Value* bias, double momentum, double epsilon);
Value* layer_norm(Value* x, Value* scale, Value* bias, int64_t begin_norm_axis, double epsilon);
Value* group_norm(Value* x, Value* scale, Value* bias, int64_t groups, double epsilon);
Value* instance_norm(Value* x, Value* scale, Value* bias, double epsilon);
Value* softmax(Value* x, int64_t axis);
Value* log_softmax(Value* x, int64_t axis);
}  // namespace ops
}  // namespace trireme
