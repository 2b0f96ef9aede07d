// What stands behind an optimizer: settings, the state of each parameter, recording a step.
#pragma once

#include "ops/optimizer.h"
#include "runtime/recorder.h"
#include "trireme/optimizer.h"

namespace trireme::optimizer {

// A state of each parameter's size, or (scalar) one number a parameter.
struct StateSpec {
  std::string name;  // "moment1"
  double initial = 0;
  bool expanded = false;  // of scalars: saved in the parameter's shape, as Paddle keeps it
};

// What an optimizer is, besides its parameters.
struct Settings {
  const Op* op = nullptr;
  ops::UpdateState sizes{};
  UpdateAttrs attrs{};
  LearningRate learning_rate{0.001};
  std::vector<StateSpec> states{}, scalars{};
  std::vector<std::string> unused_states{};  // Paddle keeps them, they stay zero
  WeightDecay weight_decay{};
  bool decoupled = false;  // weight_decay is not added to the gradient (adamw, lamb)
  nn::GradClip grad_clip{};
  bool multi_precision = false;
  bool lr_is_state = false;  // rprop: the second state begins as the learning rate
  std::function<bool(const Tensor&)> decays{};  // empty: all
  std::function<double(const Tensor&)> lr_ratio{};
};

struct Optimizer::Impl {
  struct Entry {
    Tensor param;
    size_t group = 0;
    Tensor master;               // empty: none
    std::vector<Tensor> states;  // empty until the first step
    int64_t row = 0;
  };

  Impl(Settings settings, const std::vector<Tensor>& parameters,
       const std::vector<ParamGroup>& param_groups);

  // Records the update. `scale`: the gradients are that many times too large (may be empty);
  // `found_inf`: skip when set, decided before (may be empty). Returns the found_inf that counts,
  // empty without scale and found_inf.
  Tensor step(const Tensor& scale, const Tensor& found_inf);
  // What the parameters that an update would take have as gradients.
  std::vector<Tensor> with_gradients() const;
  void clear_grad();

  State state_dict() const;
  void set_state_dict(const State& state);
  double rate() const;

  Settings settings;
  std::vector<ParamGroup> groups;  // settings of each
  std::vector<Entry> entries;
  std::vector<Tensor> parameters;
  Tensor rate_tensor;  // on the device
  double rate_on_device = 0;
  Tensor scalars;  // float32 [entries, n]
  Tensor norms;    // of the last step

 private:
  struct Taken {
    std::vector<size_t> entries;
    Tensor factors, found_inf;
    bool scaled = false;
  };
  const nn::GradClip& clip_of(size_t group) const;
  void prepare(Entry& entry);
  void upload_rate();
  void record_factors(Recorder& recorder, const Tensor& scale, Taken& taken);
  void record_update(Recorder& recorder, size_t group, const std::vector<size_t>& members,
                     int64_t first_factor, const Taken& taken, const Tensor& skip);
  UpdateAttrs attrs_of(size_t group, const std::vector<size_t>& members, int64_t first) const;
  std::string state_name(const Entry& entry, const std::string& state) const;
};

}  // namespace trireme::optimizer
