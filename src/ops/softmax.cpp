// softmax and log_softmax along any dimension.
#include "base/cpu_features.h"
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/softmax_rows.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const Shape& x = i.shape(0);
  const int64_t axis = i.attrs<NormAttrs>().axis;
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(axis >= 0 && axis < std::max(1, x.rank()),
            message(i.op.name, "axis expects a dimension of ", x, ", got ", axis));
  i.out(i.dtype(0), x);
}

// Columns handled together when the dimension is not innermost, so that the inner loops run over
// adjacent elements.
constexpr int64_t kColumns = 64;

template <class T>
void softmax_columns(const T* x, T* y, int64_t n, int64_t stride, int64_t columns, bool log) {
  using A = Compute<T>;
  A max[kColumns], sum[kColumns];
  for (int64_t c = 0; c < columns; ++c) max[c] = x[c], sum[c] = 0;
  for (int64_t i = 1; i < n; ++i)
    for (int64_t c = 0; c < columns; ++c) max[c] = std::max<A>(max[c], x[i * stride + c]);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < columns; ++c) sum[c] += std::exp(A(x[i * stride + c]) - max[c]);
  for (int64_t c = 0; c < columns; ++c) sum[c] = log ? max[c] + std::log(sum[c]) : 1 / sum[c];
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < columns; ++c) {
      const A v = x[i * stride + c];
      y[i * stride + c] = T(log ? v - sum[c] : std::exp(v - max[c]) * sum[c]);
    }
  }
}

template <class T> Kernel column_kernel(const AxisSplit& s, bool log) {
  const int64_t blocks = (s.inner + kColumns - 1) / kColumns;
  const int64_t grain = grain_of(s.size * std::min(s.inner, kColumns));
  return {[=](const Launch& l) {
    parallel_for(s.outer * blocks, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = b % blocks * kColumns, at = b / blocks * s.size * s.inner + first;
        softmax_columns(l.input<T>(0) + at, l.output<T>() + at, s.size, s.inner,
                        std::min(kColumns, s.inner - first), log);
      }
    });
  }};
}

template <class Bits> Kernel row_kernel(const AxisSplit& s, bool log) {
  constexpr int64_t kExp = 4;  // as dear as so many copied elements
  return {[=, grain = grain_of(kExp * s.size)](const Launch& l) {
    parallel_for(s.outer, grain, [&](int64_t begin, int64_t end, int) {
      const int64_t at = begin * s.size;
      softmax_rows_avx512(l.input<Bits>(0) + at, l.output<Bits>() + at, end - begin, s.size, log);
    });
  }};
}

Kernel prepare(const Prepare& p, bool log) {
  const DType dtype = p.in().dtype;
  AxisSplit s = split_at(p.in().shape, p.attrs<NormAttrs>().axis);
  if (s.outer * s.size * s.inner == 0) return {[](const Launch&) {}};
  if (s.inner == 1 && cpu_features().avx512) {
    if (dtype == DType::kFloat32) return row_kernel<float>(s, log);
    if (dtype == DType::kBFloat16) return row_kernel<uint16_t>(s, log);
  }
  return with_floating(*p.node.op, dtype,
                       [&]<class T>(Tag<T>) { return column_kernel<T>(s, log); });
}

void grad(Grad& g) { g.set(0, record1(ops::softmax_grad_op, {g.out(), g.dout()}, g.attributes)); }

// dx = dy - e^y (sum of dy)
void log_grad(Grad& g) {
  Value* sum = g.dout();
  if (sum->type.shape.rank() > 0)
    sum = ops::reduce(ops::sum_op, sum, {g.attrs<NormAttrs>().axis}, true);
  g.set(0, ops::subtract(g.dout(), ops::multiply(ops::exp(g.out()), sum)));
}

}  // namespace

namespace ops {

constinit const Op softmax_op{.name = "softmax",
                              .attrs = &attr_info<NormAttrs>,
                              .infer = infer,
                              .grad = grad,
                              .cpu = [](const Prepare& p) { return prepare(p, false); },
                              .cuda = TRI_CUDA(cuda_softmax),
                              .amp = Amp::kFloatInO1,
                              .in_place = 1};
constinit const Op log_softmax_op{.name = "log_softmax",
                                  .attrs = &attr_info<NormAttrs>,
                                  .infer = infer,
                                  .grad = log_grad,
                                  .cpu = [](const Prepare& p) { return prepare(p, true); },
                                  .cuda = TRI_CUDA(cuda_log_softmax),
                                  .amp = Amp::kFloatInO1,
                                  .in_place = 1};

namespace {
Value* along(const Op& op, Value* x, int64_t axis) {
  return record1(op, {x},
                 NormAttrs{.axis = normal_axis(op.name, axis, std::max(1, x->type.shape.rank()))});
}
}  // namespace

Value* softmax(Value* x, int64_t axis) { return along(softmax_op, x, axis); }
Value* log_softmax(Value* x, int64_t axis) { return along(log_softmax_op, x, axis); }

}  // namespace ops
}  // namespace trireme
