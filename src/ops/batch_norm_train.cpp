// batch_norm_train and batch_norm_grad: statistics over all but dimension 1, in two passes over
// memory each.
#include <cstring>

#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/norm.h"
#include "ops/norm_rows.h"

namespace trireme {
namespace {

constexpr size_t kMean = 0, kVariance = 1, kX = 2, kScale = 3, kBias = 4;  // of batch_norm_train

void check_vector(const Infer& i, size_t k, const char* name, int64_t channels) {
  TRI_CHECK(i.shape(k) == Shape{channels},
            message(i.op.name, name, " expects [", channels, "], got ", i.shape(k)));
  TRI_CHECK(is_floating(i.dtype(k)),
            message(i.op.name, name, " expects a floating dtype, got ", i.dtype(k)));
}

void check_data(const Infer& i, size_t k) {
  TRI_CHECK(is_floating(i.dtype(k)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(k)));
  TRI_CHECK(i.shape(k).rank() >= 2,
            message(i.op.name, "x expects rank 2 or more, got ", i.shape(k)));
}

DType computed_in(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

void infer(const Infer& i) {
  check_data(i, kX);
  const Shape& x = i.shape(kX);
  const DType own = computed_in(i.dtype(kX));
  constexpr const char* kNames[] = {"mean", "variance", "x", "scale", "bias"};
  for (const size_t k : {kMean, kVariance, kScale, kBias}) check_vector(i, k, kNames[k], x[1]);
  for (const size_t k : {kMean, kVariance})
    TRI_CHECK(i.dtype(k) == own, message(i.op.name, kNames[k], " expects ", own, " for x of ",
                                         i.dtype(kX), ", got ", i.dtype(k)));
  if (i.has(5))
    TRI_CHECK(i.shape(5) == Shape({2, x[1]}) && i.dtype(5) == own,
              message(i.op.name, "sums expects ", own, " [2, ", x[1], "], got ", i.type(5).str()));
  TRI_CHECK(x.numel() > 0 || x[1] == 0, message(i.op.name, "x of shape ", x, " has no elements"));
  const double momentum = i.attrs<BatchNormAttrs>().momentum;
  TRI_CHECK(momentum >= 0 && momentum <= 1, message(i.op.name, "momentum expects 0 to 1"));
  i.out(own, Shape{x[1]});
  i.out(own, Shape{x[1]});
  i.out(i.dtype(kX), x);
  i.out(own, Shape{x[1]});
  i.out(own, Shape{x[1]});
}

void infer_grad(const Infer& i) {
  check_data(i, 0);
  const Shape& x = i.shape(0);
  constexpr const char* kNames[] = {"x", "scale", "saved_mean", "saved_inv_std"};
  for (size_t k = 1; k < 4; ++k) check_vector(i, k, kNames[k], x[1]);
  TRI_CHECK(i.shape(4) == x && i.dtype(4) == i.dtype(0),
            message(i.op.name, "dout expects ", i.type(0).str(), ", got ", i.type(4).str()));
  i.out(i.dtype(0), x);
  i.out(computed_in(i.dtype(0)), Shape{x[1]});
  i.out(computed_in(i.dtype(0)), Shape{x[1]});
}

// The data as rows of channels (channels-last, or no pixels at all), or as runs of one channel.
struct Form {
  int64_t channels, count;  // count: elements of a channel
  int64_t run, runs;        // run 0: rows
  int64_t parts;            // that sum on their own

  explicit Form(const Type& x)
      : channels(x.shape[1]), count(channels ? x.shape.numel() / channels : 0) {
    const int64_t pixels = split_at(x.shape, 1).inner;
    run = channels_last(x) || pixels == 1 ? 0 : pixels;
    runs = run ? x.shape[0] * channels : 0;
    parts = std::clamp<int64_t>(x.shape.numel() / kTaskElements, 1, num_threads());
    if (run == 0) parts = std::min(parts, std::max<int64_t>(1, count));
  }
  // Doubles for the sums of all parts.
  int64_t sums() const { return 2 * channels * parts; }

  // rows(first, end, sums) or run_of(run, channel, sums) fill two sums a channel, which end up in
  // sums[0..2 channels).
  template <class R, class S> void sum(double* sums, R rows, S run_of) const {
    std::memset(sums, 0, static_cast<size_t>(2 * channels * parts) * sizeof(double));
    parallel_for(parts, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t p = begin; p < end; ++p) {
        double* own = sums + 2 * channels * p;
        if (run == 0) rows(count * p / parts, count * (p + 1) / parts, own);
        for (int64_t r = runs * p / parts; r < runs * (p + 1) / parts; ++r)
          run_of(r, r % channels, own);
      }
    });
    for (int64_t p = 1; p < parts; ++p)
      for (int64_t c = 0; c < 2 * channels; ++c) sums[c] += sums[2 * channels * p + c];
  }
  template <class R, class S> void apply(R rows, S run_of) const {
    parallel_for(parts, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t p = begin; p < end; ++p) {
        if (run == 0) rows(count * p / parts, count * (p + 1) / parts);
        for (int64_t r = runs * p / parts; r < runs * (p + 1) / parts; ++r) run_of(r, r % channels);
      }
    });
  }
};

