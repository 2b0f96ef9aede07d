// Variable: what a Tensor refers to; Slot: its value, pending or computed; TapeNode: how it came to
// be.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "graph/graph.h"
#include "trireme/tensor.h"

namespace trireme {

class Recorder;
struct TapeNode;

// One value. It is either computed (`storage`), or pending in the graph of `recorder`, or both
// known and already used there as an input.
struct Slot {
  Type type;
  Device* device = nullptr;
  Storage storage;               // set when it is computed
  Recorder* recorder = nullptr;  // in whose graph `value` stands; null: in none
  Value* value = nullptr;
  std::shared_ptr<const Error> error;  // the flush that should have computed it failed

  bool computed() const { return storage.data != nullptr; }
};

// What a layer says of a parameter to the optimizer (Paddle's ParamAttr).
struct ParameterInfo {
  double learning_rate = 1;  // factor on the optimizer's
  bool need_clip = true;
  bool has_regularizer = false;  // its own, in place of the optimizer's weight decay
  double l1 = 0, l2 = 0;         // of the regularizer: l1 sign(w) + l2 w is added to the gradient
};

struct Variable {
  std::shared_ptr<Slot> slot;  // nobody else's but the tape's
  bool stop_gradient = true;
  std::shared_ptr<TapeNode> tape;  // null: a leaf
  int index = 0;                   // which output of `tape`
  std::shared_ptr<Variable> grad;
  std::string name;
  std::shared_ptr<const ParameterInfo> parameter;  // null: no parameter, or one with the defaults
  std::vector<std::function<Tensor(const Tensor&)>> hooks;  // of leaves; others are in the tape
};

// One operator in the history. Holds values, not variables, so that nothing holds itself.
struct TapeNode {
  struct Input {
    std::shared_ptr<Slot> slot;  // null: an absent input
    bool needs_gradient = false;
    std::shared_ptr<TapeNode> tape;  // where its gradient goes on
    int index = 0;
    std::shared_ptr<Variable> leaf;  // or where it ends
  };
  using Custom = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

  ~TapeNode();  // without recursion: histories are long

  uint64_t sequence = 0;  // later operators have larger ones
  const Op* op = nullptr;
  Attrs attrs;
  std::vector<Input> inputs;
  std::vector<std::shared_ptr<Slot>> outputs;
  std::vector<Type> types;  // of the outputs
  std::string where;
  Custom custom;                                                         // in place of op->grad
  std::vector<std::vector<std::function<Tensor(const Tensor&)>>> hooks;  // one list an output
  bool released = false;  // backward() without retain_graph went over it
};

// The variable stands for another value from now on: an update. Nothing is recorded.
void rebind(const std::shared_ptr<Variable>& variable, std::shared_ptr<Slot> slot);

// The value's slot; what is pending is computed first. Throws what its flush threw.
Slot& computed(const Tensor& t);

// A leaf on that device with a copy of these elements.
Tensor device_tensor(Device& device, const Array& array);

uint64_t next_sequence();  // of this thread's history

bool grad_enabled();  // of this thread
void set_grad_mode(bool enabled);

// One gradient a target; null where nothing flows. Targets are variables; `accumulate` adds to the
// leaves' grad as well.
struct BackwardOptions {
  bool accumulate = true, retain_graph = false, create_graph = false;
};
std::vector<Tensor> run_backward(const std::vector<Tensor>& roots,
                                 const std::vector<Tensor>& gradients,
                                 const std::vector<Tensor>& targets,
                                 const BackwardOptions& options);

}  // namespace trireme
