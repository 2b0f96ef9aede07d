// The schedulers of learning rates.
#include "trireme/lr.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "trireme/error.h"

namespace trireme::optimizer::lr {

class Schedule {
 public:
  Schedule(double base, int64_t last_epoch) : base_lr(base), last_lr(base), epoch(last_epoch) {
    TRI_CHECK(base >= 0,
              "[lr] learning_rate expects a value of at least 0, got " + std::to_string(base));
  }
  virtual ~Schedule() = default;

  virtual void step() {
    ++epoch;
    last_lr = rate();
  }
  virtual void step_to(int64_t to) {
    epoch = to;
    const std::optional<double> closed = closed_form();
    last_lr = closed ? *closed : rate();
  }
  virtual double rate() = 0;  // of `epoch`, may look at the last one
  virtual std::optional<double> closed_form() { return {}; }

  // Names and places of the state; the last_epoch and last_lr come last.
  virtual State state() const {
    return {{"last_epoch", static_cast<double>(epoch)}, {"last_lr", last_lr}};
  }
  virtual void set_state(const State& s) {
    epoch = static_cast<int64_t>(find(s, "last_epoch"));
    last_lr = find(s, "last_lr");
  }

  static double find(const State& s, const std::string& name) {
    for (const auto& [key, value] : s)
      if (key == name) return value;
    fail(Code::kInvalidArgument, "[lr] the state has no '" + name + "'");
  }

  double base_lr, last_lr;
  int64_t epoch;
};

namespace {

constexpr double kPi = std::numbers::pi;

void check(bool good, const char* name, const char* what) {
  TRI_CHECK(good, std::string("[") + name + "] " + what);
}

std::string text(double v) { return std::to_string(v); }

// A kind whose rate is a function of the epoch alone.
class Formula : public Schedule {
 public:
  Formula(double base, int64_t last_epoch, std::function<double(double base, int64_t t)> f)
      : Schedule(base, last_epoch), f_(std::move(f)) {}
  double rate() override { return f_(base_lr, epoch); }

 private:
  std::function<double(double, int64_t)> f_;
};

// The first step() is the constructor's, as in Paddle.
template <class S, class... Args> std::shared_ptr<Schedule> begin(Args&&... args) {
  auto s = std::make_shared<S>(std::forward<Args>(args)...);
  s->step();
  return s;
}

class Cosine : public Schedule {
 public:
  Cosine(double base, int64_t last_epoch, int64_t t_max, double eta_min)
      : Schedule(base, last_epoch), t_max_(t_max), eta_min_(eta_min) {}
  double rate() override {
    const auto t_max = static_cast<double>(t_max_);
    if (epoch == 0) return base_lr;
    if ((epoch - 1 - t_max_) % (2 * t_max_) == 0)
      return last_lr + (base_lr - eta_min_) * (1 - std::cos(kPi / t_max)) / 2;
    return (1 + std::cos(kPi * static_cast<double>(epoch) / t_max)) /
               (1 + std::cos(kPi * static_cast<double>(epoch - 1) / t_max)) * (last_lr - eta_min_) +
           eta_min_;
  }
  std::optional<double> closed_form() override {
    return eta_min_ +
           (base_lr - eta_min_) *
               (1 + std::cos(kPi * static_cast<double>(epoch) / static_cast<double>(t_max_))) / 2;
  }

 private:
  int64_t t_max_;
  double eta_min_;
};

class Warmup : public Schedule {
 public:
  Warmup(double after, std::shared_ptr<Schedule> schedule, int64_t steps, double start, double end,
         int64_t last_epoch)
      : Schedule(start, last_epoch),
        after_(after),
        schedule_(std::move(schedule)),
        steps_(steps),
        start_(start),
        end_(end) {}
  double rate() override {
    if (epoch < steps_)
      return (end_ - start_) * static_cast<double>(epoch) / static_cast<double>(steps_) + start_;
    if (schedule_ == nullptr) return after_;
    schedule_->step_to(epoch - steps_);
    return schedule_->last_lr;
  }
  State state() const override {
    State s = Schedule::state();
    if (schedule_)
      for (auto& [name, value] : schedule_->state()) s.emplace_back(kPrefix + name, value);
    return s;
  }
  void set_state(const State& s) override {
    Schedule::set_state(s);
    if (schedule_ == nullptr) return;
    State inner;
    for (const auto& [name, value] : s)
      if (name.rfind(kPrefix, 0) == 0) inner.emplace_back(name.substr(kPrefix.size()), value);
    schedule_->set_state(inner);
  }

