// nn.utils: gradients limited by hand, parameters as one vector.
#include "trireme/nn_utils.h"

#include <cmath>

#include "trireme/autograd.h"
#include "trireme/math.h"

namespace trireme::nn::utils {

Tensor clip_grad_norm_(const std::vector<Tensor>& parameters, double max_norm, double norm_type,
                       bool error_if_nonfinite) {
  const no_grad guard;
  std::vector<Tensor> norms;
  for (const Tensor& p : parameters)
    if (p.grad().defined()) norms.push_back(linalg::norm(p.grad(), norm_type));
  if (norms.empty()) return to_tensor(0.0);
  const Tensor total = linalg::norm(stack(norms), norm_type);
  TRI_CHECK(!error_if_nonfinite || std::isfinite(total.item()),
            "[clip_grad_norm_] the norm of the gradients is not finite");
  const Tensor factor = clip(max_norm / (total + 1e-6), 0, 1);
  for (Tensor p : parameters)
    if (p.grad().defined()) p.set_grad(p.grad() * cast(factor, p.grad().dtype()));
  return total;
}

void clip_grad_value_(const std::vector<Tensor>& parameters, double clip_value) {
  TRI_CHECK(clip_value >= 0,
            "[clip_grad_value_] clip_value expects 0 or more, got " + std::to_string(clip_value));
  const no_grad guard;
  for (Tensor p : parameters)
    if (p.grad().defined()) p.set_grad(clip(p.grad(), -clip_value, clip_value));
}

Tensor parameters_to_vector(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> flat;
  for (const Tensor& p : parameters) flat.push_back(reshape(p, {-1}));
  return concat(flat);
}

void vector_to_parameters(const Tensor& vec, const std::vector<Tensor>& parameters) {
  int64_t total = 0, at = 0;
  for (const Tensor& p : parameters) total += p.numel();
  TRI_CHECK(vec.ndim() == 1 && vec.numel() == total, "[vector_to_parameters] vec expects " +
                                                         std::to_string(total) + " elements, got " +
                                                         vec.shape().str());
  const no_grad guard;
  for (Tensor p : parameters) {
    const Tensor part = slice(vec, {0}, {at}, {at + p.numel()});
    at += p.numel();
    p.set_value(reshape(part, {p.shape().begin(), p.shape().end()}));
  }
}

}  // namespace trireme::nn::utils
