// nn.utils: weights computed anew before each call of their layer, by a hook.
#include <algorithm>
#include <cmath>

#include "runtime/variable.h"
#include "trireme/autograd.h"
#include "trireme/math.h"
#include "trireme/nn.h"
#include "trireme/nn_utils.h"
#include "trireme/random.h"

namespace trireme::nn::utils {
namespace {

using Parameters = std::vector<std::pair<std::string, Tensor>>;

Tensor* find(Parameters& all, const std::string& name) {
  const auto it = std::find_if(
      all.begin(), all.end(), [&](const auto& p) { return p.first == name && p.second.defined(); });
  return it == all.end() ? nullptr : &it->second;
}

// The layer's own handle stands for a computed value from now on, with its history.
void become(const Tensor& handle, const Tensor& value) {
  Variable& v = *handle.variable();
  const Variable& from = *value.variable();
  const auto tape = from.tape;
  const int index = from.index;
  const bool stop = from.stop_gradient;
  rebind(handle.variable(), from.slot);
  v.tape = tape;
  v.index = index;
  v.stop_gradient = stop;
  v.grad = nullptr;
}

// Takes the weight out of the layer's parameters.
Tensor taken(Layer& layer, const std::string& name, const char* function) {
  Parameters& all = layer.state()->parameters;
  Tensor* weight = find(all, name);
  TRI_CHECK(weight != nullptr, '[' + std::string(function) + "] the layer has no parameter '" +
                                   name + "', or it is normed already");
  const Tensor t = *weight;
  std::erase_if(all, [&](const auto& p) { return p.first == name; });
  return t;
}

void add_leaf(Layer& layer, const std::string& name, const Tensor& like, const Tensor& value) {
  Tensor leaf(value.numpy());
  leaf.set_name(like.name() + name.substr(name.rfind('_')));
  leaf.set_stop_gradient(like.stop_gradient());
  layer.add_parameter(name, leaf);
}

// Norms of v for each index of `dim` (-1: of all of it), of a shape that broadcasts with v.
Tensor norms_of(const Tensor& v, int64_t dim) {
  Ints axes;
  for (int64_t d = 0; d < v.ndim(); ++d)
    if (d != dim) axes.push_back(d);
  return sqrt(sum(v * v, axes, true));
}

Tensor weight_of(const Tensor& g, const Tensor& v, int64_t dim) {
  const Tensor length = norms_of(v, dim);
  return v * (reshape(g, {length.shape().begin(), length.shape().end()}) / length);
}

Tensor unit(const Tensor& x, double epsilon) {
  return x / clip(sqrt(sum(x * x)), epsilon, HUGE_VAL);
}

bool has_outputs_second(const Layer& layer) {
  return dynamic_cast<const Linear*>(&layer) != nullptr ||
         dynamic_cast<const Conv1DTranspose*>(&layer) != nullptr ||
         dynamic_cast<const Conv2DTranspose*>(&layer) != nullptr;
}

}  // namespace

void weight_norm(Layer& layer, const std::string& name, std::optional<int64_t> dim) {
  const std::weak_ptr<LayerState> state = layer.state();
  Tensor* const there = find(layer.state()->parameters, name);
  const int64_t rank = there != nullptr ? there->ndim() : 1;
  TRI_CHECK(!dim || (*dim >= -1 && *dim < rank),
            "[weight_norm] dim expects a dimension of the weight, got " + std::to_string(*dim));
  const Tensor weight = taken(layer, name, "weight_norm");
  const int64_t axis = dim.value_or(-1);
  {
    const no_grad guard;
    add_leaf(layer, name + "_v", weight, weight);
    add_leaf(layer, name + "_g", weight, reshape(norms_of(weight, axis), {-1}));
  }
  layer.register_forward_pre_hook([state, weight, name, axis](const std::vector<Tensor>&) {
    const auto owner = state.lock();
    if (!owner) return;
    const Tensor *g = find(owner->parameters, name + "_g"),
                 *v = find(owner->parameters, name + "_v");
    if (g != nullptr && v != nullptr) become(weight, weight_of(*g, *v, axis));
  });
  LayerState& s = *layer.state();
  s.normed.push_back({name, weight, axis});
}

void remove_weight_norm(Layer& layer, const std::string& name) {
  LayerState& s = *layer.state();
  const auto it =
      std::find_if(s.normed.begin(), s.normed.end(), [&](const auto& n) { return n.name == name; });
  TRI_CHECK(it != s.normed.end(), "[remove_weight_norm] '" + name + "' has no weight norm");
  const Tensor g = *find(s.parameters, name + "_g"), v = *find(s.parameters, name + "_v");
  Tensor weight = it->weight;
  {
    const no_grad guard;
    become(weight, Tensor(weight_of(g, v, it->dim).numpy()));
  }
  weight.set_stop_gradient(v.stop_gradient());
  std::erase_if(s.parameters,
                [&](const auto& p) { return p.first == name + "_g" || p.first == name + "_v"; });
  s.normed.erase(it);  // the hook finds nothing to do
  layer.add_parameter(name, weight);
}

void spectral_norm(Layer& layer, const std::string& name, int64_t n_power_iterations, double eps,
                   std::optional<int64_t> dim) {
  TRI_CHECK(n_power_iterations > 0, "[spectral_norm] n_power_iterations expects 1 or more, got " +
                                        std::to_string(n_power_iterations));
  const int64_t axis = dim.value_or(has_outputs_second(layer) ? 1 : 0);
  Tensor* const there = find(layer.state()->parameters, name);
  TRI_CHECK(there == nullptr || (axis >= 0 && axis < there->ndim()),
            "[spectral_norm] dim expects a dimension of the weight, got " + std::to_string(axis));
  const std::weak_ptr<LayerState> state = layer.state();
  const Tensor weight = taken(layer, name, "spectral_norm");
  const int64_t rows = weight.size(static_cast<int>(axis));
  add_leaf(layer, name + "_orig", weight, weight);
  {
    const no_grad guard;
    layer.register_buffer(name + "_u", unit(randn({rows}), eps));
    layer.register_buffer(name + "_v", unit(randn({weight.numel() / rows}), eps));
  }
  layer.register_forward_pre_hook([=](const std::vector<Tensor>&) {
    const auto owner = state.lock();
    Tensor *w = find(owner->parameters, name + "_orig"), *u = find(owner->buffers, name + "_u"),
           *v = find(owner->buffers, name + "_v");
    if (w == nullptr || u == nullptr || v == nullptr) return;
    Ints perm{axis};
    for (int64_t d = 0; d < w->ndim(); ++d)
      if (d != axis) perm.push_back(d);
    const Tensor matrix = reshape(transpose(*w, perm), {rows, -1});
    Tensor left = u->detach(), right = v->detach();
    if (owner->training) {
      const no_grad guard;
      for (int64_t i = 0; i < n_power_iterations; ++i) {
        right = unit(matmul(left, matrix), eps);
        left = unit(matmul(matrix, right), eps);
      }
      u->set_value(left);
      v->set_value(right);
    }
    become(weight, *w / sum(left * matmul(matrix, right)));
  });
}

}  // namespace trireme::nn::utils
