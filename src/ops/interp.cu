// nearest_interp and bilinear_interp on the GPU: a thread makes a result, or 16 bytes of its
// channels.
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

template <bool kBilinear, class T> Kernel resize_kernel(const Prepare& p) {
  const auto& a = p.attrs<InterpAttrs>();
  const Shape& x = p.in().shape;
  const bool last = channels_last(p.in()) || channels_last(p.out());
  const bool half_pixel = a.align_mode == 0 && !a.align_corners;
  const Resize h{x[2], a.size[0], interp_ratio(a, x[2], a.size[0], 0), a.align_corners, half_pixel},
      w{x[3], a.size[1], interp_ratio(a, x[3], a.size[1], 1), a.align_corners, half_pixel};
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

}  // namespace trireme
