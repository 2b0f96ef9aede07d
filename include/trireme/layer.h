// Layer: a part of a network that owns parameters, buffers and other layers; Paddle's nn.Layer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trireme/tensor.h"

namespace trireme::nn {

// Fills a new parameter of `shape`: returns its values on the host. fan_in and fan_out are derived
// from the shape as Paddle does it. Ready ones stand in trireme/nn_initializer.h.
using Initializer = std::function<Array(const Shape& shape, DType dtype)>;

// Paddle's ParamAttr: what a layer's weight_attr and bias_attr say of a parameter.
struct ParamAttr {
  std::string name{};         // empty: made up, "linear_0.w_0"
  Initializer initializer{};  // empty: the layer's own
  double learning_rate = 1;   // factor on the optimizer's
  bool trainable = true;
  bool need_clip = true;
  bool has_regularizer = false;  // its own decay in place of the optimizer's
  double l1 = 0, l2 = 0;         // l1 sign(w) + l2 w is added to the gradient
  bool absent = false;           // bias_attr=False: no parameter at all
};
inline ParamAttr no_param() {
  ParamAttr attr;
  attr.absent = true;
  return attr;
}

// What a layer and all its copies share: the tree of names behind state_dict().
struct LayerState {
  std::string type;       // "linear", with its number once it has parameters: of their names
  bool numbered = false;  // whether the number is there
  bool training = true;
  std::vector<std::pair<std::string, Tensor>> parameters;
  std::vector<std::pair<std::string, Tensor>> buffers;
  std::vector<bool> persistable;  // one a buffer: whether state_dict() has it
  std::vector<std::pair<std::string, std::shared_ptr<LayerState>>> sublayers;
  struct Normed {  // by utils::weight_norm
    std::string name;
    Tensor weight;
    int64_t dim;
  };
  std::vector<Normed> normed;
  std::vector<std::function<void(const std::vector<Tensor>&)>> pre_hooks;
  std::vector<std::function<Tensor(const std::vector<Tensor>&, const Tensor&)>> post_hooks;
};

using StateDict = std::vector<std::pair<std::string, Tensor>>;  // in registration order

// A handle, as Tensor is: a copy of a layer is the same layer (it shares the parameters). A network
// is a struct with layers as members, which its constructor registers under their names:
//
//   struct LeNet : nn::Layer {
//     nn::Conv2D conv1{1, 6, 5, {.padding = {2}}};
//     nn::Linear fc{400, 10};
//     LeNet() { add_sublayers("conv1", conv1, "fc", fc); }
//     Tensor forward(const Tensor& x) override { return fc(flatten(conv1(x), 1)); }
//   };
class Layer {
 public:
  Layer() : Layer("layer") {}
  explicit Layer(std::string type);
  virtual ~Layer() = default;
  Layer(const Layer&) = default;
  Layer& operator=(const Layer&) = default;

  // Layers override one of these; the base throws kUnimplemented.
  virtual Tensor forward(const Tensor& x);
  virtual Tensor forward(const std::vector<Tensor>& inputs);  // with several inputs

  // forward() with hooks around it; errors inside name the layers that they passed through.
  Tensor operator()(const Tensor& x) { return run({x}); }
  Tensor operator()(const Tensor& x, const Tensor& y) { return run({x, y}); }
  Tensor operator()(const Tensor& x, const Tensor& y, const Tensor& z) { return run({x, y, z}); }
  Tensor operator()(const std::vector<Tensor>& inputs) { return run(inputs); }

  // ---- the tree
  // A parameter made by `attr`, or by the default when it names no initialiser; an empty tensor
  // when attr.absent. Registered under `name`.
  Tensor create_parameter(const std::string& name, const Shape& shape, const ParamAttr& attr,
                          const Initializer& otherwise, bool is_bias = false);
  void add_parameter(const std::string& name, const Tensor& parameter);  // in place of one there
  void register_buffer(const std::string& name, const Tensor& buffer, bool persistable = true);
  void add_sublayer(const std::string& name, const Layer& layer);
  template <class L, class... Rest>
  void add_sublayers(const std::string& name, const L& layer, const Rest&... rest) {
    add_sublayer(name, layer);
    if constexpr (sizeof...(rest) > 0) add_sublayers(rest...);
  }

  std::vector<Tensor> parameters() const;  // each once, in registration order, depth first
  StateDict named_parameters(const std::string& prefix = {}) const;  // "conv1.weight"
  StateDict named_buffers(const std::string& prefix = {}) const;
  // Parameters and persistable buffers by their structured names. The tensors are the layer's own.
  StateDict state_dict() const;
  // Takes values by name. Throws kInvalidArgument for a wrong shape; with strict, for names that
  // are missing or too many; otherwise returns those. A dtype is converted.
  std::vector<std::string> set_state_dict(const StateDict& state, bool strict = true);

  void train();  // of dropout and batch norm, here and below
  void eval();
  bool training() const { return state_->training; }
  void astype(DType dtype);            // parameters and floating buffers
  void to(const std::string& device);  // parameters and buffers
  void clear_gradients();
  int64_t num_parameters() const;  // elements
  std::string str() const;         // the tree with shapes, for printing

  // Called before and after forward(); a tensor that a post hook returns takes the result's place.
  bool has_forward_hooks() const {
    return !state_->pre_hooks.empty() || !state_->post_hooks.empty();
  }
  void register_forward_pre_hook(std::function<void(const std::vector<Tensor>&)> hook);
  void register_forward_post_hook(
      std::function<Tensor(const std::vector<Tensor>&, const Tensor&)> hook);

  const std::shared_ptr<LayerState>& state() const { return state_; }

 private:
  Tensor run(const std::vector<Tensor>& inputs);
  std::shared_ptr<LayerState> state_;
};

}  // namespace trireme::nn
