// softmax_grad: dx = y (dy - sum of y dy) along a dimension.
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/norm.h"
#include "ops/norm_rows.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const Shape& y = i.shape(0);
  const int64_t axis = i.attrs<NormAttrs>().axis;
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "out expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(axis >= 0 && axis < std::max(1, y.rank()),
            message(i.op.name, "axis expects a dimension of ", y, ", got ", axis));
  TRI_CHECK(i.shape(1) == y && i.dtype(1) == i.dtype(0),
            message(i.op.name, "dout expects ", i.type(0).str(), ", got ", i.type(1).str()));
  i.out(i.dtype(0), y);
}

// With g on the result: by dy it is the same operator again; by y, what the product rule says.
void grad(Grad& g) {
  const auto& a = g.attrs<NormAttrs>();
  Value *y = g.in(0), *dy = g.in(1), *outer = g.dout();
  if (g.wants(1)) g.set(1, record1(ops::softmax_grad_op, {y, outer}, a));
  if (!g.wants(0)) return;
  const auto sum = [&](Value* u, Value* v) {
    Value* product = ops::multiply(u, v);
    return y->type.shape.rank() ? ops::reduce(ops::sum_op, product, {a.axis}, true) : product;
  };
  g.set(0, ops::subtract(ops::multiply(outer, ops::subtract(dy, sum(y, dy))),
                         ops::multiply(dy, sum(y, outer))));
}

constexpr int64_t kColumns = 64;

template <class T>
void columns(const T* y, const T* dy, T* dx, int64_t n, int64_t stride, int64_t count) {
  using A = Compute<T>;
  A sum[kColumns] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < count; ++c) sum[c] += A(y[i * stride + c]) * A(dy[i * stride + c]);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < count; ++c)
      dx[i * stride + c] = T(A(y[i * stride + c]) * (A(dy[i * stride + c]) - sum[c]));
}

template <class T> Kernel prepare_as(const AxisSplit& s) {
  if (s.inner == 1) {
    const NormRows<T, Compute<T>>& loops = norm_rows<T, Compute<T>>();
    return {[=, &loops](const Launch& l) {
      parallel_for(s.outer, grain_of(s.size), [&](int64_t begin, int64_t end, int) {
        const int64_t at = begin * s.size;
        loops.softmax(l.input<T>(0) + at, l.input<T>(1) + at, l.output<T>() + at, end - begin,
                      s.size);
      });
    }};
  }
  const int64_t blocks = (s.inner + kColumns - 1) / kColumns;
  return {[=](const Launch& l) {
    const int64_t grain = grain_of(s.size * std::min(s.inner, kColumns));
    parallel_for(s.outer * blocks, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = b % blocks * kColumns, at = b / blocks * s.size * s.inner + first;
        columns(l.input<T>(0) + at, l.input<T>(1) + at, l.output<T>() + at, s.size, s.inner,
                std::min(kColumns, s.inner - first));
      }
    });
  }};
}

Kernel prepare(const Prepare& p) {
  const AxisSplit s = split_at(p.in().shape, p.attrs<NormAttrs>().axis);
  if (s.outer * s.size * s.inner == 0) return {[](const Launch&) {}};
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return prepare_as<T>(s); });
}

}  // namespace

namespace ops {

constinit const Op softmax_grad_op{.name = "softmax_grad",
                                   .inputs = 2,
                                   .attrs = &attr_info<NormAttrs>,
                                   .infer = infer,
                                   .grad = grad,
                                   .cpu = prepare,
                                   .cuda = TRI_CUDA(cuda_softmax_grad),
                                   .in_place = 1};

}  // namespace ops
}  // namespace trireme
