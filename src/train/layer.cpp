// The tree of layers: registering, names, state, running with hooks.
#include "trireme/layer.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "graph/op.h"
#include "runtime/recorder.h"
#include "train/global_initializer.h"

namespace trireme::nn {
namespace {

// "linear_0", "linear_1": as Paddle counts, over the whole process.
std::string unique_name(const std::string& type) {
  static std::mutex mutex;
  static std::map<std::string, int> counts;
  const std::lock_guard lock(mutex);
  return type + '_' + std::to_string(counts[type]++);
}

template <class F> void walk(const LayerState& state, const std::string& prefix, F&& f) {
  f(state, prefix);
  for (const auto& [name, below] : state.sublayers)
    walk(*below, prefix.empty() ? name : prefix + '.' + name, f);
}

std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + '.' + name;
}

template <class F> void visit(LayerState& state, F&& f) {
  f(state);
  for (const auto& [name, below] : state.sublayers) visit(*below, f);
}

thread_local std::vector<const LayerState*> path;

// "in encoder/layers.0": the names from the outermost running layer down.
std::string path_text() {
  std::string text;
  for (size_t i = 1; i < path.size(); ++i)
    for (const auto& [name, below] : path[i - 1]->sublayers)
      if (below.get() == path[i]) text += (text.empty() ? "in " : "/") + name;
  return text;
}

class PathScope {
 public:
  explicit PathScope(const LayerState& state) : before_(current_location()) {
    path.push_back(&state);
    set_location(path_text());
  }
  ~PathScope() {
    path.pop_back();
    set_location(before_);
  }
  PathScope(const PathScope&) = delete;
  PathScope& operator=(const PathScope&) = delete;

 private:
  std::string before_;
};

}  // namespace

Layer::Layer(std::string type) : state_(std::make_shared<LayerState>()) {
  state_->type = std::move(type);
}

Tensor Layer::forward(const Tensor& x) { return forward(std::vector<Tensor>{x}); }
Tensor Layer::forward(const std::vector<Tensor>& inputs) {
  if (inputs.size() == 1)
    fail(Code::kUnimplemented, '[' + state_->type + "] the layer has no forward()");
  fail(Code::kInvalidArgument, '[' + state_->type + "] the layer has no forward() of " +
                                   std::to_string(inputs.size()) + " inputs");
}

Tensor Layer::run(const std::vector<Tensor>& inputs) {
  const PathScope scope(*state_);
  for (const auto& hook : state_->pre_hooks) hook(inputs);
  Tensor result = inputs.size() == 1 ? forward(inputs[0]) : forward(inputs);
  for (const auto& hook : state_->post_hooks)
    if (const Tensor changed = hook(inputs, result); changed.defined()) result = changed;
  return result;
}

// ---- the tree

Tensor Layer::create_parameter(const std::string& name, const Shape& shape, const ParamAttr& attr,
                               const Initializer& otherwise, bool is_bias) {
  if (attr.absent) {
    add_parameter(name, {});
    return {};
  }
  const Initializer& global = is_bias ? global_bias_initializer() : global_weight_initializer();
  const Initializer& make = attr.initializer ? attr.initializer : global ? global : otherwise;
  Tensor t(make(shape, DType::kFloat32));
  TRI_CHECK(t.shape() == shape, '[' + state_->type + "] the initializer of " + name +
                                    " expects shape " + shape.str() + ", gave " + t.shape().str());
  if (!state_->numbered) state_->type = unique_name(state_->type);
  state_->numbered = true;
  const char* kind = is_bias ? ".b_" : ".w_";
  const auto same =
      std::count_if(state_->parameters.begin(), state_->parameters.end(), [&](const auto& p) {
        return p.second.defined() && p.second.name().find(kind) != std::string::npos;
      });
  t.set_name(!attr.name.empty() ? attr.name : state_->type + kind + std::to_string(same));
  t.set_stop_gradient(!attr.trainable);
  auto info = std::make_shared<ParameterInfo>();
  *info = {attr.learning_rate, attr.need_clip, attr.has_regularizer, attr.l1, attr.l2};
  t.variable()->parameter = std::move(info);
  add_parameter(name, t);
  return t;
}

void Layer::add_parameter(const std::string& name, const Tensor& parameter) {
  for (auto& [other, t] : state_->parameters)
    if (other == name) return static_cast<void>(t = parameter);
  state_->parameters.emplace_back(name, parameter);
}

void Layer::register_buffer(const std::string& name, const Tensor& buffer, bool persistable) {
  state_->buffers.emplace_back(name, buffer);
  state_->persistable.push_back(persistable);
}

