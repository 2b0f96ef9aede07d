// Recording the updates of optimizers.
#include "trireme/optimizer.h"

#include <algorithm>

#include "ops/elements.h"
#include "runtime/amp_mode.h"
#include "runtime/call.h"
#include "train/optimizer_impl.h"
#include "trireme/autograd.h"

namespace trireme::optimizer {
namespace {

Tensor filled(Device& device, DType dtype, const Shape& shape, double value) {
  Array a(DType::kFloat64, shape);
  std::fill_n(a.as<double>(), a.numel(), value);
  return device_tensor(device, a.to(dtype));
}

bool is_half(DType d) { return d == DType::kFloat16 || d == DType::kBFloat16; }

}  // namespace

Optimizer::Impl::Impl(Settings given, const std::vector<Tensor>& all,
                      const std::vector<ParamGroup>& param_groups)
    : settings(std::move(given)), groups(param_groups) {
  TRI_CHECK(all.empty() || groups.empty(),
            message(settings.op->name, "expects parameters or groups, got both"));
  if (groups.empty()) groups.push_back({all});
  for (size_t g = 0; g < groups.size(); ++g)
    for (const Tensor& p : groups[g].params) {
      TRI_CHECK(p.defined() && is_floating(p.dtype()),
                message(settings.op->name, "expects floating parameters"));
      const bool twice = std::any_of(entries.begin(), entries.end(), [&](const Entry& e) {
        return e.param.variable() == p.variable();
      });
      TRI_CHECK(!twice, message(settings.op->name, "got the parameter ", p.name(), " twice"));
      entries.push_back({p, g, {}, {}, static_cast<int64_t>(entries.size())});
      parameters.push_back(p);
    }
  TRI_CHECK(!entries.empty(), message(settings.op->name, "expects parameters, got none"));
  settings.sizes = ops::update_state(*settings.op, settings.attrs);
}

const nn::GradClip& Optimizer::Impl::clip_of(size_t group) const {
  return groups[group].grad_clip ? *groups[group].grad_clip : settings.grad_clip;
}

double Optimizer::Impl::rate() const {
  return settings.learning_rate.scheduler.defined() ? settings.learning_rate.scheduler()
                                                    : settings.learning_rate.value;
}

// A leaf, not a constant: another rate must not be another plan.
void Optimizer::Impl::upload_rate() {
  const double now = rate();
  if (rate_tensor.defined() && now == rate_on_device) return;
  rate_tensor = filled(*entries[0].param.variable()->slot->device, DType::kFloat32, {1}, now);
  rate_on_device = now;
}

// Makes a parameter's state when it is needed first.
void Optimizer::Impl::prepare(Entry& e) {
  Device& device = *e.param.variable()->slot->device;
  if (!scalars.defined() && settings.sizes.scalars > 0) {
    const auto n = static_cast<int64_t>(settings.scalars.size());
    Array a(DType::kFloat32, {static_cast<int64_t>(entries.size()), n});
    for (int64_t i = 0; i < a.numel(); ++i)
      a.as<float>()[i] = static_cast<float>(settings.scalars[static_cast<size_t>(i % n)].initial);
    scalars = device_tensor(device, a);
  }
  if (settings.multi_precision && is_half(e.param.dtype()) && !e.master.defined())
    e.master = device_tensor(device, e.param.detach().numpy().to(DType::kFloat32));
  if (!e.states.empty()) return;
  const DType dtype = e.param.dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  for (size_t s = 0; s < settings.states.size(); ++s)
    e.states.push_back(
        filled(device, dtype, e.param.shape(),
               settings.lr_is_state && s == 1 ? rate() : settings.states[s].initial));
}

namespace {

const ParameterInfo& info_of(const Tensor& p) {
  static const ParameterInfo defaults;
  return p.variable()->parameter ? *p.variable()->parameter : defaults;
}

// An attribute list that is left out when it says nothing.
void put(std::vector<double>& list, std::vector<double> values, double otherwise) {
  if (std::any_of(values.begin(), values.end(), [&](double v) { return v != otherwise; }))
    list = std::move(values);
}

}  // namespace

UpdateAttrs Optimizer::Impl::attrs_of(size_t group, const std::vector<size_t>& members,
                                      int64_t first) const {
  UpdateAttrs a = settings.attrs;
  a.params = static_cast<int64_t>(members.size());
  a.first_factor = first;
  if (const nn::GradClip& clip = clip_of(group); clip.kind == nn::GradClip::kValue) {
    for (const size_t m : members) a.clamp.push_back(info_of(entries[m].param).need_clip ? 1 : 0);
    a.clamp_min = clip.min;
    a.clamp_max = clip.max;
  }
  const WeightDecay decay = groups[group].weight_decay.value_or(settings.weight_decay);
  std::vector<double> scale, l1, l2, apart;
  for (const size_t m : members) {
    const Entry& e = entries[m];
    const ParameterInfo& info = info_of(e.param);
    const double ratio = settings.lr_ratio ? settings.lr_ratio(e.param) : 1;
    scale.push_back(info.learning_rate * groups[group].learning_rate * ratio);
    const bool decays = !settings.decays || settings.decays(e.param);
    apart.push_back(settings.decoupled && decays ? decay.l2 : 0);
    const bool common = !settings.decoupled && decays;
    const bool own = info.has_regularizer;  // beside AdamW's own decay, as in Paddle
    l1.push_back(own ? info.l1 : common ? decay.l1 : 0);
    l2.push_back(own ? info.l2 : common ? decay.l2 : 0);
    if (e.master.defined()) a.low.push_back(static_cast<int64_t>(scale.size()) - 1);
    if (settings.sizes.scalars > 0) a.rows.push_back(e.row);
  }
  put(a.lr_scale, std::move(scale), 1);
  put(a.l1, std::move(l1), 0);
  put(a.l2, std::move(l2), 0);
  put(a.decay, std::move(apart), 0);
  return a;
}

std::vector<Tensor> Optimizer::Impl::with_gradients() const {
  std::vector<Tensor> all;
  for (const Entry& e : entries)
    if (!e.param.stop_gradient() && e.param.grad().defined()) all.push_back(e.param);
  return all;
}

void Optimizer::Impl::record_factors(Recorder& recorder, const Tensor& scale, Taken& taken) {
  ClipAttrs a;
  bool by_norm = false;
  for (size_t g = 0; g < groups.size(); ++g) {
    const nn::GradClip& clip = clip_of(g);
    a.kind.push_back(clip.kind == nn::GradClip::kGlobalNorm ? ClipAttrs::kGlobalNorm
                     : clip.kind == nn::GradClip::kNorm     ? ClipAttrs::kEachNorm
                                                            : ClipAttrs::kNone);
    a.max_norm.push_back(clip.max);
    by_norm = by_norm || a.kind.back() != ClipAttrs::kNone;
  }
  norms = {};
  if (!by_norm && !scale.defined()) return;
  std::vector<Value*> in;
  for (const size_t k : taken.entries) {
    const Entry& e = entries[k];
    a.group.push_back(static_cast<int64_t>(e.group));
    a.need_clip.push_back(info_of(e.param).need_clip ? 1 : 0);
    in.push_back(recorder.value(e.param.grad().variable()));
  }
  in.push_back(scale.defined() ? recorder.value(scale.variable()) : nullptr);
  const std::vector<Value*> out = record(ops::clip_factors_op, std::move(in), std::move(a));
  taken.factors = recorder.tensor(out[0]);
  if (scale.defined()) taken.found_inf = recorder.tensor(out[1]);
  if (by_norm) norms = recorder.tensor(out[2]);
}

void Optimizer::Impl::record_update(Recorder& recorder, size_t group,
                                    const std::vector<size_t>& members, int64_t first_factor,
                                    const Taken& taken, const Tensor& skip) {
  UpdateAttrs a = attrs_of(group, members, first_factor);
  std::vector<Tensor> changed;  // as inputs and outputs stand
  for (const size_t m : members)
    changed.push_back(entries[m].master.defined() ? entries[m].master : entries[m].param);
  for (size_t s = 0; s < settings.states.size(); ++s)
    for (const size_t m : members) changed.push_back(entries[m].states[s]);
  for (const int64_t k : a.low) changed.push_back(entries[members[static_cast<size_t>(k)]].param);
  if (settings.sizes.scalars > 0) changed.push_back(scalars);
  std::vector<Value*> in = detail::in(recorder, changed);
  for (const size_t m : members) in.push_back(recorder.value(entries[m].param.grad().variable()));
  in.push_back(recorder.value(rate_tensor.variable()));
  in.push_back(taken.factors.defined() ? recorder.value(taken.factors.variable()) : nullptr);
  in.push_back(skip.defined() ? recorder.value(skip.variable()) : nullptr);
  const std::vector<Value*> out = record(*settings.op, std::move(in), std::move(a));
  for (size_t k = 0; k < out.size(); ++k)
    rebind(changed[k].variable(), recorder.tensor(out[k]).variable()->slot);
}

Tensor Optimizer::Impl::step(const Tensor& scale, const Tensor& found_inf) {
  const no_grad guard;
  const AmpScope amp_off(nullptr);
  Taken taken;
  for (size_t k = 0; k < entries.size(); ++k) {
    const Tensor& p = entries[k].param;
    if (!p.stop_gradient() && p.grad().defined()) taken.entries.push_back(k);
  }
  if (taken.entries.empty()) return found_inf;
  Recorder& recorder = recorder_for({&entries[taken.entries[0]].param});
  upload_rate();
  for (const size_t k : taken.entries) prepare(entries[k]);
  const BuilderScope scope(recorder);
  record_factors(recorder, scale, taken);
  const Tensor skip = taken.found_inf.defined() ? taken.found_inf : found_inf;
  for (size_t begin = 0, end = 0; begin < taken.entries.size(); begin = end) {
    const size_t group = entries[taken.entries[begin]].group;
    std::vector<size_t> members;
    for (; end < taken.entries.size() && entries[taken.entries[end]].group == group; ++end)
      members.push_back(taken.entries[end]);
    record_update(recorder, group, members, static_cast<int64_t>(begin), taken, skip);
  }
  if (eager_mode()) recorder.flush();
  else recorder.flush_soon();
  return skip;
}

void Optimizer::Impl::clear_grad() {
  for (Entry& e : entries) e.param.clear_gradient();
  Recorder::flush_due();
}

// ---- state

std::string Optimizer::Impl::state_name(const Entry& e, const std::string& state) const {
  return e.param.name() + (e.master.defined() ? "_fp32_master_0_" : "_") + state + "_0";
}

State Optimizer::Impl::state_dict() const {
  State s;
  const auto add = [&s](const std::string& name, const Tensor& t) {
    Tensor own = t.detach();
    own.set_name(name);
    s.tensors.emplace_back(name, own);
  };
  const Array rows = scalars.defined() ? scalars.numpy() : Array();
  for (const Entry& e : entries) {
    if (e.states.empty() && !e.master.defined() && (!scalars.defined() || !settings.states.empty()))
      continue;
    for (size_t k = 0; k < settings.states.size(); ++k)
      add(state_name(e, settings.states[k].name), e.states[k]);
    Device& device = *e.param.variable()->slot->device;
    for (const std::string& name : settings.unused_states)
      add(state_name(e, name), filled(device, DType::kFloat32, e.param.shape(), 0));
    for (size_t k = 0; k < settings.scalars.size(); ++k) {
      const auto at = static_cast<size_t>(e.row) * settings.scalars.size() + k;
      add(state_name(e, settings.scalars[k].name),
          filled(device, DType::kFloat32, settings.scalars[k].expanded ? e.param.shape() : Shape{1},
                 rows.as<float>()[at]));
    }
    if (e.master.defined()) {
      Tensor own = e.master.detach();
      own.set_name(e.param.name() + "_fp32_master_0");
      s.master_weights.emplace_back(e.param.name(), own);
    }
  }
  if (settings.learning_rate.scheduler.defined())
    s.LR_Scheduler = settings.learning_rate.scheduler.state_dict();
  return s;
}

namespace {

const Tensor* find(const std::vector<std::pair<std::string, Tensor>>& list,
                   const std::string& name) {
  for (const auto& [key, t] : list)
    if (key == name) return &t;
  return nullptr;
}

void take(const std::string& name, Tensor to, const Tensor& from) {
  TRI_CHECK(from.shape() == to.shape(), "[set_state_dict] '" + name + "' expects shape " +
                                            to.shape().str() + ", got " + from.shape().str());
  // A copy: the state's owner and the optimizer go separate ways.
  Array copy(to.dtype(), to.shape());
  const Array given = from.numpy().to(to.dtype());
  std::memcpy(copy.data(), given.data(), copy.bytes());
  rebind(to.variable(), device_tensor(*to.variable()->slot->device, copy).variable()->slot);
}

}  // namespace

void Optimizer::Impl::set_state_dict(const State& s) {
  Recorder::flush_all();
  Array rows;
  for (Entry& e : entries) {
    const Tensor* master = find(s.master_weights, e.param.name());
    const std::string first = settings.states.empty() ? std::string() : settings.states[0].name;
    const auto known = [&](const std::string& name) { return find(s.tensors, name) != nullptr; };
    const bool any = known(e.param.name() + '_' + first + "_0") ||
                     known(e.param.name() + "_fp32_master_0_" + first + "_0");
    if (master == nullptr && !any) continue;
    prepare(e);
    if (master && e.master.defined()) take(e.param.name(), e.master, *master);
    const auto at = [&](const std::string& state) -> const Tensor& {
      const std::string name = state_name(e, state), plain = e.param.name() + '_' + state + "_0";
      const Tensor* t = find(s.tensors, name);
      if (t == nullptr) t = find(s.tensors, plain);
      TRI_CHECK(t != nullptr, "[set_state_dict] there is no value for '" + name + "'");
      return *t;
    };
    for (size_t k = 0; k < settings.states.size(); ++k)
      take(settings.states[k].name, e.states[k], at(settings.states[k].name));
    for (size_t k = 0; k < settings.scalars.size(); ++k) {
      if (!rows.defined()) {
        const Array now = scalars.numpy();
        rows = Array(DType::kFloat32, now.shape());
        std::memcpy(rows.data(), now.data(), now.bytes());
      }
      const Array given = at(settings.scalars[k].name).numpy().to(DType::kFloat32);
      TRI_CHECK(given.numel() > 0,
                "[set_state_dict] '" + settings.scalars[k].name + "' expects a value, got none");
      rows.as<float>()[static_cast<size_t>(e.row) * settings.scalars.size() + k] =
          *given.as<float>();
    }
  }
  if (rows.defined()) scalars = device_tensor(*scalars.variable()->slot->device, rows);
  if (settings.learning_rate.scheduler.defined() && !s.LR_Scheduler.empty())
    settings.learning_rate.scheduler.set_state_dict(s.LR_Scheduler);
}

// ---- the public side

Optimizer::Optimizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Optimizer::~Optimizer() = default;

void Optimizer::step() { (void)impl_->step({}, {}); }
void Optimizer::clear_grad() { impl_->clear_grad(); }
void Optimizer::minimize(const Tensor& loss) {
  TRI_CHECK(loss.defined(), message(impl_->settings.op->name, "minimize expects the loss"));
  step();
}
double Optimizer::get_lr() const { return impl_->rate(); }
void Optimizer::set_lr(double value) {
  TRI_CHECK(!impl_->settings.learning_rate.scheduler.defined(),
            message(impl_->settings.op->name,
                    "set_lr expects a learning rate that is a number; a scheduler gives this one"));
  impl_->settings.learning_rate = value;
}
void Optimizer::set_lr_scheduler(const lr::LRScheduler& scheduler) {
  impl_->settings.learning_rate = scheduler;
}
State Optimizer::state_dict() const { return impl_->state_dict(); }
void Optimizer::set_state_dict(const State& state) { impl_->set_state_dict(state); }
const std::vector<Tensor>& Optimizer::parameters() const { return impl_->parameters; }
Tensor Optimizer::grad_norm() const { return impl_->norms; }

}  // namespace trireme::optimizer
