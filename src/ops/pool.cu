// pool2d, its gradient and max_pool2d_with_index on the GPU. A thread makes one result (of a
// gradient: one input element, from all windows over it, so that nothing is added by two threads).
#include "ops/cuda_common.cuh"
#include "ops/pool.h"

namespace trireme {
namespace cuda {
namespace {

// One dimension: how windows lie in the input.
struct Windows {
  int64_t in, out, kernel, stride, before, after;
  bool adaptive, exclusive;

  __device__ __forceinline__ int64_t begin(int64_t o) const {
    if (adaptive) return o * in / out;
    return min(in, max(int64_t{0}, o * stride - before));
  }
  __device__ __forceinline__ int64_t end(int64_t o) const {
    if (adaptive) return ((o + 1) * in + out - 1) / out;
    return max(begin(o), min(in, o * stride - before + kernel));
  }
  __device__ __forceinline__ int64_t counted(int64_t o) const {
    if (adaptive || exclusive) return end(o) - begin(o);
    const int64_t start = o * stride - before;
    return min(start + kernel, in + after) - start;
  }
  // The first and the last window that may hold place i.
  __device__ __forceinline__ int64_t first(int64_t i) const {
    if (adaptive) return i * out / in;
    const int64_t from = i + before - kernel + 1;
    return from <= 0 ? 0 : (from + stride - 1) / stride;
  }
  __device__ __forceinline__ int64_t last(int64_t i) const {
    if (adaptive) return min(out - 1, ((i + 1) * out - 1) / in);
    return min(out - 1, (i + before) / stride);
  }
};

struct Pool {
  Windows h, w;
  int64_t channels;  // innermost ones: 1 in row-major planes
  int64_t images;
};

template <class A> __device__ __forceinline__ A factor_of(const Pool& p, int64_t oh, int64_t ow) {
  const int64_t n = p.h.counted(oh) * p.w.counted(ow);
  return n > 0 ? A(1) / static_cast<A>(n) : A(0);
}

struct Place {
  int64_t image, h, w, c;
};
__device__ __forceinline__ Place place_of(int64_t i, int64_t height, int64_t width,
                                          int64_t groups) {
  Place p;
  p.c = i % groups;
  i /= groups;
  p.w = i % width;
  i /= width;
  p.h = i % height;
  p.image = i / height;
  return p;
}

// kSize: of windows of that many rows and columns, whose elements are all asked for at once; 0: of
// any.
template <int N, bool kMax, int kSize, class T>
__global__ void __launch_bounds__(kThreads)
    pool(const T* x, T* y, int32_t* places, Pool p, int64_t count) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  let_next_begin();
  const Place at = place_of(i, p.h.out, p.w.out, p.channels / N);
  wait_for_previous();
  if (i >= count) return;
  const int64_t h0 = p.h.begin(at.h), h1 = p.h.end(at.h), w0 = p.w.begin(at.w), w1 = p.w.end(at.w);
  const T* image = x + at.image * p.h.in * p.w.in * p.channels + at.c * N;
  A v[N];
  int32_t where[N];
#pragma unroll
  for (int k = 0; k < N; ++k)
    v[k] = kMax ? lowest<A>() : A(0), where[k] = static_cast<int32_t>(h0 * p.w.in + w0);
  const auto take = [&](const A(&e)[N], int64_t h, int64_t w) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if constexpr (kMax) {
        if (e[k] > v[k]) v[k] = e[k], where[k] = static_cast<int32_t>(h * p.w.in + w);
      } else {
        v[k] += e[k];
      }
    }
  };
  if constexpr (kSize == 0) {
    for (int64_t h = h0; h < h1; ++h) {
      for (int64_t w = w0; w < w1; ++w) {
        A e[N];
        load<N>(image + (h * p.w.in + w) * p.channels, e);
        take(e, h, w);
      }
    }
  } else {
    A e[kSize * kSize][N];
#pragma unroll
    for (int d = 0; d < kSize * kSize; ++d) {
      const int64_t h = min(h0 + d / kSize, p.h.in - 1), w = min(w0 + d % kSize, p.w.in - 1);
      load<N>(image + (h * p.w.in + w) * p.channels, e[d]);
    }
#pragma unroll
    for (int d = 0; d < kSize * kSize; ++d)
      if (h0 + d / kSize < h1 && w0 + d % kSize < w1) take(e[d], h0 + d / kSize, w0 + d % kSize);
  }
  if constexpr (!kMax) {
    const A f = factor_of<A>(p, at.h, at.w);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] *= f;
  }
  store<N>(y + i * N, v);
  if (kMax && places) {
#pragma unroll
    for (int k = 0; k < N; ++k) places[i * N + k] = where[k];
  }
}

