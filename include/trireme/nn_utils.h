// Paddle's nn.utils: gradients limited by hand, parameters as one vector.
#pragma once

#include "trireme/ops.h"

namespace trireme::nn::utils {

// Scales the gradients in place so that the norm of all together is at most max_norm; returns the
// norm before. error_if_nonfinite reads it and throws kInvalidArgument when it is not finite.
Tensor clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm, double norm_type = 2,
                       bool error_if_nonfinite = false);
// Each element of the gradients to [-clip_value, clip_value].
void clip_grad_value_(const std::vector<Tensor>& parameters, double clip_value);

Tensor parameters_to_vector(const std::vector<Tensor>& parameters);  // rank 1, with history
void vector_to_parameters(const Tensor& vec, const std::vector<Tensor>& parameters);

}  // namespace trireme::nn::utils
