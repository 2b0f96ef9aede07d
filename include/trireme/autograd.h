// Autograd: switching gradients off, gradients of any tensors, operators with their own backward.
#pragma once

#include <functional>
#include <vector>

#include "trireme/tensor.h"

namespace trireme {

// Whether operators on this thread keep the history that gradients need.
bool is_grad_enabled();

// While an object lives, operators on this thread keep no history (no_grad), or do (enable_grad).
class set_grad_enabled {
 public:
  explicit set_grad_enabled(bool enabled);
  ~set_grad_enabled();
  set_grad_enabled(const set_grad_enabled&) = delete;
  set_grad_enabled& operator=(const set_grad_enabled&) = delete;

 private:
  bool before_;
};
struct no_grad : set_grad_enabled {
  no_grad() : set_grad_enabled(false) {}
};
struct enable_grad : set_grad_enabled {
  enable_grad() : set_grad_enabled(true) {}
};

struct GradOptions {
  std::vector<Tensor> grad_outputs{};  // what flows into each output; empty: ones
  bool retain_graph = false;           // keep the history for another call
  bool create_graph = false;           // the result has a history of its own (implies retain_graph)
  bool allow_unused = false;           // an input that no output depends on gives an empty tensor
};

// d(sum of outputs)/d(input) for each input; leaves' grad() stays as it is. Throws kInvalidArgument
// for an input that no output depends on, unless allow_unused.
std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         const GradOptions& options = {});

// backward() of several tensors in one walk.
void backward(const std::vector<Tensor>& tensors, const std::vector<Tensor>& gradients = {},
              bool retain_graph = false);

// Calls f with the gradient of `tensor` during backward(); a tensor that f returns takes its place,
// an empty one leaves it.
void register_hook(const Tensor& tensor, std::function<Tensor(const Tensor&)> f);

// An operator of the user's with its own backward:
//   struct Cube : PyLayer {
//     std::vector<Tensor> forward(const std::vector<Tensor>& in) override {
//       save_for_backward({in[0]});
//       return {in[0] * in[0] * in[0]};
//     }
//     std::vector<Tensor> backward(const std::vector<Tensor>& g) override {
//       Tensor x = saved_tensor()[0];
//       return {g[0] * x * x * 3.0};
//     }
//   };
//   Tensor y = PyLayer::apply<Cube>({x})[0];
class PyLayer {
 public:
  virtual ~PyLayer() = default;
  virtual std::vector<Tensor> forward(const std::vector<Tensor>& inputs) = 0;
  // One gradient an input; an empty tensor where none flows. Gradients that did not come are zeros.
  virtual std::vector<Tensor> backward(const std::vector<Tensor>& out_grads) = 0;

  // Runs forward() without history and records backward() as its gradient.
  static std::vector<Tensor> apply(const std::shared_ptr<PyLayer>& layer,
                                   const std::vector<Tensor>& inputs);
  template <class L, class... Args>
  static std::vector<Tensor> apply(const std::vector<Tensor>& inputs, Args&&... args) {
    return apply(std::make_shared<L>(std::forward<Args>(args)...), inputs);
  }

 protected:
  void save_for_backward(std::vector<Tensor> tensors) { saved_ = std::move(tensors); }
  const std::vector<Tensor>& saved_tensor() const { return saved_; }

 private:
  std::vector<Tensor> saved_;
};
// Activation checkpointing: f(inputs), whose intermediate values are not kept but computed again
// during backward(). f must be pure but for parameters that it reads and dropout, which repeats
// its choice.
std::vector<Tensor> recompute(
    const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& f,
    const std::vector<Tensor>& inputs);

}  // namespace trireme