void Layer::add_sublayer(const std::string& name, const Layer& layer) {
  TRI_CHECK(layer.state() != state_, "[layer] a layer cannot be its own sublayer");
  for (auto& [other, below] : state_->sublayers)
    TRI_CHECK(other != name, "[layer] there is a sublayer '" + name + "' already");
  state_->sublayers.emplace_back(name, layer.state());
}

StateDict Layer::named_parameters(const std::string& prefix) const {
  StateDict all;
  std::unordered_set<const Variable*> seen;
  walk(*state_, prefix, [&](const LayerState& s, const std::string& at) {
    for (const auto& [name, t] : s.parameters)
      if (t.defined() && seen.insert(t.variable().get()).second)
        all.emplace_back(joined(at, name), t);
  });
  return all;
}

std::vector<Tensor> Layer::parameters() const {
  std::vector<Tensor> all;
  for (auto& [name, t] : named_parameters()) all.push_back(std::move(t));
  return all;
}

StateDict Layer::named_buffers(const std::string& prefix) const {
  StateDict all;
  walk(*state_, prefix, [&](const LayerState& s, const std::string& at) {
    for (const auto& [name, t] : s.buffers) all.emplace_back(joined(at, name), t);
  });
  return all;
}

StateDict Layer::state_dict() const {
  StateDict all;
  walk(*state_, {}, [&](const LayerState& s, const std::string& at) {
    for (const auto& [name, t] : s.parameters)
      if (t.defined()) all.emplace_back(joined(at, name), t);
    for (size_t i = 0; i < s.buffers.size(); ++i)
      if (s.persistable[i]) all.emplace_back(joined(at, s.buffers[i].first), s.buffers[i].second);
  });
  return all;
}

std::vector<std::string> Layer::set_state_dict(const StateDict& state, bool strict) {
  std::unordered_map<std::string, Tensor> given(state.begin(), state.end());
  std::vector<std::string> odd;
  for (auto& [name, t] : state_dict()) {
    const auto it = given.find(name);
    if (it == given.end()) {
      TRI_CHECK(!strict, "[set_state_dict] there is no value for '" + name + "'");
      odd.push_back(name);
      continue;
    }
    TRI_CHECK(it->second.shape() == t.shape(), "[set_state_dict] '" + name + "' expects shape " +
                                                   t.shape().str() + ", got " +
                                                   it->second.shape().str());
    // A copy: the state's owner and the layer go separate ways.
    Tensor own = t;
    own.set_value(it->second.astype(t.dtype()).clone());
    given.erase(it);
  }
  for (const auto& [name, t] : given) {
    TRI_CHECK(!strict, "[set_state_dict] the layer has no '" + name + "'");
    odd.push_back(name);
  }
  std::sort(odd.begin(), odd.end());
  return odd;
}

void Layer::train() {
  visit(*state_, [](LayerState& s) { s.training = true; });
}
void Layer::eval() {
  visit(*state_, [](LayerState& s) { s.training = false; });
}

void Layer::astype(DType dtype) {
  visit(*state_, [dtype](LayerState& s) {
    for (auto* list : {&s.parameters, &s.buffers})
      for (auto& [name, t] : *list)
        if (t.defined() && is_floating(t.dtype()))
          t.variable()->slot = Tensor(t.detach().numpy().to(dtype)).variable()->slot;
  });
}

void Layer::to(const std::string& device) {
  visit(*state_, [&device](LayerState& s) {
    for (auto* list : {&s.parameters, &s.buffers})
      for (auto& [name, t] : *list)
        if (t.defined() && t.device() != device) {
          t.variable()->slot = t.detach().to(device).variable()->slot;
          t.clear_gradient();
        }
  });
}

void Layer::clear_gradients() {
  for (Tensor& t : parameters()) t.clear_gradient();
}

int64_t Layer::num_parameters() const {
  int64_t n = 0;
  for (const Tensor& t : parameters()) n += t.numel();
  return n;
}

std::string Layer::str() const {
  std::string text;
  walk(*state_, {}, [&](const LayerState& s, const std::string& at) {
    text += (at.empty() ? "." : at) + " (" + s.type + ")";
    for (const auto& [name, t] : s.parameters)
      if (t.defined()) text += ' ' + name + t.shape().str();
    text += '\n';
  });
  return text;
}

void Layer::register_forward_pre_hook(std::function<void(const std::vector<Tensor>&)> hook) {
  state_->pre_hooks.push_back(std::move(hook));
}
void Layer::register_forward_post_hook(
    std::function<Tensor(const std::vector<Tensor>&, const Tensor&)> hook) {
  state_->post_hooks.push_back(std::move(hook));
}

}  // namespace trireme::nn