// Whether place (h, w) holds the first maximum of window (oh, ow), for N channels.
template <int N, class T>
__device__ void first_maximum(const T* image, const Pool& p, int64_t oh, int64_t ow, int64_t h,
                              int64_t w, bool (&mine)[N]) {
  using A = Acc<T>;
  A top[N];
#pragma unroll
  for (int k = 0; k < N; ++k)
    top[k] = lowest<A>(), mine[k] = h == p.h.begin(oh) && w == p.w.begin(ow);
  for (int64_t y = p.h.begin(oh); y < p.h.end(oh); ++y) {
    for (int64_t x = p.w.begin(ow); x < p.w.end(ow); ++x) {
      A e[N];
      load<N>(image + (y * p.w.in + x) * p.channels, e);
#pragma unroll
      for (int k = 0; k < N; ++k)
        if (e[k] > top[k]) top[k] = e[k], mine[k] = y == h && x == w;
    }
  }
}

template <int N, bool kMax, class T>
__global__ void __launch_bounds__(kThreads)
    pool_grad(const T* dy, const T* x, T* dx, Pool p, int64_t count) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const Place at = place_of(i, p.h.in, p.w.in, p.channels / N);
  const T* grads = dy + at.image * p.h.out * p.w.out * p.channels + at.c * N;
  A sum[N] = {};
  for (int64_t oh = p.h.first(at.h); oh <= p.h.last(at.h); ++oh) {
    if (at.h < p.h.begin(oh) || at.h >= p.h.end(oh)) continue;
    for (int64_t ow = p.w.first(at.w); ow <= p.w.last(at.w); ++ow) {
      if (at.w < p.w.begin(ow) || at.w >= p.w.end(ow)) continue;
      A g[N];
      load<N>(grads + (oh * p.w.out + ow) * p.channels, g);
      if constexpr (kMax) {
        bool mine[N];
        first_maximum<N>(x + at.image * p.h.in * p.w.in * p.channels + at.c * N, p, oh, ow, at.h,
                         at.w, mine);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] += mine[k] ? g[k] : A(0);
      } else {
        const A f = factor_of<A>(p, oh, ow);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] += g[k] * f;
      }
    }
  }
  store<N>(dx + i * N, sum);
}

// A window over the whole picture, channels-last: blocks of 8 rows of pixels by 32 vectors.
template <int N, bool kMax, class T>
__global__ void __launch_bounds__(kThreads)
    global_pool(const T* x, T* y, int64_t pixels, int64_t channels, Acc<T> factor) {
  using A = Acc<T>;
  __shared__ A parts[8][32 * N + 1];
  const int tx = threadIdx.x % 32, ty = threadIdx.x / 32;
  let_next_begin();
  wait_for_previous();
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * 32 + tx) * N;
  A v[N];
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] = kMax ? lowest<A>() : A(0);
  constexpr int kAtOnce = std::min(8, 32 / N);
  for (int64_t i = ty; c < channels && i < pixels; i += 8 * kAtOnce) {
    A e[kAtOnce][N];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u)
      load<N>(x + (blockIdx.y * pixels + min(i + 8 * u, pixels - 1)) * channels + c, e[u]);
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (i + 8 * u >= pixels) break;
#pragma unroll
      for (int k = 0; k < N; ++k) v[k] = kMax ? (e[u][k] > v[k] ? e[u][k] : v[k]) : v[k] + e[u][k];
    }
  }
#pragma unroll
  for (int k = 0; k < N; ++k) parts[ty][tx * N + k] = v[k];
  __syncthreads();
  for (int k = threadIdx.x; k < 32 * N; k += kThreads) {
    const int64_t column = static_cast<int64_t>(blockIdx.x) * 32 * N + k;
    if (column >= channels) break;
    A all = parts[0][k];
    for (int r = 1; r < 8; ++r)
      all = kMax ? (parts[r][k] > all ? parts[r][k] : all) : all + parts[r][k];
    y[blockIdx.y * channels + column] = down<T>(all * factor);
  }
}

