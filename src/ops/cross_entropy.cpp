// cross_entropy_with_softmax and its gradient: a row of classes is read once each way.
#include "ops/cross_entropy.h"

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/indices.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "ops/softmax_rows.h"

namespace trireme {
namespace {

Shape loss_shape(Shape logits, int64_t axis) {
  logits[static_cast<int>(axis)] = 1;
  return logits;
}

// The label beside logits (or their softmax) of this type.
void check_label(const Infer& i, size_t label, size_t logits) {
  const auto& a = i.attrs<CrossEntropyAttrs>();
  const Shape& x = i.shape(logits);
  TRI_CHECK(is_floating(i.dtype(logits)),
            message(i.op.name, "logits expect a floating dtype, got ", i.dtype(logits)));
  TRI_CHECK(a.axis >= 0 && a.axis < x.rank(),
            message(i.op.name, "axis expects a dimension of ", x, ", got ", a.axis));
  TRI_CHECK(x[static_cast<int>(a.axis)] > 0,
            message(i.op.name, "logits of shape ", x, " have no classes along axis ", a.axis));
  const Shape expected = a.soft_label ? x : loss_shape(x, a.axis);
  TRI_CHECK(i.shape(label) == expected,
            message(i.op.name, "label expects shape ", expected, ", got ", i.shape(label)));
  if (!a.soft_label) return check_index_dtype(i, label);
  TRI_CHECK(i.dtype(label) == i.dtype(logits),
            message(i.op.name, "soft labels expect ", i.dtype(logits), ", got ", i.dtype(label)));
}

void infer(const Infer& i) {
  check_label(i, 1, 0);
  i.out(i.dtype(0), i.shape(0));
  i.out(i.dtype(0), loss_shape(i.shape(0), i.attrs<CrossEntropyAttrs>().axis));
}

void infer_grad(const Infer& i) {
  check_label(i, 0, 1);
  const Shape expected = loss_shape(i.shape(1), i.attrs<CrossEntropyAttrs>().axis);
  TRI_CHECK(
      i.shape(2) == expected && i.dtype(2) == i.dtype(1),
      message(i.op.name, "dloss expects ", i.dtype(1), expected, ", got ", i.dtype(2), i.shape(2)));
  i.out(i.dtype(1), i.shape(1));
}

// Hard labels, checked before the work goes parallel.
struct Labels {
  Indices at;
  int64_t classes, ignored;

  bool skips(const Launch& l, int64_t i) const { return at.get(l, i) == ignored; }
  void check(const Op& op, const Launch& l, int64_t n) const {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t v = at.get(l, i);
      TRI_CHECK(v == ignored || (v >= 0 && v < classes),
                message(op.name, "label ", i, " expects a class in [0, ", classes, ") or ", ignored,
                        ", got ", v));
    }
  }
};

// ---- one line of classes, `stride` apart

// The largest logit and the logarithm of the sum beside it: kept apart, since large logits would
// swallow the loss.
template <class A> struct Whole {
  A most = 0, log_sum = 0;
  A minus(A x) const { return (most - x) + log_sum; }
};

template <class T> Whole<Compute<T>> whole_of(const T* x, int64_t n, int64_t stride) {
  using A = Compute<T>;
  A most = x[0], sum = 0;
  for (int64_t i = 1; i < n; ++i) most = std::max<A>(most, x[i * stride]);
  for (int64_t i = 0; i < n; ++i) sum += std::exp(A(x[i * stride]) - most);
  return {most, std::log(sum)};
}

template <class T>
Compute<T> soft_loss(const T* x, const T* label, int64_t n, int64_t stride,
                     const Whole<Compute<T>>& whole) {
  Compute<T> loss = 0;
  for (int64_t i = 0; i < n; ++i)
    loss += Compute<T>(label[i * stride]) * whole.minus(Compute<T>(x[i * stride]));
  return loss;
}

template <class T> Kernel prepare_as(const Prepare& p) {
  using A = Compute<T>;
  const auto a = p.attrs<CrossEntropyAttrs>();
  const AxisSplit s = split_at(p.in().shape, a.axis);
  const Labels labels{Indices(p, 1), s.size, a.ignore_index};
  const bool rows = std::is_same_v<T, float> && s.inner == 1 && cpu_features().avx512;
  return {[=, op = p.node.op](const Launch& l) {
    const int64_t lines = s.outer * s.inner;
    if (!a.soft_label) labels.check(*op, l, lines);
    parallel_for(lines, grain_of(4 * s.size), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = r / s.inner * s.size * s.inner + r % s.inner;
        const T* x = l.input<T>(0) + at;
        T* y = l.output<T>(0) + at;
        Whole<A> whole;
        if constexpr (std::is_same_v<T, float>) {
          if (rows) softmax_row_avx512(x, y, s.size, whole.most, whole.log_sum);
        }
        if (!rows) {
          whole = whole_of(x, s.size, s.inner);
          for (int64_t i = 0; i < s.size; ++i)
            y[i * s.inner] = T(std::exp(-whole.minus(A(x[i * s.inner]))));
        }
        A loss = 0;
        if (a.soft_label) loss = soft_loss(x, l.input<T>(1) + at, s.size, s.inner, whole);
        else if (!labels.skips(l, r)) loss = whole.minus(A(x[labels.at.get(l, r) * s.inner]));
        l.output<T>(1)[r] = T(loss);
      }
    });
  }};
}

