// Mixed precision: the guard, the loss scale on the device, models in half precision.
#include "trireme/amp.h"

#include <algorithm>

#include "base/cpu_features.h"
#include "ops/pointwise.h"
#include "runtime/amp_mode.h"
#include "runtime/call.h"
#include "train/optimizer_impl.h"
#include "trireme/autograd.h"
#include "trireme/layer.h"
#include "trireme/optimizer.h"

namespace trireme::amp {
namespace {

void check_half(const char* who, DType dtype) {
  TRI_CHECK(dtype == DType::kFloat16 || dtype == DType::kBFloat16,
            std::string("[") + who + "] dtype expects float16 or bfloat16, got " +
                std::string(name_of(dtype)));
}

}  // namespace

auto_cast::auto_cast(const AutoCastOptions& o) : before_(amp_mode()) {
  if (o.enable && o.level != Level::O0) {
    check_half("auto_cast", o.dtype);
    mode_ = std::make_unique<AmpMode>();
    mode_->half = o.dtype;
    mode_->o2 = o.level == Level::O2;
    mode_->white.insert(o.custom_white_list.begin(), o.custom_white_list.end());
    for (const std::string& name : o.custom_black_list) {
      TRI_CHECK(!mode_->white.contains(name), "[auto_cast] '" + name + "' is in both custom lists");
      mode_->black.insert(name);
    }
  }
  set_amp_mode(mode_.get());
}
auto_cast::~auto_cast() { set_amp_mode(before_); }

bool is_autocast_enabled() { return amp_mode() != nullptr; }
DType get_autocast_dtype() { return amp_mode() ? amp_mode()->half : DType::kFloat16; }
bool is_float16_supported(const std::string& device) {
  return (device.empty() ? get_device() : device).starts_with("gpu");
}
bool is_bfloat16_supported(const std::string& device) {
  return is_float16_supported(device) || cpu_features().avx512_bf16 || cpu_features().amx_bf16;
}

// ---- GradScaler

struct GradScaler::Impl {
  GradScalerOptions o;
  bool enabled;
  Tensor scale, counts;  // float32 [1], [2]; made at the first use
  Tensor found_inf;      // of the steps since the last update
  std::vector<optimizer::Optimizer*> unscaled;
  std::vector<Tensor> unscaled_found;  // one each
  double first_scale;
  double first_counts[2] = {0, 0};

  explicit Impl(const GradScalerOptions& options)
      : o(options), enabled(options.enable), first_scale(options.init_loss_scaling) {}

  void prepare(Device& device) {
    if (scale.defined()) return;
    Array s(DType::kFloat32, {1}), c(DType::kFloat32, {2});
    *s.as<float>() = static_cast<float>(first_scale);
    for (int k = 0; k < 2; ++k) c.as<float>()[k] = static_cast<float>(first_counts[k]);
    scale = device_tensor(device, s);
    counts = device_tensor(device, c);
  }

