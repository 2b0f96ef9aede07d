// pool2d: maxima or averages over windows, also adaptive (the windows follow from the output size)
// and global.
#include "ops/pool.h"
#include "ops/cuda_kernels.h"

#include "ops/elements.h"
#include "ops/pool_windows.h"
#include "ops/reduce_kernel.h"

namespace trireme {
namespace {

int64_t output_size(const Op& op, const Pool2dAttrs& a, int64_t in, size_t d) {
  const int64_t k = a.kernel[d], s = a.strides[d], before = a.paddings[2 * d],
                after = a.paddings[2 * d + 1];
  if (a.adaptive) return k;
  const int64_t room = in - k + before + after + (a.ceil_mode ? s - 1 : 0);
  TRI_CHECK(in - k + before + after >= 0, message(op.name, "a window of ", k, " does not fit ", in,
                                                  " pixels padded by ", before, " and ", after));
  return room / s + 1;
}

void grad(Grad& g) { g.set(0, ops::pool2d_grad(g.dout(), g.in(), g.attrs<Pool2dAttrs>())); }

// One channel of one window; pixels are `step` elements apart.
template <class T>
T pool_element(const T* x, const PoolWindow& w, int64_t row, int64_t step, bool max) {
  using A = Compute<T>;
  A v = max ? std::numeric_limits<A>::lowest() : A(0);
  for (int64_t h = w.h0; h < w.h1; ++h) {
    for (int64_t k = w.w0; k < w.w1; ++k) {
      const A e = x[h * row + k * step];
      v = max ? std::max(v, e) : v + e;
    }
  }
  return T(max ? v : v * static_cast<A>(w.factor));
}

// f(x, window, row, y) makes all channels of one result.
template <class T, class F>
Kernel channels_last_kernel(const Prepare& p, const PoolWindows& windows, F f) {
  const Shape &x = p.in().shape, &y = p.out().shape;
  const int64_t channels = x[1], height = x[2], width = x[3], oh = y[2], ow = y[3];
  const int64_t work = channels * height * width / std::max<int64_t>(1, oh * ow);
  return {[=, images = x[0]](const Launch& l) {
    parallel_for(images * oh * ow, grain_of(work), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end;) {
        const int64_t row = i / ow, stop = std::min(end, (row + 1) * ow);
        const T* from = l.input<T>(0) + row / oh * height * width * channels;
        for (const int64_t h = row % oh; i < stop; ++i)
          f(from, windows.at(h, i - row * ow), width * channels, l.output<T>() + i * channels);
      }
    });
  }};
}

template <class T> Kernel plain_kernel(const Prepare& p, const PoolWindows& windows, bool max) {
  const Shape &x = p.in().shape, &y = p.out().shape;
  return {[=, planes = x[0] * x[1], pixels = x[2] * x[3], width = x[3], oh = y[2],
           ow = y[3]](const Launch& l) {
    parallel_for(planes, grain_of(pixels), [&](int64_t begin, int64_t end, int) {
      for (int64_t c = begin; c < end; ++c) {
        T* to = l.output<T>() + c * oh * ow;
        for (int64_t h = 0; h < oh; ++h)
          for (int64_t w = 0; w < ow; ++w)
            *to++ = pool_element(l.input<T>(0) + c * pixels, windows.at(h, w), width, 1, max);
      }
    });
  }};
}

// One window that covers the picture: a reduction over all pixels.
template <class T, class R> Kernel global_kernel(const AxisSplit& split, Compute<T> factor) {
  using A = Compute<T>;
  const ReducePlan plan(split);
  return {[=](const Launch& l) {
            reduce_run<R, A>(plan, l.input<T>(0), l.output<T>(), static_cast<A*>(l.scratch),
                             [factor](A v) { return T(v * factor); });
          },
          static_cast<size_t>(plan.partials()) * sizeof(A)};
}