// Sums are taken around one value of the channel, so that a large mean does not drown the variance.
template <class T, class A> void take_shift(const Form& f, const T* x, A* shift) {
  for (int64_t c = 0; c < f.channels; ++c) shift[c] = A(x[f.run ? c * f.run : c]);
}

template <class T> Kernel train_kernel(const Prepare& p) {
  using A = Compute<T>;
  const Form f(p.in(kX));
  const NormRows<T, A>& loops = norm_rows<T, A>();
  const Param<A> scale_of(p, kScale), bias_of(p, kBias);
  const auto attrs = p.attrs<BatchNormAttrs>();
  const auto run = [=, &loops](const Launch& l) {
    auto* sums = static_cast<double*>(l.scratch);
    A *shift = reinterpret_cast<A*>(sums + f.sums()), *factor = shift + f.channels,
      *offset = factor + f.channels, *rest = offset + f.channels;
    const A *scale = scale_of.get(l, rest), *bias = bias_of.get(l, rest);
    const T* x = l.input<T>(kX);
    T* y = l.output<T>(2);
    const int64_t n = f.channels;
    take_shift(f, x, shift);
    f.sum(
        sums,
        [&](int64_t r0, int64_t r1, double* to) {
          loops.sums(x + r0 * n, r1 - r0, n, shift, to, to + n);
        },
        [&](int64_t r, int64_t c, double* to) {
          loops.run_sums(x + r * f.run, f.run, shift[c], to + c, to + n + c);
        });
    for (int64_t c = 0; c < n; ++c) {
      const double d = sums[c] / static_cast<double>(f.count), mean = shift[c] + d;
      const double variance = std::max(0.0, sums[n + c] / static_cast<double>(f.count) - d * d);
      const double inverse = 1 / std::sqrt(variance + attrs.epsilon);
      const auto moved = [&](size_t k, double batch) {
        l.output<A>(k)[c] =
            static_cast<A>(attrs.momentum * l.input<A>(k)[c] + (1 - attrs.momentum) * batch);
      };
      moved(kMean, mean);
      moved(kVariance, variance);
      l.output<A>(3)[c] = static_cast<A>(mean);
      l.output<A>(4)[c] = static_cast<A>(inverse);
      factor[c] = static_cast<A>(scale[c] * inverse);
      offset[c] = static_cast<A>(bias[c] - mean * scale[c] * inverse);
    }
    f.apply([&](int64_t r0,
                int64_t r1) { loops.affine(x + r0 * n, y + r0 * n, r1 - r0, n, factor, offset); },
            [&](int64_t r, int64_t c) {
              loops.run_affine(x + r * f.run, y + r * f.run, f.run, factor[c], offset[c]);
            });
  };
  return {run, static_cast<size_t>(f.sums()) * sizeof(double) +
                   static_cast<size_t>(5 * f.channels) * sizeof(A)};
}

