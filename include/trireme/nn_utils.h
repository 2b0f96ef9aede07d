// Paddle's nn.utils: gradients limited by hand, parameters as one vector, weights with norms.
#pragma once

#include <optional>

#include "trireme/layer.h"
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

// The parameter becomes two, name_g (lengths) and name_v (directions), from which it is computed
// before each call of the layer: its norms for each index of `dim` are g; without dim, or -1, the
// norm of all of it. The parameter's own handle stands for what was computed last, with history.
// Throws kInvalidArgument when the layer has no such parameter.
void weight_norm(Layer& layer, const std::string& name = "weight", std::optional<int64_t> dim = 0);
void remove_weight_norm(Layer& layer, const std::string& name = "weight");

// The parameter becomes name_orig, divided before each call of the layer by its largest singular
// value: dimension `dim` against the others (by default 1 for Linear and transposed convolutions,
// else 0). In training the buffers name_u and name_v take power iterations towards its vectors.
void spectral_norm(Layer& layer, const std::string& name = "weight", int64_t n_power_iterations = 1,
                   double eps = 1e-12, std::optional<int64_t> dim = {});

}  // namespace trireme::nn::utils
