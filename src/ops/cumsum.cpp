// cumsum: running sums along a dimension or of all elements.
#include "base/parallel.h"
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

template <class T> Kernel prepare_as(const Prepare& p) {
  const auto& a = p.attrs<CumsumAttrs>();
  const AxisSplit s =
      a.flatten ? AxisSplit{1, p.in().shape.numel(), 1} : split_at(p.in().shape, a.axis);
  const int64_t first = a.reverse ? (s.size - 1) * s.inner : 0,
                step = a.reverse ? -s.inner : s.inner;
  return {[=, exclusive = a.exclusive](const Launch& l) {
    parallel_for(s.outer * s.inner, grain_of(s.size), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t at = r / s.inner * s.size * s.inner + r % s.inner + first;
        if (s.size > 0) sum_line(l.input<T>(0) + at, l.output<T>() + at, s.size, step, exclusive);
      }
    });
  }};
}

}  // namespace

namespace ops {

constinit const Op cumsum_op{.name = "cumsum",
                             .attrs = &attr_info<CumsumAttrs>,
                             .infer = infer,
                             .cpu = [](const Prepare& p) {
                               return with_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
                                 return prepare_as<T>(p);
                               });
                             }};

Value* cumsum(Value* x, int64_t axis, bool flatten, bool exclusive, bool reverse) {
  axis = flatten ? 0 : normal_axis("cumsum", axis, x->type.shape.rank());
  return record1(cumsum_op, {x}, CumsumAttrs{axis, flatten, exclusive, reverse});
}

}  // namespace ops
}  // namespace trireme
