// Cross entropy of half logits: the softmax is not written, its logarithm's sum is kept instead,
// and the gradient is half again. The CPU's kernels are plain references.
#include <cmath>

#include "ops/cross_entropy.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/indices.h"

namespace trireme {
namespace {

Shape line_shape(const Infer& i) {
  const auto& a = i.attrs<CrossEntropyAttrs>();
  Shape s = i.shape(0);
  TRI_CHECK(size_of(i.dtype(0)) == 2 && is_floating(i.dtype(0)),
            message(i.op.name, "logits expect half precision, got ", i.dtype(0)));
  TRI_CHECK(!a.soft_label && a.axis >= 0 && a.axis < s.rank() && s[static_cast<int>(a.axis)] > 0,
            message(i.op.name, "expects hard labels and classes along a dimension of ", s));
  TRI_CHECK(a.classes >= 0 && a.classes <= s[static_cast<int>(a.axis)],
            message(i.op.name, a.classes, " classes in logits of shape ", s));
  s[static_cast<int>(a.axis)] = 1;
  TRI_CHECK(i.shape(1) == s, message(i.op.name, "label expects shape ", s, ", got ", i.shape(1)));
  check_index_dtype(i, 1);
  return s;
}

void infer(const Infer& i) {
  const Shape s = line_shape(i);
  i.out(DType::kFloat32, s);
  i.out(DType::kFloat32, s);
}

void check_row(const Infer& i, size_t k, const Shape& s) {
  TRI_CHECK(i.shape(k) == s && i.dtype(k) == DType::kFloat32,
            message(i.op.name, "log_sum and dloss expect float32 ", s));
}

void infer_grad(const Infer& i) {
  const Shape s = line_shape(i);
  for (const size_t k : {2, 3}) check_row(i, k, s);
  i.out(i.dtype(0), i.shape(0));
}

void infer_both(const Infer& i) {
  const Shape s = line_shape(i);
  check_row(i, 2, s);
  i.out(i.dtype(0), i.shape(0));
  i.out(DType::kFloat32, s);
}

enum class Part { kForward, kBackward, kBoth };

template <class T> Kernel kernel_as(const Prepare& p, Part part) {
  const auto a = p.attrs<CrossEntropyAttrs>();
  const AxisSplit s = split_at(p.in().shape, a.axis);
  const Indices label(p, 1);
  const int64_t classes = a.classes ? a.classes : s.size;
  // The largest logit of a line, and the logarithm of the sum of what is left.
  const auto sums = [=](const T* x) {
    float most = float(x[0]), sum = 0;
    for (int64_t c = 1; c < classes; ++c) most = std::max(most, float(x[c * s.inner]));
    for (int64_t c = 0; c < classes; ++c) sum += std::exp(float(x[c * s.inner]) - most);
    return std::pair(most, std::log(sum));
  };
  const auto gradient = [=](const T* x, T* dx, float log_sum, float slope, int64_t own) {
    for (int64_t c = 0; c < classes; ++c)
      dx[c * s.inner] =
          T((std::exp(float(x[c * s.inner]) - log_sum) - (c == own ? 1.f : 0.f)) * slope);
    for (int64_t c = classes; c < s.size; ++c) dx[c * s.inner] = T(0.f);
  };
  return {[=, op = p.node.op](const Launch& l) {
    for (int64_t r = 0; r < s.outer * s.inner; ++r) {
      const int64_t at = r / s.inner * s.size * s.inner + r % s.inner, own = label.get(l, r);
      const bool skipped = own == a.ignore_index;
      TRI_CHECK(
          skipped || (own >= 0 && own < classes),
          message(op->name, "label ", r, " expects a class in [0, ", classes, "), got ", own));
      const T* x = l.input<T>(0) + at;
      if (part == Part::kBackward) {
        gradient(x, l.output<T>() + at, l.input<float>(2)[r], skipped ? 0 : l.input<float>(3)[r],
                 own);
        continue;
      }
      const auto [most, log] = sums(x);
      l.output<float>(part == Part::kBoth)[r] =
          skipped ? 0 : (most - float(x[own * s.inner])) + log;
      if (part == Part::kForward) l.output<float>(1)[r] = most + log;
      else gradient(x, l.output<T>() + at, most + log, skipped ? 0 : l.input<float>(2)[r], own);
    }
  }};
}

template <Part kPart> Kernel prepare(const Prepare& p) {
  return with_floating(*p.node.op, p.in().dtype,
                       [&]<class T>(Tag<T>) { return kernel_as<T>(p, kPart); });
}

void rule(Grad& g) {
  if (g.dout(0))
    g.set(0, record1(ops::cross_entropy_half_grad_op, {g.in(0), g.in(1), g.out(1), g.dout(0)},
                     g.attrs<CrossEntropyAttrs>()));
}

}  // namespace

namespace ops {

constinit const Op cross_entropy_half_op{.name = "cross_entropy_half",
                                         .inputs = 2,
                                         .outputs = 2,
                                         .attrs = &attr_info<CrossEntropyAttrs>,
                                         .infer = infer,
                                         .grad = rule,
                                         .cpu = prepare<Part::kForward>,
                                         .cuda = TRI_CUDA(cuda_cross_entropy_half)};
constinit const Op cross_entropy_half_grad_op{.name = "cross_entropy_half_grad",
                                              .inputs = 4,
                                              .attrs = &attr_info<CrossEntropyAttrs>,
                                              .infer = infer_grad,
                                              .cpu = prepare<Part::kBackward>,
                                              .cuda = TRI_CUDA(cuda_cross_entropy_half_grad),
                                              .in_place = 1};
constinit const Op cross_entropy_half_both_op{.name = "cross_entropy_half_both",
                                              .inputs = 3,
                                              .outputs = 2,
                                              .attrs = &attr_info<CrossEntropyAttrs>,
                                              .infer = infer_both,
                                              .cpu = prepare<Part::kBoth>,
                                              .cuda = TRI_CUDA(cuda_cross_entropy_half_both),
                                              .in_place = 1};

}  // namespace ops
}  // namespace trireme
