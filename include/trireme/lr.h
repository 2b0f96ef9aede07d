// Learning rates over time: Paddle's optimizer.lr, with its recurrences and defaults.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace trireme::optimizer::lr {

// What a scheduler keeps, by Paddle's names: "last_epoch", "last_lr" ... The state of a scheduler
// inside another one has names with a prefix: "LinearWarmup_LR.last_epoch".
using State = std::vector<std::pair<std::string, double>>;

class Schedule;  // a kind of scheduler (src/train/lr.cpp)

// A handle: copies are the same scheduler, which may so be given to an optimizer and kept. Not for
// use by several threads at once. Arguments are checked: kInvalidArgument.
class LRScheduler {
 public:
  double operator()() const;  // the rate now
  double get_lr() const { return (*this)(); }
  void step();  // to the next epoch (or batch: whatever step() stands for)
  // To a certain epoch; kinds with a closed form use it.
  void step(int64_t epoch);
  State state_dict() const;
  void set_state_dict(const State& state);  // kInvalidArgument when a name is missing
  bool defined() const { return schedule_ != nullptr; }

  LRScheduler() = default;
  explicit LRScheduler(std::shared_ptr<Schedule> schedule) : schedule_(std::move(schedule)) {}

 protected:
  std::shared_ptr<Schedule> schedule_;
};

// The rate of epoch t is written behind each; base is learning_rate.
struct NoamDecay : LRScheduler {  // base d_model^-0.5 min(t^-0.5, t warmup_steps^-1.5)
  NoamDecay(int64_t d_model, int64_t warmup_steps, double learning_rate = 1,
            int64_t last_epoch = -1);
};
struct PiecewiseDecay : LRScheduler {  // values[k] before boundaries[k]
  PiecewiseDecay(std::vector<int64_t> boundaries, std::vector<double> values,
                 int64_t last_epoch = -1);
};
struct NaturalExpDecay : LRScheduler {  // base e^(-gamma t)
  NaturalExpDecay(double learning_rate, double gamma, int64_t last_epoch = -1);
};
struct InverseTimeDecay : LRScheduler {  // base / (1 + gamma t)
  InverseTimeDecay(double learning_rate, double gamma, int64_t last_epoch = -1);
};
struct PolynomialDecay : LRScheduler {  // (base - end_lr) (1 - t / decay_steps)^power + end_lr
  PolynomialDecay(double learning_rate, int64_t decay_steps, double end_lr = 0.0001,
                  double power = 1, bool cycle = false, int64_t last_epoch = -1);
};
struct LinearWarmup : LRScheduler {  // from start_lr to end_lr, then learning_rate
  LinearWarmup(double learning_rate, int64_t warmup_steps, double start_lr, double end_lr,
               int64_t last_epoch = -1);
  // After the warm-up `after` goes on from its epoch 0.
  LinearWarmup(const LRScheduler& after, int64_t warmup_steps, double start_lr, double end_lr,
               int64_t last_epoch = -1);
};
struct ExponentialDecay : LRScheduler {  // base gamma^t
  ExponentialDecay(double learning_rate, double gamma, int64_t last_epoch = -1);
};
struct MultiStepDecay : LRScheduler {  // base gamma^(milestones passed)
  MultiStepDecay(double learning_rate, std::vector<int64_t> milestones, double gamma = 0.1,
                 int64_t last_epoch = -1);
};
struct StepDecay : LRScheduler {  // base gamma^floor(t / step_size)
  StepDecay(double learning_rate, int64_t step_size, double gamma = 0.1, int64_t last_epoch = -1);
};
struct LambdaDecay : LRScheduler {  // base lr_lambda(t)
  LambdaDecay(double learning_rate, std::function<double(int64_t)> lr_lambda,
              int64_t last_epoch = -1);
};
struct MultiplicativeDecay : LRScheduler {  // base lr_lambda(1) ... lr_lambda(t)
  MultiplicativeDecay(double learning_rate, std::function<double(int64_t)> lr_lambda,
                      int64_t last_epoch = -1);
};
struct CosineAnnealingDecay
    : LRScheduler {  // eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2
  CosineAnnealingDecay(double learning_rate, int64_t T_max, double eta_min = 0,
                       int64_t last_epoch = -1);
};
struct CosineAnnealingWarmRestarts : LRScheduler {  // the same over T_0, T_0 T_mult ... epochs
  CosineAnnealingWarmRestarts(double learning_rate, int64_t T_0, int64_t T_mult = 1,
                              double eta_min = 0, int64_t last_epoch = -1);
};
struct LinearLR : LRScheduler {  // base times start_factor ... end_factor over total_steps
  LinearLR(double learning_rate, int64_t total_steps, double start_factor = 1.0 / 3,
           double end_factor = 1, int64_t last_epoch = -1);
};

struct OneCycleOptions {
  double max_learning_rate;
  int64_t total_steps;
  double divide_factor = 25, end_learning_rate = 0.0001, phase_pct = 0.3;
  std::string anneal_strategy = "cos";  // or "linear"
  bool three_phase = false;
  int64_t last_epoch = -1;
};
struct OneCycleLR : LRScheduler {  // up to max_learning_rate and down again
  explicit OneCycleLR(const OneCycleOptions& options);
};

struct CyclicOptions {
  double base_learning_rate, max_learning_rate;
  int64_t step_size_up;
  int64_t step_size_down = 0;       // 0: as step_size_up
  std::string mode = "triangular";  // "triangular2", "exp_range"
  double exp_gamma = 1;
  std::function<double(double)> scale_fn{};  // in place of the mode's
  std::string scale_mode = "cycle";          // what scale_fn gets: or "iterations"
  int64_t last_epoch = -1;
};
struct CyclicLR : LRScheduler {
  explicit CyclicLR(const CyclicOptions& options);
};

struct ReduceOnPlateauOptions {
  std::string mode = "min";  // or "max"
  double factor = 0.1;
  int64_t patience = 10;
  double threshold = 1e-4;
  std::string threshold_mode = "rel";  // or "abs"
  int64_t cooldown = 0;
  double min_lr = 0, epsilon = 1e-8;
};
// The rate falls by `factor` when a metric has not become better for `patience` steps.
struct ReduceOnPlateau : LRScheduler {
  explicit ReduceOnPlateau(double learning_rate, const ReduceOnPlateauOptions& options = {});
  void step(double metrics);
};

}  // namespace trireme::optimizer::lr
