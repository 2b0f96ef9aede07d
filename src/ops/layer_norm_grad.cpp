// layer_norm_grad: mean and deviation of each row are computed again, which costs less than to keep
// them. layer_norm_grad_sum also sums dx over the rows, which is the gradient of a bias in front.
#include <cstring>

#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/norm.h"
#include "ops/norm_rows.h"

namespace trireme {
namespace {

AxisSplit rows_of(const Shape& x, int64_t axis) {
  AxisSplit s;
  for (int d = 0; d < x.rank(); ++d) (d < axis ? s.outer : s.size) *= x[d];
  return s;
}

void infer(const Infer& i) {
  const Shape& x = i.shape(0);
  const int64_t axis = i.attrs<NormAttrs>().axis;
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(axis >= 0 && axis < x.rank(),
            message(i.op.name, "begin_norm_axis expects a dimension of ", x, ", got ", axis));
  const int64_t n = rows_of(x, axis).size;
  TRI_CHECK(!i.has(1) || (i.shape(1).numel() == n && is_floating(i.dtype(1))),
            message(i.op.name, "scale expects ", n, " floating elements"));
  TRI_CHECK(i.shape(2) == x && i.dtype(2) == i.dtype(0),
            message(i.op.name, "dout expects ", i.type(0).str(), ", got ", i.type(2).str()));
  const DType own = i.dtype(0) == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  i.out(i.dtype(0), x);
  i.out(own, Shape{n});
  i.out(own, Shape{n});
}

void infer_sum(const Infer& i) {
  infer(i);
  i.out(i.dtype(0), Shape{rows_of(i.shape(0), i.attrs<NormAttrs>().axis).size});
}

// The rows of dx, added.
template <class T> void add_rows(const T* dx, T* sum, int64_t rows, int64_t n) {
  std::vector<double> sums(static_cast<size_t>(n));
  for (int64_t i = 0; i < rows * n; ++i) sums[static_cast<size_t>(i % n)] += Compute<T>(dx[i]);
  for (int64_t c = 0; c < n; ++c) sum[c] = T(Compute<T>(sums[static_cast<size_t>(c)]));
}

template <class T> Kernel prepare_as(const Prepare& p) {
  using A = Compute<T>;
  const bool with_sum = p.node.op == &ops::layer_norm_grad_sum_op;
  const auto& attrs = p.attrs<NormAttrs>();
  const AxisSplit s = rows_of(p.in().shape, attrs.axis);
  const int64_t rows = s.outer, n = s.size;
  const int64_t parts =
      std::clamp<int64_t>(rows * n / kTaskElements, 1, std::min<int64_t>(rows, num_threads()));
  const Param<A> scale_of(p, 1);
  const A epsilon = static_cast<A>(attrs.epsilon);
  const NormRows<T, A>& loops = norm_rows<T, A>();
  const auto run = [=, &loops](const Launch& l) {
    A *sums = static_cast<A*>(l.scratch), *rest = sums + 2 * n * parts;
    const A* scale = scale_of.get(l, rest);
    parallel_for(parts, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t k = begin; k < end; ++k) {
        A* own = sums + 2 * n * k;
        std::fill(own, own + 2 * n, A(0));
        const int64_t first = rows * k / parts, count = rows * (k + 1) / parts - first;
        loops.layer(l.input<T>(0) + first * n, scale, l.input<T>(2) + first * n,
                    l.output<T>() + first * n, count, n, epsilon, own, own + n);
      }
    });
    for (size_t k = 0; k < 2; ++k) {
      for (int64_t i = 0; i < n; ++i) {
        A sum = 0;
        for (int64_t part = 0; part < parts; ++part)
          sum += sums[2 * n * part + static_cast<int64_t>(k) * n + i];
        l.output<A>(k + 1)[i] = sum;
      }
    }
    if (with_sum) add_rows(l.output<T>(0), l.output<T>(3), rows, n);
  };
  return {run, static_cast<size_t>(2 * n * parts + scale_of.scratch()) * sizeof(A)};
}

Kernel prepare(const Prepare& p) {
  if (p.in().shape.numel() == 0) { return zero_outputs(p); }
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
}

}  // namespace

namespace ops {

constinit const Op layer_norm_grad_op{.name = "layer_norm_grad",
                                      .inputs = 3,
                                      .outputs = 3,
                                      .attrs = &attr_info<NormAttrs>,
                                      .infer = infer,
                                      .cpu = prepare,
                                      .cuda = TRI_CUDA(cuda_layer_norm_grad),
                                      .in_place = 1};
constinit const Op layer_norm_grad_sum_op{.name = "layer_norm_grad_sum",
                                          .inputs = 3,
                                          .outputs = 4,
                                          .attrs = &attr_info<NormAttrs>,
                                          .infer = infer_sum,
                                          .cpu = prepare,
                                          .cuda = TRI_CUDA(cuda_layer_norm_grad),
                                          .in_place = 1};

}  // namespace ops
}  // namespace trireme
