// batch_norm in its inference form: one factor and one offset a channel.
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace trireme {
namespace {

constexpr const char* kNames[] = {"x", "scale", "bias", "mean", "variance"};

void infer(const Infer& i) {
  const Shape& x = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(x.rank() >= 2, message(i.op.name, "x expects rank 2 or more, got ", x));
  for (size_t k = 1; k < 5; ++k) {
    TRI_CHECK(i.shape(k) == Shape{x[1]},
              message(i.op.name, kNames[k], " expects [", x[1], "], got ", i.shape(k)));
    TRI_CHECK(is_floating(i.dtype(k)),
              message(i.op.name, kNames[k], " expects a floating dtype, got ", i.dtype(k)));
  }
  i.out(i.dtype(0), x);
}

// y = x * factor[c] + offset[c] where a channel is `run` adjacent elements: 1 in channels-last.
template <class T, class A>
void apply(const T* x, T* y, int64_t begin, int64_t end, int64_t channels, int64_t run,
           const A* factor, const A* offset) {
  if (run == 1) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < channels; ++c)
        y[r * channels + c] = T(A(x[r * channels + c]) * factor[c] + offset[c]);
    return;
  }
  for (int64_t r = begin; r < end; ++r) {
    const A f = factor[r % channels], o = offset[r % channels];
    for (int64_t s = r * run; s < (r + 1) * run; ++s) y[s] = T(A(x[s]) * f + o);
  }
}

template <class T> Kernel prepare_as(const Prepare& p) {
  using A = Compute<T>;
  const Shape& x = p.in().shape;
  const int64_t channels = x[1], total = x.numel();
  const int64_t run = channels_last(p.in()) || channels == 0 ? 1 : split_at(x, 1).inner;
  if (total == 0) return {[](const Launch&) {}};
  const std::vector<Param<A>> params{{p, 1}, {p, 2}, {p, 3}, {p, 4}};
  const double epsilon = p.attrs<NormAttrs>().epsilon;
  const int64_t rows = run == 1 ? total / channels : total / run;
  const auto run_kernel = [=](const Launch& l) {
    A* rest = static_cast<A*>(l.scratch);
    A *factor = rest, *offset = rest + channels;
    rest += 2 * channels;
    const A *scale = params[0].get(l, rest), *bias = params[1].get(l, rest);
    const A *mean = params[2].get(l, rest), *variance = params[3].get(l, rest);
    for (int64_t c = 0; c < channels; ++c) {
      factor[c] = scale[c] / std::sqrt(variance[c] + static_cast<A>(epsilon));
      offset[c] = bias[c] - mean[c] * factor[c];
    }
    parallel_for(rows, grain_of(total / rows), [&](int64_t begin, int64_t end, int) {
      apply(l.input<T>(0), l.output<T>(), begin, end, channels, run, factor, offset);
    });
  };
  return {run_kernel, static_cast<size_t>(6 * channels) * sizeof(A)};
}

// [C] as it is broadcast over x.
Value* along_channels(Value* v, const Value* x) {
  std::vector<int64_t> shape(static_cast<size_t>(x->type.shape.rank()), 1);
  shape[1] = -1;
  return ops::reshape(v, shape);
}

// The statistics are given: x goes through one factor a channel.
void grad(Grad& g) {
  Value *x = g.in(0), *scale = g.in(1), *mean = g.in(3), *dy = g.dout();
  Value* inverse = ops::rsqrt(ops::affine(g.in(4), 1, g.attrs<NormAttrs>().epsilon));
  Value* factor = ops::multiply(scale, inverse);
  if (g.wants(0)) g.set(0, ops::multiply(dy, along_channels(factor, x)));
  std::vector<int64_t> axes;
  for (int d = 0; d < x->type.shape.rank(); ++d)
    if (d != 1) axes.push_back(d);
  const auto sum = [&](Value* v) { return ops::reduce(ops::sum_op, v, axes, false); };
  if (g.wants(2)) g.set(2, sum(dy));
  if (g.wants(3)) g.set(3, ops::affine(ops::multiply(sum(dy), factor), -1, 0));
  if (!g.wants(1) && !g.wants(4)) return;
  Value* product = sum(ops::multiply(dy, ops::subtract(x, along_channels(mean, x))));
  g.set(1, ops::multiply(product, inverse));
  Value* cube = ops::multiply(ops::multiply(inverse, inverse), factor);
  g.set(4, ops::affine(ops::multiply(product, cube), -0.5, 0));
}

}  // namespace

namespace ops {

constinit const Op batch_norm_op{.name = "batch_norm",
                                 .inputs = 5,
                                 .attrs = &attr_info<NormAttrs>,
                                 .infer = infer,
                                 .grad = grad,
                                 .cpu =
                                     [](const Prepare& p) {
                                       return with_floating(
                                           *p.node.op, p.in().dtype,
                                           [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
                                     },
                                 .cuda = TRI_CUDA(cuda_batch_norm),
                                 .amp_inputs = 1,
                                 .layouts = Layouts::kFollow,
                                 .in_place = 1};

Value* batch_norm(Value* x, Value* scale, Value* bias, Value* mean, Value* variance,
                  double epsilon) {
  return record1(batch_norm_op, {x, scale, bias, mean, variance}, NormAttrs{.epsilon = epsilon});
}

}  // namespace ops
}  // namespace trireme