template <class T> Kernel prepare_as(const Prepare& p) {
  const auto& a = p.attrs<Pool2dAttrs>();
  const Shape &x = p.in().shape, &y = p.out().shape;
  const bool max = a.pooling_type == "max", last = channels_last(p.in()) || channels_last(p.out());
  const int64_t channels = x[1], pixels = x[2] * x[3];
  const PoolWindows windows(a, x, y);
  const PoolWindow first = windows.at(0, 0);
  if (y[2] * y[3] == 1 && (first.h1 - first.h0) * (first.w1 - first.w0) == pixels) {
    const AxisSplit split =
        last ? AxisSplit{x[0], pixels, channels} : AxisSplit{x[0] * channels, pixels, 1};
    if (max) return global_kernel<T, MaxOf<Compute<T>>>(split, 1);
    const int64_t counted = windows.h[0].counted * windows.w[0].counted;
    return global_kernel<T, SumOf<Compute<T>>>(split,
                                               Compute<T>(1) / static_cast<Compute<T>>(counted));
  }
  if (!last) return plain_kernel<T>(p, windows, max);
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, BFloat16>) {
    using Bits = std::conditional_t<std::is_same_v<T, float>, float, uint16_t>;
    if (cpu_features().avx512)
      return channels_last_kernel<Bits>(
          p, windows, [=](const Bits* from, const PoolWindow& w, int64_t row, Bits* to) {
            pool_window_avx512(from, w, row, channels, max, to);
          });
  }
  return channels_last_kernel<T>(p, windows,
                                 [=](const T* from, const PoolWindow& w, int64_t row, T* to) {
                                   for (int64_t c = 0; c < channels; ++c)
                                     to[c] = pool_element(from + c, w, row, channels, max);
                                 });
}

}  // namespace

Shape pool_output(const Infer& i) {
  const auto& a = i.attrs<Pool2dAttrs>();
  const Shape& x = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(x.rank() == 4, message(i.op.name, "x expects [N, C, H, W], got ", x));
  TRI_CHECK(a.pooling_type == "max" || a.pooling_type == "avg",
            message(i.op.name, "pooling_type expects max or avg, got ", a.pooling_type));
  TRI_CHECK(a.kernel.size() == 2 && a.strides.size() == 2 && a.paddings.size() == 4,
            message(i.op.name, "kernel, strides and paddings expect 2, 2 and 4 values, got ",
                    a.kernel.size(), ", ", a.strides.size(), " and ", a.paddings.size()));
  constexpr int64_t kMost = int64_t{1} << 31;
  for (size_t d = 0; d < 2; ++d) {
    TRI_CHECK(a.kernel[d] > 0 && a.strides[d] > 0 && a.kernel[d] < kMost && a.strides[d] < kMost,
              message(i.op.name, "kernel and strides expect positive values, got ", a.kernel[d],
                      " and ", a.strides[d]));
    TRI_CHECK(x[static_cast<int>(d) + 2] > 0,
              message(i.op.name, "x of shape ", x, " has no pixels"));
  }
  for (const int64_t p : a.paddings)
    TRI_CHECK(p >= 0 && p < kMost,
              message(i.op.name, "paddings expects values of 0 or more, got ", p));
  return {x[0], x[1], output_size(i.op, a, x[2], 0), output_size(i.op, a, x[3], 1)};
}

namespace ops {

constinit const Op pool2d_op{.name = "pool2d",
                             .attrs = &attr_info<Pool2dAttrs>,
                             .infer = [](const Infer& i) { i.out(i.dtype(0), pool_output(i)); },
                             .grad = grad,
                             .cpu =
                                 [](const Prepare& p) {
                                   if (p.out().shape.numel() == 0)
                                     return Kernel{[](const Launch&) {}};
                                   return with_floating(
                                       *p.node.op, p.in().dtype,
                                       [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
                                 },
                             .cuda = TRI_CUDA(cuda_pool2d),
                             .layouts = Layouts::kPrefersChannelsLast};

Value* pool2d(Value* x, const Pool2dAttrs& attrs) { return record1(pool2d_op, {x}, attrs); }

}  // namespace ops
}  // namespace trireme
