// nearest_interp, bilinear_interp and their gradients on the GPU: a thread makes a result, or 16
// bytes of its channels; of a gradient from all that its pixel went into.
#include "ops/cuda_common.cuh"
#include "ops/interp_tables.h"

namespace trireme {
namespace cuda {
namespace {

// One dimension; the arithmetic is interp_tables.h's, without contraction, so that the same pixels
// are chosen.
struct Resize {
  int64_t in, out;
  float ratio;
  bool corners, half_pixel;

  __device__ __forceinline__ int64_t nearest(int64_t o) const {
    const float at = __fadd_rn(__fmul_rn(ratio, static_cast<float>(o)), corners ? 0.5f : 0.f);
    return min(in - 1, static_cast<int64_t>(at));
  }
  __device__ __forceinline__ int64_t pair(int64_t o, int64_t& second, float& weight) const {
    float at = half_pixel
                   ? __fadd_rn(__fmul_rn(ratio, __fadd_rn(static_cast<float>(o), 0.5f)), -0.5f)
                   : __fmul_rn(ratio, static_cast<float>(o));
    at = fmaxf(at, 0.f);
    const int64_t first = min(in - 1, static_cast<int64_t>(at));
    second = min(first + 1, in - 1);
    weight = at - static_cast<float>(first);
    return first;
  }

  // Results that pixel i may have gone into lie between these; weight_of tells which did.
  __device__ __forceinline__ int64_t lowest(int64_t i) const {
    if (i == 0 || ratio <= 0.f) return 0;
    return max(int64_t{0}, static_cast<int64_t>((static_cast<float>(i) - 1.5f) / ratio) - 2);
  }
  __device__ __forceinline__ int64_t highest(int64_t i) const {
    if (i == in - 1 || ratio <= 0.f) return out - 1;
    return min(out - 1, static_cast<int64_t>((static_cast<float>(i) + 1.5f) / ratio) + 2);
  }
  template <bool kBilinear, class A>
  __device__ __forceinline__ A weight_of(int64_t o, int64_t i) const {
    if constexpr (!kBilinear) return nearest(o) == i ? A(1) : A(0);
    int64_t second;
    float weight;
    const int64_t first = pair(o, second, weight);
    return (first == i ? A(1) - A(weight) : A(0)) + (second == i ? A(weight) : A(0));
  }
};

template <int N, bool kBilinear, class T>
__global__ void __launch_bounds__(kThreads)
    resize(const T* x, T* y, Resize rh, Resize rw, int64_t channels, int64_t count) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t groups = channels / N, c = i % groups * N, w = i / groups % rw.out,
                h = i / groups / rw.out % rh.out, image = i / groups / rw.out / rh.out;
  const T* from = x + image * rh.in * rw.in * channels + c;
  const auto at = [&](int64_t ph, int64_t pw, A(&v)[N]) {
    load<N>(from + (ph * rw.in + pw) * channels, v);
  };
  A v[N];
  if constexpr (kBilinear) {
    int64_t h1, w1;
    float sh, sw;
    const int64_t h0 = rh.pair(h, h1, sh), w0 = rw.pair(w, w1, sw);
    const A s = static_cast<A>(sh), t = static_cast<A>(sw);
    A a[N], b[N], d[N];
    at(h0, w0, v), at(h0, w1, a), at(h1, w0, b), at(h1, w1, d);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const A upper = v[k] * (1 - t) + a[k] * t, lower = b[k] * (1 - t) + d[k] * t;
      v[k] = upper * (1 - s) + lower * s;
    }
  } else {
    at(rh.nearest(h), rw.nearest(w), v);
  }
  store<N>(y + i * N, v);
}

template <int N, bool kBilinear, class T>
__global__ void __launch_bounds__(kThreads)
    resize_grad(const T* dy, T* dx, Resize rh, Resize rw, int64_t channels, int64_t count) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t groups = channels / N, c = i % groups * N, w = i / groups % rw.in,
                h = i / groups / rw.in % rh.in, image = i / groups / rw.in / rh.in;
  const T* from = dy + image * rh.out * rw.out * channels + c;
  const int64_t w0 = rw.lowest(w), w1 = rw.highest(w);
  A sum[N] = {};
  for (int64_t oh = rh.lowest(h); oh <= rh.highest(h); ++oh) {
    const A s = rh.template weight_of<kBilinear, A>(oh, h);
    if (s == A(0)) continue;
    for (int64_t ow = w0; ow <= w1; ++ow) {
      const A t = rw.template weight_of<kBilinear, A>(ow, w);
      if (t == A(0)) continue;
      A g[N];
      load<N>(from + (oh * rw.out + ow) * channels, g);
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += s * t * g[k];
    }
  }
  store<N>(dx + i * N, sum);
}

Resize resize_of(const InterpAttrs& a, int64_t in, int64_t out, size_t d) {
  return {in, out, interp_ratio(a, in, out, d), a.align_corners,
          a.align_mode == 0 && !a.align_corners};
}

template <bool kBilinear, class T> Kernel resize_grad_kernel(const Prepare& p) {
  const auto& a = p.attrs<InterpAttrs>();
  const Shape& x = p.out().shape;
  const bool last = channels_last(p.in()) || channels_last(p.out());
  const Resize h = resize_of(a, x[2], a.size[0], 0), w = resize_of(a, x[3], a.size[1], 1);
  const int64_t channels = last ? x[1] : 1;
  const bool wide = vectors_fit(sizeof(T), channels);
  const int64_t count = x.numel() / (wide ? kVector<T> : 1);
  return {[=, blocks = blocks_for(count)](const Launch& l) {
    (wide ? resize_grad<kVector<T>, kBilinear, T>
          : resize_grad<1, kBilinear, T>)<<<blocks, kThreads, 0, stream_of(l)>>>(
        l.input<T>(0), l.output<T>(), h, w, channels, count);
    TRI_CUDA_LAUNCHED();
  }};
}

template <bool kBilinear, class T> Kernel resize_kernel(const Prepare& p) {
  const auto& a = p.attrs<InterpAttrs>();
  const Shape& x = p.in().shape;
  const bool last = channels_last(p.in()) || channels_last(p.out());
  const Resize h = resize_of(a, x[2], a.size[0], 0), w = resize_of(a, x[3], a.size[1], 1);
  const int64_t channels = last ? x[1] : 1;
  const bool wide = vectors_fit(sizeof(T), channels);
  const int64_t count = p.out().shape.numel() / (wide ? kVector<T> : 1);
  return {[=, blocks = blocks_for(count)](const Launch& l) {
    (wide ? resize<kVector<T>, kBilinear, T>
          : resize<1, kBilinear, T>)<<<blocks, kThreads, 0, stream_of(l)>>>(
        l.input<T>(0), l.output<T>(), h, w, channels, count);
    TRI_CUDA_LAUNCHED();
  }};
}

}  // namespace
}  // namespace cuda

Kernel cuda_nearest_interp(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  return cuda::with_cuda_floating(
      *p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return cuda::resize_kernel<false, T>(p); });
}
Kernel cuda_bilinear_interp(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::resize_kernel<true, T>(p); });
}

Kernel cuda_nearest_interp_grad(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return cuda::resize_grad_kernel<false, T>(p);
  });
}
Kernel cuda_bilinear_interp_grad(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return cuda::resize_grad_kernel<true, T>(p);
  });
}

}  // namespace trireme
