// The optimizers' updates: one node updates all parameters, their state is donated.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace trireme {

// Numbers of an update that stay the same over a training. Whatever changes (learning rate, powers
// of beta, loss scale) is an input, so that every step has the same plan. Lists have one element a
// parameter, or none: the default for all.
struct UpdateAttrs {
  int64_t params = 0;
  std::vector<int64_t> low;      // the parameters that are masters of a low-precision copy
  std::vector<int64_t> rows;     // of the scalar state
  std::vector<double> lr_scale;  // factors on the learning rate
  std::vector<double> l1, l2;    // l1 sign(w) + l2 w is added to the gradient
  std::vector<double> decay;     // of adamw and lamb, which do not add it to the gradient
  int64_t first_factor = 0;      // where this node's factors begin in the input `factors`
  std::vector<int64_t> clamp;    // one a parameter, or none: gradients are limited to these two
  double clamp_min = 0, clamp_max = 0;
  double beta1 = 0, beta2 = 0, epsilon = 0;
  double momentum = 0, rho = 0;     // rho: adadelta, rmsprop
  double momentum_decay = 0;        // nadam
  double eta_down = 0, eta_up = 0;  // rprop
  double lr_min = 0, lr_max = 0;    // rprop
  bool nesterov = false, centered = false, amsgrad = false, always_adapt = false;
  static const Field fields[];
};
inline constexpr Field UpdateAttrs::fields[] = {TRI_FIELD(UpdateAttrs, params),
                                                TRI_FIELD(UpdateAttrs, low),
                                                TRI_FIELD(UpdateAttrs, rows),
                                                TRI_FIELD(UpdateAttrs, lr_scale),
                                                TRI_FIELD(UpdateAttrs, l1),
                                                TRI_FIELD(UpdateAttrs, l2),
                                                TRI_FIELD(UpdateAttrs, decay),
                                                TRI_FIELD(UpdateAttrs, first_factor),
                                                TRI_FIELD(UpdateAttrs, clamp),
                                                TRI_FIELD(UpdateAttrs, clamp_min),
                                                TRI_FIELD(UpdateAttrs, clamp_max),
                                                TRI_FIELD(UpdateAttrs, beta1),
                                                TRI_FIELD(UpdateAttrs, beta2),
                                                TRI_FIELD(UpdateAttrs, epsilon),
                                                TRI_FIELD(UpdateAttrs, momentum),
                                                TRI_FIELD(UpdateAttrs, rho),
                                                TRI_FIELD(UpdateAttrs, momentum_decay),
                                                TRI_FIELD(UpdateAttrs, eta_down),
                                                TRI_FIELD(UpdateAttrs, eta_up),
                                                TRI_FIELD(UpdateAttrs, lr_min),
                                                TRI_FIELD(UpdateAttrs, lr_max),
                                                TRI_FIELD(UpdateAttrs, nesterov),
                                                TRI_FIELD(UpdateAttrs, centered),
                                                TRI_FIELD(UpdateAttrs, amsgrad),
                                                TRI_FIELD(UpdateAttrs, always_adapt)};

// How gradients are limited by their norms. A group of gradients has one kind and one limit.
struct ClipAttrs {
  enum Kind : int64_t { kNone, kGlobalNorm, kEachNorm };
  std::vector<int64_t> group;      // one a gradient
  std::vector<int64_t> need_clip;  // one a gradient: 0 or 1
  std::vector<int64_t> kind;       // one a group
  std::vector<double> max_norm;    // one a group
  static const Field fields[];
};
inline constexpr Field ClipAttrs::fields[] = {
    TRI_FIELD(ClipAttrs, group), TRI_FIELD(ClipAttrs, need_clip), TRI_FIELD(ClipAttrs, kind),
    TRI_FIELD(ClipAttrs, max_norm)};

struct LossScalingAttrs {
  double incr_ratio = 2, decr_ratio = 0.5;
  int64_t incr_every_n_steps = 2000, decr_every_n_nan_or_inf = 1;
  static const Field fields[];
};
inline constexpr Field LossScalingAttrs::fields[] = {
    TRI_FIELD(LossScalingAttrs, incr_ratio), TRI_FIELD(LossScalingAttrs, decr_ratio),
    TRI_FIELD(LossScalingAttrs, incr_every_n_steps),
    TRI_FIELD(LossScalingAttrs, decr_every_n_nan_or_inf)};

namespace ops {

// Inputs: parameters (float32, float64, or half precision without a master), each state of all
// parameters (float32; float64 beside float64), low-precision copies, the scalar state (float32
// [rows, n]; absent from optimizers without), gradients (any floating dtype), lr (float32 [1]),
// factors on the gradients (float32, may be null), skip (bool [1], may be null: when set, all
// stays as it is). Outputs: the new values of everything before the gradients.
extern const Op sgd_op, momentum_op, adam_op, adamw_op, adamax_op, rmsprop_op, adagrad_op, lamb_op,
    adadelta_op, nadam_op, radam_op, rprop_op;

// How many states a parameter, and scalars a row, the update of these attributes has.
struct UpdateState {
  int states = 0, scalars = 0;
};
UpdateState update_state(const Op& op, const UpdateAttrs& attrs);

// (gradients..., loss scale float32 [1] or null) -> factors float32 [gradients], found_inf bool [1]
// (some element of any gradient is not finite), norms float32 [groups] (of those with need_clip,
// unscaled). A factor is what the gradient is to be multiplied with: 1 / scale, and the limit.
extern const Op clip_factors_op;

// (gradients..., scale float32 [1]) -> gradients / scale, found_inf bool [1].
extern const Op check_finite_and_unscale_op;

// (scale float32 [1], counts float32 [2]: steps since the last change that went well, that did not;
// found_inf bool [1]) -> scale, counts.
extern const Op update_loss_scaling_op;

}  // namespace ops
}  // namespace trireme
