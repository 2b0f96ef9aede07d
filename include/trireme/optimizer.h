// Optimizers: Paddle's names, formulas, defaults and state; each step is one fused update.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trireme/lr.h"
#include "trireme/tensor.h"

namespace trireme {

namespace regularizer {
struct L1Decay {
  double coeff = 0;
};
struct L2Decay {
  double coeff = 0;
};
}  // namespace regularizer

namespace nn {

// How gradients are limited before an update; parameters with need_clip == false are left alone.
struct GradClip {
  enum Kind { kNone, kGlobalNorm, kNorm, kValue } kind = kNone;
  double max = 0, min = 0;  // norms: max; values: [min, max]
};
// All gradients by one factor, so that the norm of all together is at most clip_norm.
inline GradClip ClipGradByGlobalNorm(double clip_norm) {
  return {GradClip::kGlobalNorm, clip_norm, 0};
}
inline GradClip ClipGradByNorm(double clip_norm) { return {GradClip::kNorm, clip_norm, 0}; }
inline GradClip ClipGradByValue(double max, double min) { return {GradClip::kValue, max, min}; }
inline GradClip ClipGradByValue(double max) { return ClipGradByValue(max, -max); }

}  // namespace nn

namespace optimizer {

// A number, or a scheduler, which the optimizer reads at each step and the user steps.
struct LearningRate {
  LearningRate(double v) : value(v) {}                                  // NOLINT
  LearningRate(const lr::LRScheduler& s) : value(s()), scheduler(s) {}  // NOLINT
  double value;
  lr::LRScheduler scheduler;  // undefined: none
};

// l1 sign(w) + l2 w, added to the gradient (after clipping). A plain number means L2Decay; for
// AdamW it is the decoupled decay.
struct WeightDecay {
  WeightDecay() = default;
  WeightDecay(double coeff) : l2(coeff) {}              // NOLINT
  WeightDecay(regularizer::L1Decay d) : l1(d.coeff) {}  // NOLINT
  WeightDecay(regularizer::L2Decay d) : l2(d.coeff) {}  // NOLINT
  double l1 = 0, l2 = 0;
};

// Parameters with settings of their own. A parameter's own attributes (nn::ParamAttr:
// learning_rate, regularizer, need_clip) are honoured in and out of groups.
struct ParamGroup {
  std::vector<Tensor> params;
  double learning_rate = 1;  // factor on the optimizer's
  std::optional<WeightDecay> weight_decay{};
  std::optional<nn::GradClip> grad_clip{};
};

// Of paddle.save(optimizer.state_dict()): "<parameter>_moment1_0" ..., the master weights by
// parameter name, the scheduler's numbers (empty without one).
struct State {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::vector<std::pair<std::string, Tensor>> master_weights;
  lr::State LR_Scheduler;
};

// Of one thread. Parameters are updated in place where nobody else holds their memory. Nothing in a
// step waits for the host: it is recorded, and computed by clear_grad(), or with the next operator
// or read.
class Optimizer {
 public:
  virtual ~Optimizer();
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  // Updates every parameter that has a gradient and stop_gradient == false.
  void step();
  // Lets go of the gradients. Right behind step() it computes the step, and the gradients never
  // leave the plan's memory.
  void clear_grad();
  void minimize(const Tensor& loss);  // as in Paddle: step(); backward() was called before

  double get_lr() const;
  void set_lr(double value);  // kInvalidArgument with a scheduler
  void set_lr_scheduler(const lr::LRScheduler& scheduler);

  // Tensors are handles of values as they are now; later steps leave them alone.
  State state_dict() const;
  // Takes values by name; parameters that `state` says nothing of keep theirs. Throws
  // kInvalidArgument when a parameter's state is incomplete or has a wrong shape.
  void set_state_dict(const State& state);

  const std::vector<Tensor>& parameters() const;
  // The norm of all gradients with need_clip in the last step, before clipping; of the first group.
  // Empty unless there is clipping by global norm. Reading it computes the step.
  Tensor grad_norm() const;

  struct Impl;
  Impl& impl() { return *impl_; }

