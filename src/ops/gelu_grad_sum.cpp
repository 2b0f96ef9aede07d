// gelu_grad_sum: gelu's gradient, also summed over the rows, which is the gradient of a bias in
// front. The pass fuse_norm makes these nodes, for GPUs; the CPU's kernel is a plain reference.
#include <cmath>

#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/pointwise.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const Shape& x = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)) && x.rank() >= 1,
            message(i.op.name, "x expects floating of rank 1 or more, got ", i.type(0).str()));
  TRI_CHECK(i.shape(1) == x && i.dtype(1) == i.dtype(0),
            message(i.op.name, "dout expects ", i.type(0).str(), ", got ", i.type(1).str()));
  i.out(i.dtype(0), x);
  i.out(i.dtype(0), Shape{x.back()});
}

template <class T> Kernel prepare_as(const Prepare& p) {
  const Shape x = p.in().shape;
  const int64_t count = x.numel(), n = x.back();
  return {[=](const Launch& l) {
    std::vector<double> sums(static_cast<size_t>(n));
    for (int64_t i = 0; i < count; ++i) {
      const double v = Compute<T>(l.input<T>(0)[i]), g = Compute<T>(l.input<T>(1)[i]);
      const double slope = 0.5 * std::erfc(-v * 0.70710678118654752) +
                           v * 0.39894228040143268 * std::exp(-0.5 * v * v);
      const T dx = T(Compute<T>(g * slope));
      l.output<T>(0)[i] = dx;
      sums[static_cast<size_t>(i % n)] += Compute<T>(dx);
    }
    for (int64_t c = 0; c < n; ++c) l.output<T>(1)[c] = T(Compute<T>(sums[static_cast<size_t>(c)]));
  }};
}

Kernel prepare(const Prepare& p) {
  if (p.in().shape.numel() == 0) return zero_outputs(p);
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
}

}  // namespace

namespace ops {
constinit const Op gelu_grad_sum_op{.name = "gelu_grad_sum",
                                    .inputs = 2,
                                    .outputs = 2,
                                    .infer = infer,
                                    .cpu = prepare,
                                    .cuda = TRI_CUDA(cuda_gelu_grad_sum),
                                    .in_place = 1};
}  // namespace ops
}  // namespace trireme