 private:
  inline static const std::string kPrefix = "LinearWarmup_LR.";
  double after_;
  std::shared_ptr<Schedule> schedule_;
  int64_t steps_;
  double start_, end_;
};

class Linear : public Schedule {
 public:
  Linear(double base, int64_t last_epoch, int64_t total, double start, double end)
      : Schedule(base, last_epoch), total_(total), start_(start), end_(end) {}
  double rate() override {
    if (epoch == 0) return base_lr * start_;
    if (epoch > total_) return last_lr;
    const double base = static_cast<double>(total_) * start_, factor = end_ - start_;
    return last_lr * (1.0 + factor / (base + static_cast<double>(epoch - 1) * factor));
  }

 private:
  int64_t total_;
  double start_, end_;
};

class Restarts : public Schedule {
 public:
  Restarts(double base, int64_t last_epoch, int64_t first, int64_t mult, double eta_min)
      : Schedule(base, last_epoch), first_(first), mult_(mult), eta_min_(eta_min) {
    period_ = static_cast<double>(first);
    current_ = static_cast<double>(last_epoch);
  }
  double rate() override {
    return eta_min_ + (base_lr - eta_min_) * (1 + std::cos(kPi * current_ / period_)) / 2;
  }
  void step() override {
    if (epoch < 0) return step_to(0);
    ++current_;
    if (current_ >= period_) {
      current_ -= period_;
      period_ *= static_cast<double>(mult_);
    }
    ++epoch;
    last_lr = rate();
  }
  void step_to(int64_t to) override {
    TRI_CHECK(to >= 0,
              "[CosineAnnealingWarmRestarts] epoch expects at least 0, got " + std::to_string(to));
    place(to);
    epoch = to;
    last_lr = rate();
  }
  // Paddle keeps the place in the period out of the state; it follows from the epoch.
  void set_state(const State& s) override {
    Schedule::set_state(s);
    place(epoch);
  }

 private:
  void place(int64_t to) {
    period_ = static_cast<double>(first_);
    auto left = static_cast<double>(to);
    if (mult_ == 1) left = static_cast<double>(to % first_);
    else
      while (left >= period_) {
        left -= period_;
        period_ *= static_cast<double>(mult_);
      }
    current_ = left;
  }

  int64_t first_, mult_;
  double eta_min_, period_, current_;
};

class Plateau : public Schedule {
 public:
  Plateau(double base, ReduceOnPlateauOptions o) : Schedule(base, 0), o_(std::move(o)) {}
  double rate() override { return last_lr; }
  void step() override {
    fail(Code::kInvalidArgument, "[ReduceOnPlateau] step() expects a metric");
  }
  void step_to(int64_t) override { step(); }

  void metric(double m) {
    ++epoch;
    if (cooldown_ > 0) {
      --cooldown_;
      return;
    }
    if (!best_ || better(m, *best_)) {
      best_ = m;
      bad_ = 0;
    } else {
      ++bad_;
    }
    if (bad_ <= o_.patience) return;
    cooldown_ = o_.cooldown;
    bad_ = 0;
    const double lower = std::max(last_lr * o_.factor, o_.min_lr);
    if (last_lr - lower > o_.epsilon) last_lr = lower;
  }
  State state() const override {
    State s{{"cooldown_counter", static_cast<double>(cooldown_)}};
    if (best_) s.emplace_back("best", *best_);
    s.emplace_back("num_bad_epochs", static_cast<double>(bad_));
    for (const auto& entry : Schedule::state()) s.push_back(entry);
    return s;
  }
  void set_state(const State& s) override {
    cooldown_ = static_cast<int64_t>(find(s, "cooldown_counter"));
    bad_ = static_cast<int64_t>(find(s, "num_bad_epochs"));
    best_.reset();
    for (const auto& [name, value] : s)
      if (name == "best") best_ = value;
    Schedule::set_state(s);
  }

 private:
  bool better(double m, double best) const {
    const bool relative = o_.threshold_mode == "rel";
    const double by = relative ? best * o_.threshold : o_.threshold;
    return o_.mode == "min" ? m < best - by : m > best + by;
  }

