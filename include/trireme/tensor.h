// Tensor: a handle of a value on a device: its result may be pending, it may take part in
// gradients.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trireme/array.h"

namespace trireme {

struct Variable;  // what a handle refers to (src/runtime/variable.h)

// A handle: copies refer to the same variable. Operators (trireme/ops.h) compute nothing at once;
// they check their arguments, throw if these are wrong, and record. A value is computed when the
// host reads it, or with everything else of a training step at its end.
// Threads: a variable belongs to the thread that made it until it is computed; afterwards it may be
// read from any thread. Methods that need a variable throw kInvalidArgument on an empty handle.
class Tensor {
 public:
  Tensor() = default;
  // A leaf on the current device with these elements; memory is shared on the CPU, so it must not
  // be written while the tensor is in use. stop_gradient is true.
  Tensor(const Array& array);  // NOLINT: an array is a tensor that nobody recorded
  explicit Tensor(std::shared_ptr<Variable> variable) : variable_(std::move(variable)) {}

  bool defined() const { return variable_ != nullptr; }
  const Shape& shape() const;
  DType dtype() const;
  int ndim() const { return shape().rank(); }
  int64_t numel() const { return shape().numel(); }
  int64_t size(int axis) const;       // of a dimension; negative axes count from the end
  const std::string& device() const;  // "cpu", "gpu:0"
  const std::string& name() const;
  void set_name(std::string name);

  // ---- reading: these compute what is pending
  Array numpy() const;  // the elements on the host, row-major; shared with the tensor on the CPU
  double item() const;  // of a tensor with one element
  std::string str() const;  // shape, dtype and elements, shortened in the middle when many

  // ---- gradients
  bool stop_gradient() const;
  void set_stop_gradient(bool stop);  // of a leaf; a computed tensor can only be stopped
  bool is_leaf() const;
  Tensor grad() const;  // empty before backward()
  void set_grad(const Tensor& gradient);
  void clear_gradient();
  // Adds d(this)/d(leaf) to the gradient of every leaf with stop_gradient == false that this
  // depends on. `gradient` is what flows in (ones when empty; then this must have one element).
  // Without retain_graph the history is let go, and a second call throws.
  void backward(const Tensor& gradient = {}, bool retain_graph = false) const;
  Tensor detach() const;  // the same value without history
  Tensor clone() const;   // a copy with history
  void retain_grads();    // keep grad() of a computed tensor as well

  // Rebinds this variable to another value of the same shape and dtype: an update. Handles that
  // were derived before keep the old value. Not recorded in the history.
  void set_value(const Tensor& value);

  // The same elements as another dtype (recorded), on another device (computes what is pending).
  Tensor astype(DType dtype) const;
  Tensor to(const std::string& device) const;

  const std::shared_ptr<Variable>& variable() const { return variable_; }

 private:
  std::shared_ptr<Variable> variable_;
};

// The device on which new tensors are made: "cpu" or "gpu:N". Per thread. Throws kUnavailable, with
// the reason, for a device that cannot be used.
void set_device(const std::string& device);
const std::string& get_device();

// Computes everything that is pending on this thread, and waits for it.
void synchronize();

// Of this thread's generator: dropout, random tensors, initialisers.
void seed(uint64_t value);
std::vector<uint64_t> get_rng_state();  // opaque words
void set_rng_state(const std::vector<uint64_t>& state);

}  // namespace trireme
