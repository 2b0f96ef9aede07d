// Each optimizer's options as settings.
#include "train/optimizer_impl.h"

namespace trireme::optimizer {
namespace {

using Impl = Optimizer::Impl;

template <class O> std::unique_ptr<Impl> make(Settings s, const O& options) {
  s.learning_rate = options.learning_rate;
  s.grad_clip = options.grad_clip;
  if constexpr (requires { options.multi_precision; }) s.multi_precision = options.multi_precision;
  if constexpr (requires { options.weight_decay.l2; }) s.weight_decay = options.weight_decay;
  return std::make_unique<Impl>(std::move(s), options.parameters, options.groups);
}

template <class O> Settings adam_like(const Op& op, const O& o) {
  Settings s{.op = &op};
  s.attrs.beta1 = o.beta1;
  s.attrs.beta2 = o.beta2;
  s.attrs.epsilon = o.epsilon;
  s.states = {{"moment1"}, {"moment2"}};
  s.scalars = {{"beta1_pow_acc", o.beta1}, {"beta2_pow_acc", o.beta2}};
  if constexpr (requires { o.amsgrad; }) {
    s.attrs.amsgrad = o.amsgrad;
    if (o.amsgrad) s.states.push_back({"moment2_max"});
  }
  return s;
}

Settings sgd(const SGDOptions&) { return {.op = &ops::sgd_op}; }

Settings momentum(const MomentumOptions& o) {
  Settings s{.op = &ops::momentum_op, .states = {{"velocity"}}};
  s.attrs.momentum = o.momentum;
  s.attrs.nesterov = o.use_nesterov;
  return s;
}

Settings adamw(const AdamWOptions& o) {
  Settings s = adam_like(ops::adamw_op, o);
  s.decoupled = true;
  s.weight_decay = o.weight_decay;
  s.lr_ratio = o.lr_ratio;
  if (o.apply_decay_param_fun)
    s.decays = [f = o.apply_decay_param_fun](const Tensor& p) { return f(p.name()); };
  return s;
}

Settings adamax(const AdamaxOptions& o) {
  Settings s = adam_like(ops::adamax_op, o);
  s.states = {{"moment"}, {"inf_norm"}};
  s.scalars = {{"beta1_pow_acc", o.beta1}};
  return s;
}

Settings rmsprop(const RMSPropOptions& o) {
  Settings s{.op = &ops::rmsprop_op, .states = {{"momentum"}, {"mean_square"}}};
  s.attrs.rho = o.rho;
  s.attrs.epsilon = o.epsilon;
  s.attrs.momentum = o.momentum;
  s.attrs.centered = o.centered;
  if (o.centered) s.states.push_back({"mean_grad"});
  else s.unused_states = {"mean_grad"};
  return s;
}

Settings adagrad(const AdagradOptions& o) {
  Settings s{.op = &ops::adagrad_op, .states = {{"moment", o.initial_accumulator_value}}};
  s.attrs.epsilon = o.epsilon;
  return s;
}

Settings lamb(const LambOptions& o) {
  Settings s = adam_like(ops::lamb_op, o);
  s.decoupled = true;
  s.weight_decay = o.lamb_weight_decay;
  s.attrs.always_adapt = o.always_adapt;
  if (o.exclude_from_weight_decay_fn)
    s.decays = [f = o.exclude_from_weight_decay_fn](const Tensor& p) { return !f(p); };
  return s;
}

Settings adadelta(const AdadeltaOptions& o) {
  Settings s{.op = &ops::adadelta_op, .states = {{"_avg_squared_grad"}, {"_avg_squared_update"}}};
  s.attrs.rho = o.rho;
  s.attrs.epsilon = o.epsilon;
  return s;
}

Settings nadam(const NAdamOptions& o) {
  Settings s = adam_like(ops::nadam_op, o);
  s.attrs.momentum_decay = o.momentum_decay;
  s.scalars = {{"momentum_decay_pow", 1, true}, {"beta2_pow", 1, true}, {"mu_product", 1, true}};
  return s;
}

Settings radam(const RAdamOptions& o) {
  Settings s = adam_like(ops::radam_op, o);
  s.scalars = {{"beta1_pow", 1, true}, {"beta2_pow", 1, true}, {"rho", 1, true}};
  return s;
}

Settings rprop(const RpropOptions& o) {
  Settings s{.op = &ops::rprop_op, .states = {{"prevs"}, {"learning_rates"}}, .lr_is_state = true};
  s.attrs.eta_down = o.etas.first;
  s.attrs.eta_up = o.etas.second;
  s.attrs.lr_min = o.learning_rate_range.first;
  s.attrs.lr_max = o.learning_rate_range.second;
  return s;
}

}  // namespace

SGD::SGD(const SGDOptions& o) : Optimizer(make(sgd(o), o)) {}
Momentum::Momentum(const MomentumOptions& o) : Optimizer(make(momentum(o), o)) {}
Adam::Adam(const AdamOptions& o) : Optimizer(make(adam_like(ops::adam_op, o), o)) {}
AdamW::AdamW(const AdamWOptions& o) : Optimizer(make(adamw(o), o)) {}
Adamax::Adamax(const AdamaxOptions& o) : Optimizer(make(adamax(o), o)) {}
RMSProp::RMSProp(const RMSPropOptions& o) : Optimizer(make(rmsprop(o), o)) {}
Adagrad::Adagrad(const AdagradOptions& o) : Optimizer(make(adagrad(o), o)) {}
Lamb::Lamb(const LambOptions& o) : Optimizer(make(lamb(o), o)) {}
Adadelta::Adadelta(const AdadeltaOptions& o) : Optimizer(make(adadelta(o), o)) {}
NAdam::NAdam(const NAdamOptions& o) : Optimizer(make(nadam(o), o)) {}
RAdam::RAdam(const RAdamOptions& o) : Optimizer(make(radam(o), o)) {}
Rprop::Rprop(const RpropOptions& o) : Optimizer(make(rprop(o), o)) {}

}  // namespace trireme::optimizer