  const ReduceOnPlateauOptions o_;
  int64_t cooldown_ = 0, bad_ = 0;
  std::optional<double> best_;
};

std::shared_ptr<Schedule> warmup(double after, std::shared_ptr<Schedule> schedule, int64_t steps,
                                 double start, double end, int64_t last_epoch) {
  check(steps > 0, "LinearWarmup", "warmup_steps expects a positive number");
  check(end > start, "LinearWarmup", "end_lr expects more than start_lr");
  return begin<Warmup>(after, std::move(schedule), steps, start, end, last_epoch);
}

}  // namespace

// ---- the handle

double LRScheduler::operator()() const {
  check(defined(), "lr", "the scheduler is empty");
  return schedule_->last_lr;
}
void LRScheduler::step() {
  check(defined(), "lr", "the scheduler is empty");
  schedule_->step();
}
void LRScheduler::step(int64_t epoch) {
  check(defined(), "lr", "the scheduler is empty");
  schedule_->step_to(epoch);
}
State LRScheduler::state_dict() const {
  check(defined(), "lr", "the scheduler is empty");
  return schedule_->state();
}
void LRScheduler::set_state_dict(const State& state) {
  check(defined(), "lr", "the scheduler is empty");
  schedule_->set_state(state);
}

// ---- the kinds

NoamDecay::NoamDecay(int64_t d_model, int64_t warmup_steps, double learning_rate,
                     int64_t last_epoch) {
  check(d_model > 0, "NoamDecay", "d_model expects a positive number");
  schedule_ = begin<Formula>(learning_rate, last_epoch, [=](double base, int64_t epoch) {
    const auto t = static_cast<double>(epoch);
    const double a = epoch == 0 ? 1 : std::pow(t, -0.5);
    const double b = std::pow(static_cast<double>(warmup_steps), -1.5) * t;
    return base * std::pow(static_cast<double>(d_model), -0.5) * std::min(a, b);
  });
}

PiecewiseDecay::PiecewiseDecay(std::vector<int64_t> boundaries, std::vector<double> values,
                               int64_t last_epoch) {
  check(!boundaries.empty(), "PiecewiseDecay", "boundaries expects some, got none");
  check(values.size() > boundaries.size(), "PiecewiseDecay",
        "values expects one more than boundaries");
  schedule_ = begin<Formula>(0.1, last_epoch,
                             [b = std::move(boundaries), v = std::move(values)](double, int64_t t) {
                               for (size_t i = 0; i < b.size(); ++i)
                                 if (t < b[i]) return v[i];
                               return v.back();
                             });
}

NaturalExpDecay::NaturalExpDecay(double learning_rate, double gamma, int64_t last_epoch) {
  check(gamma > 0, "NaturalExpDecay", "gamma expects a positive number");
  schedule_ = begin<Formula>(learning_rate, last_epoch, [=](double base, int64_t t) {
    return base * std::exp(-gamma * static_cast<double>(t));
  });
}

InverseTimeDecay::InverseTimeDecay(double learning_rate, double gamma, int64_t last_epoch) {
  schedule_ = begin<Formula>(learning_rate, last_epoch, [=](double base, int64_t t) {
    return base / (1 + gamma * static_cast<double>(t));
  });
}

PolynomialDecay::PolynomialDecay(double learning_rate, int64_t decay_steps, double end_lr,
                                 double power, bool cycle, int64_t last_epoch) {
  check(decay_steps > 0, "PolynomialDecay", "decay_steps expects a positive number");
  check(power > 0, "PolynomialDecay", "power expects a positive number");
  schedule_ = begin<Formula>(learning_rate, last_epoch, [=](double base, int64_t epoch) {
    auto t = static_cast<double>(epoch), steps = static_cast<double>(decay_steps);
    if (cycle) steps *= epoch == 0 ? 1 : std::ceil(t / steps);
    else t = std::min(t, steps);
    return (base - end_lr) * std::pow(1 - t / steps, power) + end_lr;
  });
}

LinearWarmup::LinearWarmup(double learning_rate, int64_t warmup_steps, double start_lr,
                           double end_lr, int64_t last_epoch) {
  schedule_ = warmup(learning_rate, nullptr, warmup_steps, start_lr, end_lr, last_epoch);
}
LinearWarmup::LinearWarmup(const LRScheduler& after, int64_t warmup_steps, double start_lr,
                           double end_lr, int64_t last_epoch) {
  struct Open : LRScheduler {
    explicit Open(const LRScheduler& s) : LRScheduler(s) {}
    const std::shared_ptr<Schedule>& schedule() const { return schedule_; }
  };
  check(after.defined(), "LinearWarmup", "the scheduler is empty");
  schedule_ = warmup(0, Open(after).schedule(), warmup_steps, start_lr, end_lr, last_epoch);
}

ExponentialDecay::ExponentialDecay(double learning_rate, double gamma, int64_t last_epoch) {
  check(gamma > 0 && gamma < 1, "ExponentialDecay", "gamma expects a number in (0, 1)");
  schedule_ = begin<Formula>(learning_rate, last_epoch, [=](double base, int64_t t) {
    return base * std::pow(gamma, static_cast<double>(t));
  });
}

MultiStepDecay::MultiStepDecay(double learning_rate, std::vector<int64_t> milestones, double gamma,
                               int64_t last_epoch) {
  check(std::is_sorted(milestones.begin(), milestones.end(), std::less_equal<>()), "MultiStepDecay",
        "milestones expects rising numbers");
  check(gamma < 1, "MultiStepDecay", "gamma expects less than 1");
  schedule_ = begin<Formula>(learning_rate, last_epoch,
                             [gamma, m = std::move(milestones)](double base, int64_t t) {
                               size_t passed = 0;
                               while (passed < m.size() && t >= m[passed]) ++passed;
                               return base * std::pow(gamma, static_cast<double>(passed));
                             });
}

StepDecay::StepDecay(double learning_rate, int64_t step_size, double gamma, int64_t last_epoch) {
  check(step_size > 0, "StepDecay", "step_size expects a positive number");
  check(gamma < 1, "StepDecay", "gamma expects less than 1");
  schedule_ = begin<Formula>(learning_rate, last_epoch, [=](double base, int64_t t) {
    return base * std::pow(gamma, static_cast<double>(t / step_size));
  });
}

LambdaDecay::LambdaDecay(double learning_rate, std::function<double(int64_t)> lr_lambda,
                         int64_t last_epoch) {
  check(static_cast<bool>(lr_lambda), "LambdaDecay", "lr_lambda expects a function");
  schedule_ =
      begin<Formula>(learning_rate, last_epoch,
                     [f = std::move(lr_lambda)](double base, int64_t t) { return base * f(t); });
}

MultiplicativeDecay::MultiplicativeDecay(double learning_rate,
                                         std::function<double(int64_t)> lr_lambda,
                                         int64_t last_epoch) {
  check(static_cast<bool>(lr_lambda), "MultiplicativeDecay", "lr_lambda expects a function");
  schedule_ =
      begin<Formula>(learning_rate, last_epoch, [f = std::move(lr_lambda)](double base, int64_t t) {
        for (int64_t i = 1; i <= t; ++i) base = base * f(i);
        return base;
      });
}

CosineAnnealingDecay::CosineAnnealingDecay(double learning_rate, int64_t T_max, double eta_min,
                                           int64_t last_epoch) {
  check(T_max > 0, "CosineAnnealingDecay", "T_max expects a positive number");
  schedule_ = begin<Cosine>(learning_rate, last_epoch, T_max, eta_min);
}

CosineAnnealingWarmRestarts::CosineAnnealingWarmRestarts(double learning_rate, int64_t T_0,
                                                         int64_t T_mult, double eta_min,
                                                         int64_t last_epoch) {
  check(T_0 > 0, "CosineAnnealingWarmRestarts", "T_0 expects a positive number");
  check(T_mult >= 1, "CosineAnnealingWarmRestarts", "T_mult expects at least 1");
  schedule_ = begin<Restarts>(learning_rate, last_epoch, T_0, T_mult, eta_min);
}

LinearLR::LinearLR(double learning_rate, int64_t total_steps, double start_factor,
                   double end_factor, int64_t last_epoch) {
  check(start_factor > 0 && start_factor <= 1, "LinearLR",
        "start_factor expects a number in (0, 1]");
  check(end_factor >= 0 && end_factor <= 1, "LinearLR", "end_factor expects a number in [0, 1]");
  check(total_steps > 0, "LinearLR", "total_steps expects a positive number");
  schedule_ = begin<Linear>(learning_rate, last_epoch, total_steps, start_factor, end_factor);
}

OneCycleLR::OneCycleLR(const OneCycleOptions& o) {
  check(o.max_learning_rate >= 0 && o.end_learning_rate >= 0, "OneCycleLR",
        "learning rates expect at least 0");
  check(o.total_steps > 0, "OneCycleLR", "total_steps expects a positive number");
  check(o.phase_pct >= 0 && o.phase_pct <= (o.three_phase ? 0.5 : 1), "OneCycleLR",
        "phase_pct expects a number in [0, 1], below 0.5 with three phases");
  check(o.anneal_strategy == "cos" || o.anneal_strategy == "linear", "OneCycleLR",
        "anneal_strategy expects cos or linear");
  const auto total = static_cast<double>(o.total_steps);
  const double initial = o.max_learning_rate / o.divide_factor, peak = o.phase_pct * total - 1;
  std::vector<double> ends{0, peak, total - 1}, rates{initial, o.max_learning_rate};
  if (o.three_phase) {
    ends.insert(ends.begin() + 2, 2 * o.phase_pct * total - 2);
    rates.push_back(initial);
  }
  rates.push_back(o.end_learning_rate);
  schedule_ = begin<Formula>(
      initial, o.last_epoch,
      [ends, rates, total, cosine = o.anneal_strategy == "cos"](double, int64_t epoch) {
        const auto t = static_cast<double>(epoch);
        TRI_CHECK(t <= total, "[OneCycleLR] step() was called " + text(t) +
                                  " times; total_steps is " + text(total));
        size_t i = 0;
        while (i + 2 < rates.size() && t > ends[i + 1]) ++i;
        const double part = (t - ends[i]) / (ends[i + 1] - ends[i]);
        const double from = rates[i], to = rates[i + 1];
        return cosine ? to + (from - to) / 2.0 * (std::cos(kPi * part) + 1)
                      : (to - from) * part + from;
      });
}

CyclicLR::CyclicLR(const CyclicOptions& o) {
  check(o.max_learning_rate >= 0, "CyclicLR", "max_learning_rate expects at least 0");
  check(o.step_size_up > 0 && o.step_size_down >= 0, "CyclicLR",
        "step sizes expect positive numbers");
  const bool known = o.mode == "triangular" || o.mode == "triangular2" || o.mode == "exp_range";
  check(known || o.scale_fn, "CyclicLR",
        "mode expects triangular, triangular2, exp_range or a scale_fn");
  check(o.scale_mode == "cycle" || o.scale_mode == "iterations", "CyclicLR",
        "scale_mode expects cycle or iterations");
  const auto up = static_cast<double>(o.step_size_up);
  const double down = o.step_size_down > 0 ? static_cast<double>(o.step_size_down) : up;
  const double size = up + down, rising = up / size;
  const double amplitude = o.max_learning_rate - o.base_learning_rate;
  std::function<double(double)> scale = o.scale_fn;
  bool by_cycle = o.scale_mode == "cycle";
  if (!scale) {
    by_cycle = o.mode != "exp_range";
    if (o.mode == "triangular") scale = [](double) { return 1.0; };
    else if (o.mode == "triangular2") scale = [](double x) { return 1 / std::pow(2.0, x - 1); };
    else scale = [gamma = o.exp_gamma](double x) { return std::pow(gamma, x); };
  }
  schedule_ = begin<Formula>(o.base_learning_rate, o.last_epoch, [=](double base, int64_t epoch) {
    const auto t = static_cast<double>(epoch);
    const double cycle = 1 + std::floor(t / size), at = 1.0 + t / size - cycle;
    const double part = at <= rising ? at / rising : (1 - at) / (1 - rising);
    return base + amplitude * part * scale(by_cycle ? cycle : t);
  });
}

ReduceOnPlateau::ReduceOnPlateau(double learning_rate, const ReduceOnPlateauOptions& o) {
  check(o.mode == "min" || o.mode == "max", "ReduceOnPlateau", "mode expects min or max");
  check(o.factor < 1, "ReduceOnPlateau", "factor expects less than 1");
  check(o.threshold_mode == "rel" || o.threshold_mode == "abs", "ReduceOnPlateau",
        "threshold_mode expects rel or abs");
  schedule_ = std::make_shared<Plateau>(learning_rate, o);
}
void ReduceOnPlateau::step(double metrics) { static_cast<Plateau&>(*schedule_).metric(metrics); }

}  // namespace trireme::optimizer::lr
