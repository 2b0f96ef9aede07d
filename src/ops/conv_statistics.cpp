// conv2d_statistics: a convolution that also sums what a batch norm behind it wants to know. The
// pass fuse_norm makes these nodes, for GPUs; the CPU's kernel is a plain reference.
#include "ops/batch_norm_reference.h"
#include "ops/conv.h"
#include "ops/conv_reference.h"
#include "ops/cuda_kernels.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  ops::conv2d_op.infer(i);
  i.out(computed_in(i.dtype(0)), {2, i.shape(1)[0]});
}

template <class T> Kernel with_sums(const Prepare& p) {
  using A = Compute<T>;
  const Elements e(p.out());
  const Kernel conv = reference_conv(p);
  return {[=](const Launch& l) {
            conv.run(l);
            const T* y = l.output<T>(0);
            for (int64_t c = 0; c < e.channels; ++c) {
              double sum = 0, squares = 0;
              e.of(c, [&](int64_t i) {
                const double v = A(y[i]);
                sum += v, squares += v * v;
              });
              l.output<A>(1)[c] = static_cast<A>(sum);
              l.output<A>(1)[e.channels + c] = static_cast<A>(squares);
            }
          },
          conv.scratch};
}

Kernel prepare(const Prepare& p) {
  if (p.out().shape.numel() == 0 || p.in(0).shape.numel() == 0) return zero_outputs(p);
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return with_sums<T>(p); });
}

}  // namespace

namespace ops {
constinit const Op conv2d_statistics_op{.name = "conv2d_statistics",
                                        .inputs = 2,
                                        .outputs = 2,
                                        .attrs = &attr_info<Conv2dAttrs>,
                                        .infer = infer,
                                        .cpu = prepare,
                                        .cuda = TRI_CUDA(cuda_conv2d_statistics),
                                        .layouts = Layouts::kPrefersChannelsLast};
}  // namespace ops
}  // namespace trireme
