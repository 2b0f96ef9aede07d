// cumsum, cumprod: running sums and products along a dimension or of all elements.
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/index.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<CumsumAttrs>();
  const Shape& x = i.shape(0);
  TRI_CHECK(i.dtype(0) != DType::kBool, message(i.op.name, "x expects numbers, got ", i.dtype(0)));
  TRI_CHECK(a.flatten || (a.axis >= 0 && a.axis < x.rank()),
            message(i.op.name, "axis expects a dimension of ", x, ", got ", a.axis));
  i.out(i.dtype(0), a.flatten ? Shape{x.numel()} : x);
}

template <class T> void sum_line(const T* x, T* y, int64_t n, int64_t step, bool exclusive) {
  Compute<T> sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Compute<T> v = x[i * step];
    if (exclusive) y[i * step] = T(sum);
    sum += v;
    if (!exclusive) y[i * step] = T(sum);
  }
}

template <class T> void multiply_line(const T* x, T* y, int64_t n, int64_t step, bool exclusive) {
  Compute<T> product = 1;
  for (int64_t i = 0; i < n; ++i) {
    const Compute<T> v = x[i * step];
    if (exclusive) y[i * step] = T(product);
    product *= v;
    if (!exclusive) y[i * step] = T(product);
  }
}

// dx[i] = (product of x before i) * (sum over j of dout[j] times the product of x between): from
// both sides, without a division, so that zeros do no harm.
template <class T>
void product_gradient(const T* x, const T* dout, T* dx, int64_t n, int64_t step, bool exclusive) {
  using A = Compute<T>;
  A behind = 0, before = 1;
  for (int64_t i = n; i-- > 0;) {  // first the sums behind
    const A next = i + 1 < n ? A(x[(i + 1) * step]) : A(0);
    if (exclusive) behind = i + 1 < n ? A(dout[(i + 1) * step]) + next * behind : A(0);
    else behind = A(dout[i * step]) + next * behind;
    dx[i * step] = T(behind);
  }
  for (int64_t i = 0; i < n; ++i) {
    dx[i * step] = T(A(dx[i * step]) * before);
    before *= A(x[i * step]);
  }
}

// f(offset, step) for every line, in parallel.
template <class F> Kernel along_lines(const Prepare& p, F f) {
  const auto& a = p.attrs<CumsumAttrs>();
  const AxisSplit s =
      a.flatten ? AxisSplit{1, p.in().shape.numel(), 1} : split_at(p.in().shape, a.axis);
  const int64_t first = a.reverse ? (s.size - 1) * s.inner : 0,
                step = a.reverse ? -s.inner : s.inner;
  return {[=, exclusive = a.exclusive](const Launch& l) {
    if (s.size == 0) return;
    parallel_for(s.outer * s.inner, grain_of(s.size), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = r / s.inner * s.size * s.inner + r % s.inner + first;
        f(l, at, s.size, step, exclusive);
      }
    });
  }};
}

Kernel prepare_sum(const Prepare& p) {
  return with_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return along_lines(p, [](const Launch& l, int64_t at, int64_t n, int64_t step, bool exclusive) {
      sum_line(l.input<T>(0) + at, l.output<T>() + at, n, step, exclusive);
    });
  });
}

Kernel prepare_product(const Prepare& p) {
  return with_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return along_lines(p, [](const Launch& l, int64_t at, int64_t n, int64_t step, bool exclusive) {
      multiply_line(l.input<T>(0) + at, l.output<T>() + at, n, step, exclusive);
    });
  });
}

Kernel prepare_product_grad(const Prepare& p) {
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return along_lines(p, [](const Launch& l, int64_t at, int64_t n, int64_t step, bool exclusive) {
      product_gradient(l.input<T>(0) + at, l.input<T>(1) + at, l.output<T>() + at, n, step,
                       exclusive);
    });
  });
}

void infer_product_grad(const Infer& i) {
  TRI_CHECK(i.shape(0) == i.shape(1) && i.dtype(0) == i.dtype(1),
            message(i.op.name, "dout expects ", i.dtype(0), i.shape(0), ", got ", i.dtype(1),
                    i.shape(1)));
  i.out(i.dtype(0), i.shape(0));
}

void sum_rule(Grad& g) {
  auto a = g.attrs<CumsumAttrs>();
  a.reverse = !a.reverse;
  Value* v = record1(g.op, {g.dout()}, a);
  const Shape& x = g.in()->type.shape;
  g.set(0, a.flatten ? ops::reshape(v, {x.begin(), x.end()}) : v);
}

void product_rule(Grad& g) {
  g.set(0, record1(ops::cumprod_grad_op, {g.in(), g.dout()}, g.attributes));
}

}  // namespace

namespace ops {

constinit const Op cumsum_op{.name = "cumsum",
                             .attrs = &attr_info<CumsumAttrs>,
                             .infer = infer,
                             .grad = sum_rule,
                             .cpu = prepare_sum,
                             .cuda = TRI_CUDA(cuda_cumsum),
                             .amp = Amp::kFloatInO1};
constinit const Op cumprod_op{.name = "cumprod",
                              .attrs = &attr_info<CumsumAttrs>,
                              .infer = infer,
                              .grad = product_rule,
                              .cpu = prepare_product,
                              .cuda = TRI_CUDA(cuda_cumprod),
                              .amp = Amp::kFloatInO1};
constinit const Op cumprod_grad_op{.name = "cumprod_grad",
                                   .inputs = 2,
                                   .attrs = &attr_info<CumsumAttrs>,
                                   .infer = infer_product_grad,
                                   .cpu = prepare_product_grad,
                                   .cuda = TRI_CUDA(cuda_cumprod_grad)};

Value* cumprod(Value* x, int64_t axis, bool exclusive, bool reverse) {
  axis = normal_axis("cumprod", axis, x->type.shape.rank());
  return record1(cumprod_op, {x}, CumsumAttrs{axis, false, exclusive, reverse});
}

Value* cumsum(Value* x, int64_t axis, bool flatten, bool exclusive, bool reverse) {
  axis = flatten ? 0 : normal_axis("cumsum", axis, x->type.shape.rank());
  return record1(cumsum_op, {x}, CumsumAttrs{axis, flatten, exclusive, reverse});
}

}  // namespace ops
}  // namespace trireme