template <class T> Kernel grad_kernel(const Prepare& p) {
  using A = Compute<T>;
  const Form f(channels_last(p.in(4)) ? p.in(4) : p.in(0));
  const NormRows<T, A>& loops = norm_rows<T, A>();
  const Param<A> scale_of(p, 1), mean_of(p, 2), inverse_of(p, 3);
  const auto run = [=, &loops](const Launch& l) {
    auto* sums = static_cast<double*>(l.scratch);
    A *a = reinterpret_cast<A*>(sums + f.sums()), *b = a + f.channels, *k = b + f.channels,
      *rest = k + f.channels;
    const A *scale = scale_of.get(l, rest), *mean = mean_of.get(l, rest),
            *inverse = inverse_of.get(l, rest);
    const T *x = l.input<T>(0), *dy = l.input<T>(4);
    T* dx = l.output<T>(0);
    const int64_t n = f.channels;
    f.sum(
        sums,
        [&](int64_t r0, int64_t r1, double* to) {
          loops.grad_sums(x + r0 * n, dy + r0 * n, r1 - r0, n, mean, to, to + n);
        },
        [&](int64_t r, int64_t c, double* to) {
          loops.run_grad_sums(x + r * f.run, dy + r * f.run, f.run, mean[c], to + c, to + n + c);
        });
    for (int64_t c = 0; c < n; ++c) {
      const double s = scale[c], m = mean[c], r = inverse[c], count = static_cast<double>(f.count);
      l.output<A>(1)[c] = static_cast<A>(sums[n + c] * r);
      l.output<A>(2)[c] = static_cast<A>(sums[c]);
      const double by_x = -s * r * r * r * sums[n + c] / count;
      a[c] = static_cast<A>(s * r);
      b[c] = static_cast<A>(by_x);
      k[c] = static_cast<A>(-s * r * sums[c] / count - by_x * m);
    }
    f.apply(
        [&](int64_t r0, int64_t r1) {
          loops.grad(x + r0 * n, dy + r0 * n, dx + r0 * n, r1 - r0, n, a, b, k);
        },
        [&](int64_t r, int64_t c) {
          const int64_t at = r * f.run;
          loops.run_grad(x + at, dy + at, dx + at, f.run, a[c], b[c], k[c]);
        });
  };
  return {run, static_cast<size_t>(f.sums()) * sizeof(double) +
                   static_cast<size_t>(6 * f.channels) * sizeof(A)};
}

template <size_t kData> Kernel prepare(const Prepare& p) {
  const Type& x = p.in(kData);
  if (x.shape.numel() == 0) return zero_outputs(p);
  return with_floating(*p.node.op, x.dtype, [&]<class T>(Tag<T>) {
    if constexpr (kData == kX) return train_kernel<T>(p);
    else return grad_kernel<T>(p);
  });
}

void grad(Grad& g) {
  if (g.dout(2) == nullptr) return;  // the running statistics pass no gradient on
  const std::vector<Value*> back =
      record(ops::batch_norm_grad_op, {g.in(kX), g.in(kScale), g.out(3), g.out(4), g.dout(2)});
  g.set(kX, back[0]);
  g.set(kScale, back[1]);
  g.set(kBias, back[2]);
}

}  // namespace

namespace ops {

constinit const Op batch_norm_train_op{.name = "batch_norm_train",
                                       .inputs = 6,
                                       .outputs = 5,
                                       .attrs = &attr_info<BatchNormAttrs>,
                                       .infer = infer,
                                       .grad = grad,
                                       .cpu = prepare<kX>,
                                       .cuda = TRI_CUDA(cuda_batch_norm_train),
                                       .amp_inputs = 1U << 2,
                                       .layouts = Layouts::kFollow,
                                       .in_place = 3};
constinit const Op batch_norm_grad_op{.name = "batch_norm_grad",
                                      .inputs = 5,
                                      .outputs = 3,
                                      .infer = infer_grad,
                                      .cpu = prepare<0>,
                                      .cuda = TRI_CUDA(cuda_batch_norm_grad),
                                      .layouts = Layouts::kFollow};

std::vector<Value*> batch_norm_train(Value* mean, Value* variance, Value* x, Value* scale,
                                     Value* bias, double momentum, double epsilon) {
  return record(batch_norm_train_op, {mean, variance, x, scale, bias},
                BatchNormAttrs{.momentum = momentum, .epsilon = epsilon});
}

}  // namespace ops
}  // namespace trireme
