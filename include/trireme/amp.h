// Automatic mixed precision: auto_cast, GradScaler, decorate; Paddle's amp.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trireme/tensor.h"

namespace trireme {
struct AmpMode;
namespace nn {
class Layer;
}
namespace optimizer {
class Optimizer;
}

namespace amp {

enum class Level { O0, O1, O2 };

struct AutoCastOptions {
  bool enable = true;
  Level level = Level::O1;
  DType dtype = DType::kFloat16;                                      // or kBFloat16
  std::vector<std::string> custom_white_list{}, custom_black_list{};  // operators' names
};

// While an object lives, operators that this thread records have floating inputs cast: in O1 those
// worth it (convolutions, matrix products) to dtype, those that need it (softmax, losses, sums,
// exp, log ...) to float32, and the others follow their inputs (float32 if any is). In O2 only
// operators without half-precision kernels and losses are float32. Gradients pass through the
// casts. Throws kInvalidArgument for another dtype or a name in both lists.
class auto_cast {
 public:
  explicit auto_cast(const AutoCastOptions& options);
  auto_cast() : auto_cast(AutoCastOptions{}) {}
  ~auto_cast();
  auto_cast(const auto_cast&) = delete;
  auto_cast& operator=(const auto_cast&) = delete;

 private:
  std::unique_ptr<AmpMode> mode_;
  const AmpMode* before_;
};

struct GradScalerOptions {
  bool enable = true;
  double init_loss_scaling = 65536, incr_ratio = 2, decr_ratio = 0.5;
  int64_t incr_every_n_steps = 2000, decr_every_n_nan_or_inf = 1;
  bool use_dynamic_loss_scaling = true;
};

// Scales losses, so that float16 gradients do not vanish, and skips updates whose gradients are not
// finite. All numbers stay on the device: nothing here waits. As in Paddle, a scaler with dynamic
// scaling does nothing once it is used under bfloat16.
class GradScaler {
 public:
  explicit GradScaler(const GradScalerOptions& options);
  GradScaler() : GradScaler(GradScalerOptions{}) {}
  ~GradScaler();
  GradScaler(const GradScaler&) = delete;
  GradScaler& operator=(const GradScaler&) = delete;

  Tensor scale(const Tensor& loss);  // float32
  // Divides the gradients of the optimizer's parameters now (to look at or clip them before step);
  // step() and minimize() do it by themselves, within the update. Throws kInvalidArgument the
  // second time before update().
  void unscale_(optimizer::Optimizer& optimizer);
  void step(optimizer::Optimizer& optimizer);
  void update();  // of the scale, after step()
  // step() and update(); loss is the scaled one, its backward() was called before.
  void minimize(optimizer::Optimizer& optimizer, const Tensor& scaled_loss);

  bool is_enable() const;
  double get_loss_scaling() const;  // reads the device

  // By Paddle's names: scale, incr_ratio, decr_ratio, incr_every_n_steps, decr_every_n_nan_or_inf,
  // incr_count, decr_count, use_dynamic_loss_scaling. Reads the device; empty when disabled.
  std::vector<std::pair<std::string, double>> state_dict() const;
  void load_state_dict(const std::vector<std::pair<std::string, double>>& state);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct DecorateOptions {
  Level level = Level::O2;
  DType dtype = DType::kFloat16;
  bool master_weight = true;  // float32 masters in the optimizer
};
// O2: the model's float32 parameters and buffers become half precision, but those of batch norms
// and, for float16, of layer and instance norms. Nothing for O1. Before the first step.
void decorate(nn::Layer& model, const DecorateOptions& options = {});
void decorate(nn::Layer& model, optimizer::Optimizer& optimizer,
              const DecorateOptions& options = {});

// Of this thread now; get_autocast_dtype() is that of the guard, float16 without one.
bool is_autocast_enabled();
DType get_autocast_dtype();
// Whether matrix products and convolutions run in that dtype on the device ("" is the current one)
// at more than float32's speed.
bool is_float16_supported(const std::string& device = {});
bool is_bfloat16_supported(const std::string& device = {});

}  // namespace amp
}  // namespace trireme