 protected:
  explicit Optimizer(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

// ---- the optimizers, e.g. Adam adam({.learning_rate = 1e-3, .parameters = model.parameters()});
// groups may be given in place of parameters. multi_precision keeps float32 masters of float16 and
// bfloat16 parameters.

struct SGDOptions {
  LearningRate learning_rate = 0.001;
  std::vector<Tensor> parameters{};
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  bool multi_precision = false;
  std::vector<ParamGroup> groups{};
};
struct SGD : Optimizer {
  explicit SGD(const SGDOptions& options);
};

struct MomentumOptions {
  LearningRate learning_rate = 0.001;
  double momentum = 0.9;
  std::vector<Tensor> parameters{};
  bool use_nesterov = false;
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  bool multi_precision = false;
  std::vector<ParamGroup> groups{};
};
struct Momentum : Optimizer {
  explicit Momentum(const MomentumOptions& options);
};

struct AdamOptions {
  LearningRate learning_rate = 0.001;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  std::vector<Tensor> parameters{};
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  bool multi_precision = false, amsgrad = false;
  std::vector<ParamGroup> groups{};
};
struct Adam : Optimizer {
  explicit Adam(const AdamOptions& options);
};

struct AdamWOptions {
  LearningRate learning_rate = 0.001;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  std::vector<Tensor> parameters{};
  double weight_decay = 0.01;  // w shrinks by lr weight_decay w
  std::function<double(const Tensor&)> lr_ratio{};
  // By parameter name: whether it decays; empty: all do.
  std::function<bool(const std::string&)> apply_decay_param_fun{};
  nn::GradClip grad_clip{};
  bool multi_precision = false, amsgrad = false;
  std::vector<ParamGroup> groups{};
};
struct AdamW : Optimizer {
  explicit AdamW(const AdamWOptions& options);
};

struct AdamaxOptions {
  LearningRate learning_rate = 0.001;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  std::vector<Tensor> parameters{};
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  std::vector<ParamGroup> groups{};
};
struct Adamax : Optimizer {
  explicit Adamax(const AdamaxOptions& options);
};

struct RMSPropOptions {
  LearningRate learning_rate;
  double rho = 0.95, epsilon = 1e-6, momentum = 0;
  bool centered = false;
  std::vector<Tensor> parameters{};
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  std::vector<ParamGroup> groups{};
};
struct RMSProp : Optimizer {
  explicit RMSProp(const RMSPropOptions& options);
};

struct AdagradOptions {
  LearningRate learning_rate;
  double epsilon = 1e-6;
  std::vector<Tensor> parameters{};
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  double initial_accumulator_value = 0;
  std::vector<ParamGroup> groups{};
};
struct Adagrad : Optimizer {
  explicit Adagrad(const AdagradOptions& options);
};

struct LambOptions {
  LearningRate learning_rate = 0.001;
  double lamb_weight_decay = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-6;
  std::vector<Tensor> parameters{};
  nn::GradClip grad_clip{};
  std::function<bool(const Tensor&)> exclude_from_weight_decay_fn{};
  bool multi_precision = false, always_adapt = false;
  std::vector<ParamGroup> groups{};
};
struct Lamb : Optimizer {
  explicit Lamb(const LambOptions& options);
};

struct AdadeltaOptions {
  LearningRate learning_rate = 0.001;
  double epsilon = 1e-6, rho = 0.95;
  std::vector<Tensor> parameters{};
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  std::vector<ParamGroup> groups{};
};
struct Adadelta : Optimizer {
  explicit Adadelta(const AdadeltaOptions& options);
};

struct NAdamOptions {
  LearningRate learning_rate = 0.002;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, momentum_decay = 0.004;
  std::vector<Tensor> parameters{};
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  std::vector<ParamGroup> groups{};
};
struct NAdam : Optimizer {
  explicit NAdam(const NAdamOptions& options);
};

struct RAdamOptions {
  LearningRate learning_rate = 0.001;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  std::vector<Tensor> parameters{};
  WeightDecay weight_decay{};
  nn::GradClip grad_clip{};
  std::vector<ParamGroup> groups{};
};
struct RAdam : Optimizer {
  explicit RAdam(const RAdamOptions& options);
};

struct RpropOptions {
  LearningRate learning_rate = 0.001;
  std::pair<double, double> learning_rate_range = {1e-5, 50};
  std::vector<Tensor> parameters{};
  std::pair<double, double> etas = {0.5, 1.2};
  nn::GradClip grad_clip{};
  bool multi_precision = false;
  std::vector<ParamGroup> groups{};
};
struct Rprop : Optimizer {
  explicit Rprop(const RpropOptions& options);
};

}  // namespace optimizer
}  // namespace trireme