Windows windows_of(const Pool2dAttrs& a, int64_t in, int64_t out, size_t d) {
  return {
      in,         out,        a.kernel[d], a.strides[d], a.paddings[2 * d], a.paddings[2 * d + 1],
      a.adaptive, a.exclusive};
}

Pool pool_of(const Pool2dAttrs& a, const Shape& x, const Shape& y, bool last) {
  return {windows_of(a, x[2], y[2], 0), windows_of(a, x[3], y[3], 1), last ? x[1] : 1,
          last ? x[0] : x[0] * x[1]};
}

// One window that is the whole picture, and one number to divide by.
bool is_global(const Pool& p) {
  const auto covers = [](const Windows& w) {
    return w.out == 1 && (w.adaptive || (w.before == 0 && w.after == 0 && w.kernel >= w.in));
  };
  return p.channels > 1 && p.images <= 65535 && covers(p.h) && covers(p.w);
}

template <int N, class T> Kernel pool_kernel(const Pool& p, bool max, bool places) {
  const int64_t count = p.images * p.h.out * p.w.out * p.channels / N;
  if (is_global(p) && !places) {
    const int64_t pixels = p.h.in * p.w.in;
    const dim3 grid(blocks_for(p.channels, 32 * N), static_cast<unsigned>(p.images));
    const auto counted = [](const Windows& w) {
      return w.adaptive || w.exclusive ? w.in : std::min(w.kernel, w.in);
    };
    using A = Acc<T>;
    const A factor = max ? A(1) : A(1) / static_cast<A>(counted(p.h) * counted(p.w));
    return {[=](const Launch& l) {
      launch_next(max ? global_pool<N, true, T> : global_pool<N, false, T>, grid, kThreads,
                  stream_of(l), l.input<T>(0), l.output<T>(), pixels, p.channels, factor);
    }};
  }
  const auto is_three = [](const Windows& w) { return !w.adaptive && w.kernel == 3; };
  const bool three = N > 1 && is_three(p.h) && is_three(p.w);
  constexpr int kThree = N > 1 ? 3 : 0;
  const auto kernel = max ? (three ? pool<N, true, kThree, T> : pool<N, true, 0, T>)
                          : (three ? pool<N, false, kThree, T> : pool<N, false, 0, T>);
  return {[=, blocks = blocks_for(count)](const Launch& l) {
    launch_next(kernel, dim3(blocks), kThreads, stream_of(l), l.input<T>(0), l.output<T>(),
                places ? l.output<int32_t>(1) : nullptr, p, count);
  }};
}

template <class T> Kernel forward(const Prepare& p, bool places) {
  const bool last = channels_last(p.in()) || channels_last(p.out());
  const auto& a = p.attrs<Pool2dAttrs>();
  const Pool pool = pool_of(a, p.in().shape, p.out().shape, last);
  const bool max = a.pooling_type == "max";
  return vectors_fit(sizeof(T), pool.channels) ? pool_kernel<kVector<T>, T>(pool, max, places)
                                               : pool_kernel<1, T>(pool, max, places);
}

template <int N, class T> Kernel grad_kernel(const Pool& p, bool max) {
  const int64_t count = p.images * p.h.in * p.w.in * p.channels / N;
  return {[=, blocks = blocks_for(count)](const Launch& l) {
    (max ? pool_grad<N, true, T> : pool_grad<N, false, T>)<<<blocks, kThreads, 0, stream_of(l)>>>(
        l.input<T>(0), l.input<T>(1), l.output<T>(), p, count);
    TRI_CUDA_LAUNCHED();
  }};
}

template <class T> Kernel backward(const Prepare& p) {
  const bool last =
      channels_last(p.in()) || channels_last(p.out()) || (p.has(1) && channels_last(p.in(1)));
  const auto& a = p.attrs<Pool2dAttrs>();
  const Pool pool = pool_of(a, p.out().shape, p.in().shape, last);
  const bool max = a.pooling_type == "max";
  return vectors_fit(sizeof(T), pool.channels) ? grad_kernel<kVector<T>, T>(pool, max)
                                               : grad_kernel<1, T>(pool, max);
}

}  // namespace
}  // namespace cuda

Kernel cuda_pool2d(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  const bool places = p.node.op == &ops::max_pool2d_with_index_op;
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::forward<T>(p, places); });
}
Kernel cuda_pool2d_grad(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::backward<T>(p); });
}

}  // namespace trireme