  // Beside what a step recorded: must not flush it, as call() would.
  void add_found(const Tensor& found) {
    if (!found.defined()) return;
    if (!found_inf.defined()) {
      found_inf = found;
      return;
    }
    Recorder& r = Recorder::of(*found.variable()->slot->device);
    const BuilderScope scope(r);
    found_inf = r.tensor(ops::logical_or(r.value(found_inf.variable()), r.value(found.variable())));
  }
};

GradScaler::GradScaler(const GradScalerOptions& o) : impl_(std::make_unique<Impl>(o)) {
  TRI_CHECK(!o.enable || o.incr_ratio > 1, "[GradScaler] incr_ratio expects more than 1");
  TRI_CHECK(!o.enable || o.decr_ratio < 1, "[GradScaler] decr_ratio expects less than 1");
  TRI_CHECK(!o.enable || o.init_loss_scaling > 0,
            "[GradScaler] init_loss_scaling expects a positive number");
}
GradScaler::~GradScaler() = default;

Tensor GradScaler::scale(const Tensor& loss) {
  Impl& s = *impl_;
  const AmpMode* mode = amp_mode();
  if (mode && mode->half == DType::kBFloat16 && s.o.use_dynamic_loss_scaling) s.enabled = false;
  if (!s.enabled) return loss;
  s.prepare(*loss.variable()->slot->device);
  const AmpScope off(nullptr);
  return call([](Value* x, Value* by) { return ops::multiply(ops::cast(x, DType::kFloat32), by); },
              loss, s.scale);
}

void GradScaler::unscale_(optimizer::Optimizer& optimizer) {
  Impl& s = *impl_;
  if (!s.enabled) return;
  TRI_CHECK(std::find(s.unscaled.begin(), s.unscaled.end(), &optimizer) == s.unscaled.end(),
            "[unscale_] the gradients of this optimizer are unscaled since the last update()");
  const std::vector<Tensor> params = optimizer.impl().with_gradients();
  s.unscaled.push_back(&optimizer);
  s.unscaled_found.emplace_back();
  if (params.empty()) return;
  const no_grad guard;
  const AmpScope off(nullptr);
  s.prepare(*params[0].variable()->slot->device);
  std::vector<Tensor> in;
  for (const Tensor& p : params) in.push_back(p.grad());
  in.push_back(s.scale);
  std::vector<Tensor> out = call_list(
      [](std::vector<Value*> v) { return record(ops::check_finite_and_unscale_op, std::move(v)); },
      in);
  for (size_t k = 0; k < params.size(); ++k) {
    Tensor p = params[k];
    p.set_grad(out[k]);
  }
  s.unscaled_found.back() = out.back();
}

void GradScaler::step(optimizer::Optimizer& optimizer) {
  Impl& s = *impl_;
  if (!s.enabled) return optimizer.step();
  const auto at = std::find(s.unscaled.begin(), s.unscaled.end(), &optimizer);
  if (at != s.unscaled.end()) {
    const Tensor found = s.unscaled_found[static_cast<size_t>(at - s.unscaled.begin())];
    s.add_found(optimizer.impl().step({}, found));
    return;
  }
  const std::vector<Tensor> params = optimizer.impl().with_gradients();
  if (params.empty()) return;
  s.prepare(*params[0].variable()->slot->device);
  s.add_found(optimizer.impl().step(s.scale, {}));
}

void GradScaler::update() {
  Impl& s = *impl_;
  s.unscaled.clear();
  s.unscaled_found.clear();
  const Tensor found = std::move(s.found_inf);
  s.found_inf = {};
  if (!s.enabled || !s.o.use_dynamic_loss_scaling || !found.defined()) return;
  const no_grad guard;
  const AmpScope off(nullptr);
  // In the step's own flush, which is due: call() would start it.
  Recorder& r = Recorder::of(*found.variable()->slot->device);
  const BuilderScope scope(r);
  const std::vector<Value*> out =
      record(ops::update_loss_scaling_op,
             {r.value(s.scale.variable()), r.value(s.counts.variable()), r.value(found.variable())},
             LossScalingAttrs{s.o.incr_ratio, s.o.decr_ratio, s.o.incr_every_n_steps,
                              s.o.decr_every_n_nan_or_inf});
  rebind(s.scale.variable(), r.tensor(out[0]).variable()->slot);
  rebind(s.counts.variable(), r.tensor(out[1]).variable()->slot);
  if (eager_mode()) r.flush();
}

void GradScaler::minimize(optimizer::Optimizer& optimizer, const Tensor& scaled_loss) {
  TRI_CHECK(scaled_loss.defined(), "[minimize] expects the scaled loss");
  step(optimizer);
  update();
}

bool GradScaler::is_enable() const { return impl_->enabled; }
double GradScaler::get_loss_scaling() const {
  return impl_->scale.defined() ? impl_->scale.item() : impl_->first_scale;
}

std::vector<std::pair<std::string, double>> GradScaler::state_dict() const {
  const Impl& s = *impl_;
  if (!s.enabled) return {};
  double counts[2] = {s.first_counts[0], s.first_counts[1]};
  if (s.counts.defined()) {
    const Array now = s.counts.numpy();
    for (int k = 0; k < 2; ++k) counts[k] = now.as<float>()[k];
  }
  return {{"scale", get_loss_scaling()},
          {"incr_ratio", s.o.incr_ratio},
          {"decr_ratio", s.o.decr_ratio},
          {"incr_every_n_steps", static_cast<double>(s.o.incr_every_n_steps)},
          {"decr_every_n_nan_or_inf", static_cast<double>(s.o.decr_every_n_nan_or_inf)},
          {"incr_count", counts[0]},
          {"decr_count", counts[1]},
          {"use_dynamic_loss_scaling", s.o.use_dynamic_loss_scaling ? 1.0 : 0.0}};
}

void GradScaler::load_state_dict(const std::vector<std::pair<std::string, double>>& state) {
  Impl& s = *impl_;
  if (!s.enabled) return;
  const auto value = [&state](const char* name) {
    for (const auto& [key, v] : state)
      if (key == name) return v;
    fail(Code::kInvalidArgument,
         std::string("[GradScaler] the state has no '") + name + "'; was the scaler disabled?");
  };
  s.first_scale = value("scale");
  s.first_counts[0] = value("incr_count");
  s.first_counts[1] = value("decr_count");
  s.o.incr_ratio = value("incr_ratio");
  s.o.decr_ratio = value("decr_ratio");
  s.o.incr_every_n_steps = static_cast<int64_t>(value("incr_every_n_steps"));
  s.o.decr_every_n_nan_or_inf = static_cast<int64_t>(value("decr_every_n_nan_or_inf"));
  s.o.use_dynamic_loss_scaling = value("use_dynamic_loss_scaling") != 0;
  s.scale = {};
  s.counts = {};
}

// ---- decorate

namespace {

// By made-up layer names: batch_norm2d_0, layer_norm_1 ...
bool keeps_float32(const std::string& type, DType dtype) {
  const auto is = [&type](const char* kind) { return type.find(kind) != std::string::npos; };
  return is("batch_norm") ||
         (dtype == DType::kFloat16 && (is("layer_norm") || is("instance_norm")));
}

void to_half(nn::LayerState& state, DType dtype) {
  if (!keeps_float32(state.type, dtype))
    for (auto* list : {&state.parameters, &state.buffers})
      for (auto& [name, t] : *list)
        if (t.defined() && t.dtype() == DType::kFloat32)
          rebind(t.variable(), Tensor(t.detach().numpy().to(dtype)).variable()->slot);
  for (auto& [name, below] : state.sublayers) to_half(*below, dtype);
}

}  // namespace

void decorate(nn::Layer& model, const DecorateOptions& o) {
  check_half("decorate", o.dtype);
  if (o.level == Level::O2) to_half(*model.state(), o.dtype);
}

void decorate(nn::Layer& model, optimizer::Optimizer& optimizer, const DecorateOptions& o) {
  decorate(model, o);
  if (o.level == Level::O2 && o.master_weight) optimizer.impl().settings.multi_precision = true;
}

}  // namespace trireme::amp
