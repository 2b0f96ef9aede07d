// argmax and argmin: the index of the first largest (smallest) element along a dimension or of all.
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/index.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<ArgAttrs>();
  const Shape& x = i.shape(0);
  TRI_CHECK(a.dtype == DType::kInt32 || a.dtype == DType::kInt64,
            message(i.op.name, "dtype expects int32 or int64, got ", a.dtype));
  TRI_CHECK(a.flatten || (a.axis >= 0 && a.axis < x.rank()),
            message(i.op.name, "axis expects a dimension of ", x, ", got ", a.axis));
  const int64_t size = a.flatten ? x.numel() : x[static_cast<int>(a.axis)];
  TRI_CHECK(size > 0, message(i.op.name, "x of shape ", x, " has no elements to choose from"));
  Shape out;
  for (int d = 0; d < x.rank(); ++d) {
    const bool reduced = a.flatten || d == a.axis;
    if (!reduced || a.keepdim) out.push_back(reduced ? 1 : x[d]);
  }
  i.out(a.dtype, out);
}

// Adjacent elements: the extreme value first, in lanes that compilers turn into vectors, then where
// it stands first.
template <bool kMin, class T> int64_t arg_of_row(const T* x, int64_t n) {
  using A = Compute<T>;
  constexpr int64_t kLanes = 16;
  A best[kLanes];
  for (int64_t k = 0; k < kLanes; ++k) best[k] = x[0];
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) {
      const A v = x[i + k];
      best[k] = (kMin ? v < best[k] : v > best[k]) ? v : best[k];
    }
  }
  A top = best[0];
  for (const A v : best) top = (kMin ? v < top : v > top) ? v : top;
  for (; i < n; ++i) top = (kMin ? A(x[i]) < top : A(x[i]) > top) ? A(x[i]) : top;
  for (int64_t j = 0; j < n; ++j)
    if (A(x[j]) == top) return j;
  return 0;  // all NaN
}

template <bool kMin, class T> int64_t arg_of_line(const T* x, int64_t n, int64_t stride) {
  if (stride == 1) return arg_of_row<kMin>(x, n);
  using A = Compute<T>;
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i) {
    const A v = x[i * stride], top = x[best * stride];
    if (kMin ? v < top : v > top) best = i;
  }
  return best;
}

template <class T, class Index> Kernel prepare_as(const Prepare& p) {
  const auto& a = p.attrs<ArgAttrs>();
  const AxisSplit s =
      a.flatten ? AxisSplit{1, p.in().shape.numel(), 1} : split_at(p.in().shape, a.axis);
  return {[s, min = a.min](const Launch& l) {
    parallel_for(s.outer * s.inner, grain_of(s.size), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const T* x = l.input<T>(0) + r / s.inner * s.size * s.inner + r % s.inner;
        const int64_t at =
            min ? arg_of_line<true>(x, s.size, s.inner) : arg_of_line<false>(x, s.size, s.inner);
        l.output<Index>()[r] = static_cast<Index>(at);
      }
    });
  }};
}

Kernel prepare(const Prepare& p) {
  return with_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return p.out().dtype == DType::kInt32 ? prepare_as<T, int32_t>(p) : prepare_as<T, int64_t>(p);
  });
}

}  // namespace

namespace ops {

constinit const Op argmax_op{.name = "argmax",
                             .attrs = &attr_info<ArgAttrs>,
                             .infer = infer,
                             .cpu = prepare,
                             .cuda = TRI_CUDA(cuda_argmax)};

Value* argmax(Value* x, int64_t axis, bool keepdim, bool flatten, DType dtype, bool min) {
  axis = flatten ? 0 : normal_axis("argmax", axis, x->type.shape.rank());
  return record1(argmax_op, {x}, ArgAttrs{axis, keepdim, flatten, min, dtype});
}

}  // namespace ops
}  // namespace trireme
