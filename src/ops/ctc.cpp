// warpctc: softmax of all steps, then the forward and backward sums of each row in log space; the
// gradient comes with the loss.
#include "ops/ctc.h"

#include <limits>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/indices.h"
#include "ops/pointwise.h"
#include "ops/shape.h"
#include "ops/softmax_rows.h"

namespace trireme {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

void infer(const Infer& i) {
  const Shape &x = i.shape(0), &labels = i.shape(1);
  TRI_CHECK(
      (i.dtype(0) == DType::kFloat32 || i.dtype(0) == DType::kFloat64) && x.rank() == 3,
      message(i.op.name, "logits expects float32 or float64 [T, N, C], got ", i.type(0).str()));
  TRI_CHECK(labels.rank() == 2 && labels[0] == x[1],
            message(i.op.name, "labels expects [", x[1], ", L], got ", labels));
  for (const size_t k : {1, 2, 3}) check_index_dtype(i, k);
  for (const size_t k : {2, 3})
    TRI_CHECK(i.shape(k) == Shape{x[1]},
              message(i.op.name, k == 2 ? "logits_length" : "labels_length", " expects [", x[1],
                      "], got ", i.shape(k)));
  const int64_t blank = i.attrs<CtcAttrs>().blank;
  TRI_CHECK(blank >= 0 && blank < x[2],
            message(i.op.name, "blank expects one of ", x[2], " classes, got ", blank));
  i.out(i.dtype(0), Shape{x[1]});
  i.out(i.dtype(0), x);
}

void grad(Grad& g) {
  TRI_CHECK(g.dout(1) == nullptr, message(g.op.name, "the gradient's gradient is not there"));
  if (g.dout(0))
    g.set(0, ops::multiply(g.out(1), ops::reshape(g.dout(0), {1, g.in(0)->type.shape[1], 1})));
}

double log_add(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  return low == kNever ? high : high + std::log1p(std::exp(low - high));
}

struct Plan {
  int64_t steps, batch, classes, length;
  CtcAttrs attrs;
  Indices labels, steps_of, length_of;

  explicit Plan(const Prepare& p)
      : steps(p.in(0).shape[0]),
        batch(p.in(0).shape[1]),
        classes(p.in(0).shape[2]),
        length(p.in(1).shape[1]),
        attrs(p.attrs<CtcAttrs>()),
        labels(p, 1),
        steps_of(p, 2),
        length_of(p, 3) {}
  // Doubles of one row: sums forward, and of one step backward; emissions.
  int64_t states() const { return 2 * length + 1; }
  int64_t doubles() const { return states() * (2 * steps + 2); }

