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

// Windows over whole pictures, channels-last. A block takes `each` pixels of a picture (of the last
// part of them fewer) and up to `width` vectors of channels; its result is one pixel of a picture
// that has as many as there are parts.
template <int N, bool kMax, class X, class Y>
__global__ void __launch_bounds__(kThreads)
    global_pool(const X* x, Y* y, int64_t pixels, int64_t each, int64_t channels, int width,
                Acc<X> factor) {
  using A = Acc<X>;
  __shared__ A sums[kThreads * (N + 1)];
  const int tx = threadIdx.x % width, ty = threadIdx.x / width, rows = kThreads / width;
  let_next_begin();
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * width + tx) * N;
  const int64_t begin = blockIdx.y * each, end = min(begin + each, pixels);
  const X* picture = x + blockIdx.z * pixels * channels + c;
  A v[N];
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] = kMax ? lowest<A>() : A(0);
  constexpr int kAtOnce = std::min(8, 32 / N);
  wait_for_previous();
  for (int64_t i = begin + ty; c < channels && i < end; i += rows * kAtOnce) {
    A e[kAtOnce][N];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u)
      load<N>(picture + min(i + rows * u, end - 1) * channels, e[u]);
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (i + rows * u >= end) break;
#pragma unroll
      for (int k = 0; k < N; ++k) v[k] = kMax ? (e[u][k] > v[k] ? e[u][k] : v[k]) : v[k] + e[u][k];
    }
  }
#pragma unroll
  for (int k = 0; k < N; ++k) sums[threadIdx.x * (N + 1) + k] = v[k];
  __syncthreads();
  for (int k = threadIdx.x; k < width * N; k += kThreads) {
    const int64_t column = static_cast<int64_t>(blockIdx.x) * width * N + k;
    if (column >= channels) break;
    const A* sum = sums + k / N * (N + 1) + k % N;
    A all = *sum;
    for (int r = 1; r < rows; ++r) {
      const A other = sum[r * width * (N + 1)];
      all = kMax ? (other > all ? other : all) : all + other;
    }
    y[(blockIdx.z * gridDim.y + blockIdx.y) * channels + column] = down<Y>(all * factor);
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

// How a picture is shared out: as many threads side by side as there are vectors of channels, and
// blocks with a few turns each.
struct Shares {
  int width = 32;
  int64_t across, each, parts;

  Shares(int64_t vectors, int64_t pixels, int turn) {
    while (width > 1 && width / 2 >= vectors) width /= 2;
    across = (vectors + width - 1) / width;
    const int64_t block = static_cast<int64_t>(kThreads / width) * turn;  // pixels at once
    each = std::max(2 * block, (pixels + kMostParts - 1) / kMostParts);
    if (pixels <= 4 * block) each = pixels;  // a second kernel is not worth it
    parts = (pixels + each - 1) / each;
  }
  static constexpr int64_t kMostParts = 256;
};

template <int N, class T> Kernel global_kernel(const Pool& p, bool max) {
  using A = Acc<T>;
  const int64_t pixels = p.h.in * p.w.in, channels = p.channels;
  const auto counted = [](const Windows& w) {
    return w.adaptive || w.exclusive ? w.in : std::min(w.kernel, w.in);
  };
  const A factor = max ? A(1) : A(1) / static_cast<A>(counted(p.h) * counted(p.w));
  const Shares first(channels / N, pixels, std::min(8, 32 / N));
  const auto grid = [images = p.images](const Shares& s) {
    return dim3(static_cast<unsigned>(s.across), static_cast<unsigned>(s.parts),
                static_cast<unsigned>(images));
  };
  if (first.parts == 1)
    return {[=, grid = grid(first)](const Launch& l) {
      launch_next(max ? global_pool<N, true, T, T> : global_pool<N, false, T, T>, grid, kThreads,
                  stream_of(l), l.input<T>(0), l.output<T>(), pixels, pixels, channels, first.width,
                  factor);
    }};
  constexpr int kM = std::min(N, kVector<A>);
  const Shares second(channels / kM, 1, 1);
  return {[=, grid = grid(first), last = grid(second)](const Launch& l) {
            A* parts = static_cast<A*>(l.scratch);
            launch_next(max ? global_pool<N, true, T, A> : global_pool<N, false, T, A>, grid,
                        kThreads, stream_of(l), l.input<T>(0), parts, pixels, first.each, channels,
                        first.width, A(1));
            launch_next(max ? global_pool<kM, true, A, T> : global_pool<kM, false, A, T>, last,
                        kThreads, stream_of(l), static_cast<const A*>(parts), l.output<T>(),
                        first.parts, first.parts, channels, second.width, factor);
          },
          static_cast<size_t>(p.images * first.parts * channels) * sizeof(A)};
}

template <int N, class T> Kernel pool_kernel(const Pool& p, bool max, bool places) {
  const int64_t count = p.images * p.h.out * p.w.out * p.channels / N;
  if (is_global(p) && !places) return global_kernel<N, T>(p, max);
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