// ---- dlogits = (softmax - label) dloss; soft labels need not add up to 1

template <class T> Kernel prepare_grad_as(const Prepare& p) {
  using A = Compute<T>;
  const auto a = p.attrs<CrossEntropyAttrs>();
  const AxisSplit s = split_at(p.in(1).shape, a.axis);
  const Labels labels{Indices(p, 0), s.size, a.ignore_index};
  return {[=, op = p.node.op](const Launch& l) {
    const int64_t lines = s.outer * s.inner;
    if (!a.soft_label) labels.check(*op, l, lines);
    parallel_for(lines, grain_of(s.size), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = r / s.inner * s.size * s.inner + r % s.inner, n = s.size;
        const T* y = l.input<T>(1) + at;
        T* dx = l.output<T>() + at;
        A dloss = l.input<T>(2)[r], sum = 1;
        const T* soft = a.soft_label ? l.input<T>(0) + at : nullptr;
        if (soft) {
          sum = 0;
          for (int64_t i = 0; i < n; ++i) sum += A(soft[i * s.inner]);
          for (int64_t i = 0; i < n; ++i)
            dx[i * s.inner] = T((A(y[i * s.inner]) * sum - A(soft[i * s.inner])) * dloss);
          continue;
        }
        if (labels.skips(l, r)) dloss = 0;
        if (s.inner == 1) {
#pragma omp simd
          for (int64_t i = 0; i < n; ++i) dx[i] = T(A(y[i]) * dloss);
        } else {
          for (int64_t i = 0; i < n; ++i) dx[i * s.inner] = T(A(y[i * s.inner]) * dloss);
        }
        if (labels.skips(l, r)) continue;
        const int64_t hit = labels.at.get(l, r) * s.inner;
        dx[hit] = T((A(y[hit]) - 1) * dloss);
      }
    });
  }};
}

void rule(Grad& g) {
  const int64_t axis = g.attrs<CrossEntropyAttrs>().axis;
  Value *softmax = g.out(0), *dx = nullptr;
  if (g.dout(1))
    dx = record1(ops::cross_entropy_with_softmax_grad_op, {g.in(1), softmax, g.dout(1)},
                 g.attributes);
  if (g.dout(0)) {
    Value* part = ops::multiply(g.dout(0), softmax);
    Value* sum = ops::reduce(ops::sum_op, part, {axis}, true);
    part = ops::subtract(part, ops::multiply(softmax, sum));
    dx = dx ? ops::add(dx, part) : part;
  }
  g.set(0, dx);
}

// Of the gradient itself: by the softmax and by dloss.
void grad_rule(Grad& g) {
  const auto& a = g.attrs<CrossEntropyAttrs>();
  Value *label = g.in(0), *softmax = g.in(1), *dloss = g.in(2);
  if (g.wants(1)) {
    Value* weight = nullptr;
    if (a.soft_label) {
      weight = ops::multiply(dloss, ops::reduce(ops::sum_op, label, {a.axis}, true));
    } else {
      Value* ignored = scalar(static_cast<double>(a.ignore_index), label->type.dtype);
      weight = ops::where(ops::equal(label, ignored), scalar(0, dloss->type.dtype), dloss);
    }
    g.set(1, ops::multiply(g.dout(), weight));
  }
  if (g.wants(2)) {
    const Shape& s = dloss->type.shape;
    Value* ones = ops::full({s.begin(), s.end()}, 1, dloss->type.dtype);
    Value* slope = record1(g.op, {label, softmax, ones}, g.attributes);
    g.set(2, ops::reduce(ops::sum_op, ops::multiply(slope, g.dout()), {a.axis}, true));
  }
}

}  // namespace

namespace ops {

constinit const Op cross_entropy_with_softmax_op{
    .name = "cross_entropy_with_softmax",
    .inputs = 2,
    .outputs = 2,
    .attrs = &attr_info<CrossEntropyAttrs>,
    .infer = infer,
    .grad = rule,
    .cpu =
        [](const Prepare& p) {
          return with_floating(*p.node.op, p.in().dtype,
                               [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
        },
    .cuda = TRI_CUDA(cuda_cross_entropy),
    .amp = Amp::kFloat};
constinit const Op cross_entropy_with_softmax_grad_op{
    .name = "cross_entropy_with_softmax_grad",
    .inputs = 3,
    .attrs = &attr_info<CrossEntropyAttrs>,
    .infer = infer_grad,
    .grad = grad_rule,
    .cpu =
        [](const Prepare& p) {
          return with_floating(*p.node.op, p.in(1).dtype,
                               [&]<class T>(Tag<T>) { return prepare_grad_as<T>(p); });
        },
    .cuda = TRI_CUDA(cuda_cross_entropy_grad),
    .amp = Amp::kFloat};

std::vector<Value*> cross_entropy_with_softmax(Value* logits, Value* label, bool soft_label,
                                               int64_t ignore_index, int64_t axis) {
  axis = normal_axis("cross_entropy_with_softmax", axis, logits->type.shape.rank());
  if (!soft_label && label->type.shape.rank() + 1 == logits->type.shape.rank())
    label = unsqueeze(label, {axis});
  return record(cross_entropy_with_softmax_op, {logits, label},
                CrossEntropyAttrs{soft_label, ignore_index, axis});
}

}  // namespace ops
}  // namespace trireme