  void check(const Launch& l) const {
    for (int64_t n = 0; n < batch; ++n) {
      const int64_t t = steps_of.get(l, n), m = length_of.get(l, n);
      TRI_CHECK(t >= 0 && t <= steps,
                message("warpctc", "logits_length ", n, " expects 0 to ", steps, ", got ", t));
      TRI_CHECK(m >= 0 && m <= length,
                message("warpctc", "labels_length ", n, " expects 0 to ", length, ", got ", m));
      for (int64_t k = 0; k < m; ++k) {
        const int64_t label = labels.get(l, n * length + k);
        TRI_CHECK(label >= 0 && label < classes,
                  message("warpctc", "label ", k, " of row ", n, " expects one of ", classes,
                          " classes, got ", label));
      }
    }
  }
};

template <class T> void softmax_row(const T* x, T* y, int64_t n) {
  const T top = *std::max_element(x, x + n);
  T sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += y[i] = std::exp(x[i] - top);
  for (int64_t i = 0; i < n; ++i) y[i] /= sum;
}

// The log of the sum of e^x, from a class whose probability is no tiny number.
template <class T> double log_sum(const T* x, const T* y, int64_t n, int64_t likely) {
  int64_t at = likely;
  if (y[at] < T(1e-20)) at = std::max_element(y, y + n) - y;
  return static_cast<double>(x[at]) - std::log(static_cast<double>(y[at]));
}

// One row of the batch. Its state s stands for blank when even, for label s / 2 when odd.
template <class T> struct Row {
  const Plan& p;
  const Launch& l;
  int64_t n;
  double* work;
  int64_t steps = 0, states = 0;
  double *alpha = nullptr, *emission = nullptr, *beta = nullptr, *other = nullptr;

  int64_t symbol(int64_t s) const {
    return s % 2 == 0 ? p.attrs.blank : p.labels.get(l, n * p.length + s / 2);
  }
  bool may_skip(int64_t s) const { return s >= 2 && s % 2 == 1 && symbol(s) != symbol(s - 2); }
  const T* x(int64_t t) const { return l.input<T>(0) + (t * p.batch + n) * p.classes; }
  T* y(int64_t t) const { return l.output<T>(1) + (t * p.batch + n) * p.classes; }

  bool feasible() const {
    int64_t needed = states / 2;
    for (int64_t s = 3; s < states; s += 2) needed += symbol(s) == symbol(s - 2);
    return needed <= steps && steps > 0;
  }

  void run() {
    steps = p.steps_of.get(l, n);
    states = 2 * p.length_of.get(l, n) + 1;
    alpha = work;
    emission = alpha + p.states() * p.steps;
    beta = emission + p.states() * p.steps;
    other = beta + p.states();
    const bool possible = feasible();
    for (int64_t t = possible ? steps : 0; t < p.steps; ++t) std::fill_n(y(t), p.classes, T(0));
    l.output<T>(0)[n] = T(0);
    if (!possible) return;
    emit();
    const double total = forward();
    l.output<T>(0)[n] = static_cast<T>(-total);
    backward(total);
  }

  void emit() {
    for (int64_t t = 0; t < steps; ++t) {
      const double sum = log_sum(x(t), y(t), p.classes, p.attrs.blank);
      for (int64_t s = 0; s < states; ++s)
        emission[t * states + s] = static_cast<double>(x(t)[symbol(s)]) - sum;
    }
  }

  double forward() {
    std::fill_n(alpha, states, kNever);
    for (int64_t s = 0; s < std::min<int64_t>(2, states); ++s) alpha[s] = emission[s];
    for (int64_t t = 1; t < steps; ++t) {
      const double* before = alpha + (t - 1) * states;
      double* now = alpha + t * states;
      for (int64_t s = 0; s < states; ++s) {
        double v = before[s];
        if (s > 0) v = log_add(v, before[s - 1]);
        if (may_skip(s)) v = log_add(v, before[s - 2]);
        now[s] = v + emission[t * states + s];
      }
    }
    const double* last = alpha + (steps - 1) * states;
    return states > 1 ? log_add(last[states - 1], last[states - 2]) : last[0];
  }

  // beta: the sum of what may follow a state, its own emission left out.
  void backward(double total) {
    const double scale = p.attrs.norm_by_times ? 1.0 / static_cast<double>(steps) : 1;
    std::fill_n(beta, states, kNever);
    for (int64_t s = std::max<int64_t>(0, states - 2); s < states; ++s) beta[s] = 0;
    for (int64_t t = steps - 1; t >= 0; --t) {
      T* g = y(t);
      for (int64_t s = 0; s < states; ++s)
        g[symbol(s)] -= static_cast<T>(std::exp(alpha[t * states + s] + beta[s] - total));
      if (scale != 1)
        for (int64_t c = 0; c < p.classes; ++c) g[c] *= static_cast<T>(scale);
      if (t == 0) break;
      const double* e = emission + t * states;
      for (int64_t s = 0; s < states; ++s) {
        double v = beta[s] + e[s];
        if (s + 1 < states) v = log_add(v, beta[s + 1] + e[s + 1]);
        if (s + 2 < states && may_skip(s + 2)) v = log_add(v, beta[s + 2] + e[s + 2]);
        other[s] = v;
      }
      std::swap(beta, other);
    }
  }
};

template <class T> Kernel prepare_as(const Prepare& p) {
  const Plan plan(p);
  const int64_t rows = plan.steps * plan.batch, tasks = std::max(1, num_threads());
  const auto run = [=](const Launch& l) {
    plan.check(l);
    parallel_for(rows, grain_of(plan.classes), [&](int64_t begin, int64_t end, int) {
      const int64_t at = begin * plan.classes;
      if constexpr (std::is_same_v<T, float>) {
        if (cpu_features().avx512)
          return softmax_rows_avx512(l.input<float>(0) + at, l.output<float>(1) + at, end - begin,
                                     plan.classes, false);
      }
      for (int64_t r = begin; r < end; ++r)
        softmax_row(l.input<T>(0) + r * plan.classes, l.output<T>(1) + r * plan.classes,
                    plan.classes);
    });
    parallel_for(plan.batch, 1, [&](int64_t begin, int64_t end, int task) {
      auto* work = static_cast<double*>(l.scratch) + task * plan.doubles();
      for (int64_t n = begin; n < end; ++n) Row<T>{plan, l, n, work}.run();
    });
  };
  return {run, static_cast<size_t>(tasks * plan.doubles()) * sizeof(double)};
}

}  // namespace

namespace ops {

constinit const Op warpctc_op{.name = "warpctc",
                              .inputs = 4,
                              .outputs = 2,
                              .attrs = &attr_info<CtcAttrs>,
                              .infer = infer,
                              .grad = grad,
                              .cpu =
                                  [](const Prepare& p) {
                                    return p.in().dtype == DType::kFloat64 ? prepare_as<double>(p)
                                                                           : prepare_as<float>(p);
                                  },
                              .cuda = TRI_CUDA(cuda_warpctc),
                              .amp = Amp::kFloat};

std::vector<Value*> warpctc(Value* logits, Value* labels, Value* logits_length,
                            Value* labels_length, const CtcAttrs& attrs) {
  return record(warpctc_op, {logits, labels, logits_length, labels_length}, attrs);
}

}  // namespace ops
}  // namespace trireme
