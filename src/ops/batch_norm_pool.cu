// Training batch norm, ReLU and max pooling in one on the GPU, forward and backward, channels-last:
// what lies between x and the pooled result is never written.
#include "ops/batch_norm_device.cuh"
#include "ops/batch_norm_fused.h"

namespace trireme {
namespace cuda {
namespace {

constexpr size_t kX = 2;  // of the forward inputs (mean, variance, x, scale, bias)

// Windows of pooling. K and S: the usual square window and stride as constants; 0: as they come.
struct Pool {
  int in_h, in_w, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, top, left;
};

struct Pixel {
  int64_t image;
  int h, w;
};
__device__ __forceinline__ Pixel pixel_of(int64_t i, int height, int width) {
  const int64_t row = divided(i, width), image = divided(row, height);
  return {image, static_cast<int>(row - image * height), static_cast<int>(i - row * width)};
}

// A place's index within a window, one byte for each of N channels.
template <int N> struct Places { uint8_t at[N]; };
template <int N> __device__ __forceinline__ Places<N> load_places(const uint8_t* p) {
  Places<N> v;
  if constexpr (N == 8) v = as<Places<N>>(*reinterpret_cast<const uint2*>(p));
  else if constexpr (N == 4) v = as<Places<N>>(*reinterpret_cast<const unsigned*>(p));
  else if constexpr (N == 2) v = as<Places<N>>(*reinterpret_cast<const unsigned short*>(p));
  else v.at[0] = *p;
  return v;
}
template <int N> __device__ __forceinline__ void store_places(uint8_t* p, const Places<N>& v) {
  if constexpr (N == 8) *reinterpret_cast<uint2*>(p) = as<uint2>(v);
  else if constexpr (N == 4) *reinterpret_cast<unsigned*>(p) = as<unsigned>(v);
  else if constexpr (N == 2) *reinterpret_cast<unsigned short*>(p) = as<unsigned short>(v);
  else *p = v.at[0];
}

template <int N, int K, int S, class T>
__global__ void __launch_bounds__(kThreads)
    pool_act(const T* __restrict__ x, T* __restrict__ y, uint8_t* __restrict__ index,
             T* __restrict__ x_max, const Acc<T>* __restrict__ factor,
             const Acc<T>* __restrict__ offset, Pool p, int64_t count, int groups) {
  using A = Acc<T>;
  const int kh = K ? K : p.kernel_h, kw = K ? K : p.kernel_w;
  const int sh = S ? S : p.stride_h, sw = S ? S : p.stride_w;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  wait_for_previous();
  if (i >= count) return;
  const int64_t pixel = divided(i, groups);
  const int c = static_cast<int>(i - pixel * groups) * N;
  const Pixel at = pixel_of(pixel, p.out_h, p.out_w);
  A f[N], o[N], best[N], at_best[N];
  Places<N> where;
#pragma unroll
  for (int k = 0; k < N; ++k)
    f[k] = factor[c + k], o[k] = offset[c + k], best[k] = A(-1), at_best[k] = A(0);
  const int h0 = at.h * sh - p.top, w0 = at.w * sw - p.left;
#pragma unroll
  for (int dh = 0; dh < kh; ++dh) {
#pragma unroll
    for (int dw = 0; dw < kw; ++dw) {
      const int h = h0 + dh, w = w0 + dw;
      if (h < 0 || w < 0 || h >= p.in_h || w >= p.in_w) continue;
      A v[N];
      load<N>(x + ((at.image * p.in_h + h) * p.in_w + w) * groups * N + c, v);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        // Rounded as it would be in memory: the same places as without fusion.
        const A z = fma(f[k], v[k], o[k]), r = z > A(0) ? up(down<T>(z)) : A(0);
        if (r > best[k])
          best[k] = r, at_best[k] = v[k], where.at[k] = static_cast<uint8_t>(dh * kw + dw);
      }
    }
  }
  store<N>(y + i * N, best);
  store<N>(x_max + i * N, at_best);
  store_places<N>(index + i * N, where);
}

template <class T> struct Incoming {
  const T *dy, *dy2;
  const uint8_t* index;
  Pool pool;
  const Acc<T>*scale, *bias, *mean, *inverse;
};

template <int N, class A> struct Window {
  A g[N];
  Places<N> where;
};
// Of the window (oh, ow); one that is not there has its maximum nowhere.
template <int N, bool kSecond, class T>
__device__ __forceinline__ void fetch_window(const Incoming<T>& in, int64_t image, int oh, int ow,
                                             int64_t channels, int64_t c, Window<N, Acc<T>>& w) {
  const Pool& p = in.pool;
  if (oh < 0 || ow < 0 || oh >= p.out_h || ow >= p.out_w) {
#pragma unroll
    for (int k = 0; k < N; ++k) w.g[k] = 0, w.where.at[k] = 255;
    return;
  }
  const int64_t from = ((image * p.out_h + oh) * p.out_w + ow) * channels + c;
  w.where = load_places<N>(in.index + from);
  load<N>(in.dy + from, w.g);
  if constexpr (kSecond) {
    Acc<T> more[N];
    load<N>(in.dy2 + from, more);
#pragma unroll
    for (int k = 0; k < N; ++k) w.g[k] += more[k];
  }
}
// What of the window's gradient reaches its place.
template <int N, class A>
__device__ __forceinline__ void add_place(const Window<N, A>& w, int place, A (&sum)[N]) {
#pragma unroll
  for (int k = 0; k < N; ++k) sum[k] += w.where.at[k] == place ? w.g[k] : A(0);
}

// f(c, factor, offset, mean) of N channels.
template <int N, class T, class A>
__device__ __forceinline__ void channel_numbers(const Incoming<T>& in, int64_t c, A (&factor)[N],
                                                A (&offset)[N], A (&mean)[N]) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
    mean[k] = in.mean[c + k];
    affine_of(in.scale[c + k], in.bias[c + k], mean[k], in.inverse[c + k], factor[k], offset[k]);
  }
}

// Each window's gradient reaches one element, where x is x_max: the sums over the picture are sums
// over the windows.
template <int N, bool kSecond, class T>
__global__ void __launch_bounds__(kThreads, 2)
    pool_grad_sums(const T* __restrict__ x_max, Incoming<T> in, Acc<T>* partial, int64_t count,
                   int64_t channels) {
  using A = Acc<T>;
  sum_rows<N>(count, channels, partial, [&](int64_t c, auto walk) {
    A factor[N], offset[N], mean[N];
    channel_numbers<N>(in, c, factor, offset, mean);
    walk([&](int64_t at, int64_t step, auto unroll, A(&sums)[2][N]) {
      constexpr int U = decltype(unroll)::value;
      A v[U][N], g[U][N];
      [[maybe_unused]] A more[U][N];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        load<N>(x_max + at + u * step, v[u]);
        load<N>(in.dy + at + u * step, g[u]);
        if constexpr (kSecond) load<N>(in.dy2 + at + u * step, more[u]);
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
#pragma unroll
        for (int k = 0; k < N; ++k) {
          if constexpr (kSecond) g[u][k] += more[u][k];
          const A d = fma(factor[k], v[u][k], offset[k]) > A(0) ? g[u][k] : A(0);
          sums[0][k] += d;
          sums[1][k] += d * (v[u][k] - mean[k]);
        }
      }
    });
  });
}

// The numbers of N channels, for dx of one of their elements.
template <int N, class T> struct Channels {
  using A = Acc<T>;
  A b[N], k[N], factor[N], offset[N];

  __device__ __forceinline__ Channels(const Incoming<T>& in, const A* bs, const A* ks, int64_t c) {
    A mean[N];
    channel_numbers<N>(in, c, factor, offset, mean);
#pragma unroll
    for (int n = 0; n < N; ++n) b[n] = bs[c + n], k[n] = ks[c + n];
  }
  // From x and the gradient behind ReLU.
  __device__ __forceinline__ void store_dx(const A (&x)[N], const A (&g)[N], T* dx) const {
    A v[N];
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const A d = fma(factor[n], x[n], offset[n]) > A(0) ? g[n] : A(0);
      v[n] = factor[n] * d + (b[n] * x[n] + k[n]);
    }
    store<N>(dx, v);
  }
};

// Any windows: a thread has a pixel, whose windows it looks at.
template <int N, bool kSecond, class T>
__global__ void __launch_bounds__(kThreads)
    pool_grad_pixels(const T* x, Incoming<T> in, T* dx,  // dx may be x
                     const Acc<T>* __restrict__ b, const Acc<T>* __restrict__ k, int64_t count,
                     int64_t channels) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  wait_for_previous();
  if (i >= count) return;
  const int64_t groups = channels / N, pixel = divided(i, groups), c = (i - pixel * groups) * N;
  const Pool& p = in.pool;
  const Pixel at = pixel_of(pixel, p.in_h, p.in_w);
  A v[N], sum[N] = {};
  load<N>(x + pixel * channels + c, v);
  const int last_h = (at.h + p.top) / p.stride_h, last_w = (at.w + p.left) / p.stride_w;
  for (int oh = last_h; at.h + p.top - oh * p.stride_h < p.kernel_h && oh >= 0; --oh)
    for (int ow = last_w; at.w + p.left - ow * p.stride_w < p.kernel_w && ow >= 0; --ow) {
      Window<N, A> w;
      fetch_window<N, kSecond>(in, at.image, oh, ow, channels, c, w);
      add_place(w, (at.h + p.top - oh * p.stride_h) * p.kernel_w + at.w + p.left - ow * p.stride_w,
                sum);
    }
  Channels<N, T>(in, b, k, c).store_dx(v, sum, dx + pixel * channels + c);
}

// Windows of 3 by 3 two apart with one place of padding: the pixels (2t, 2s) to (2t + 1, 2s + 1)
// lie in windows (t, s) to (t + 1, s + 1) alone. A thread walks down a column of such squares and
// keeps the lower two windows, which are the next square's upper ones.
constexpr int kSquares = 14;  // that a thread walks over
template <int N, bool kSecond, class T>
__global__ void __launch_bounds__(kThreads, 2)
    pool_grad_squares(const T* x, Incoming<T> in, T* dx,  // dx may be x
                      const Acc<T>* __restrict__ b, const Acc<T>* __restrict__ k, unsigned count,
                      unsigned groups) {
  using A = Acc<T>;
  const Pool& p = in.pool;
  const unsigned rows = (p.in_h + 1) / 2, columns = (p.in_w + 1) / 2,
                 strips = (rows + kSquares - 1) / kSquares;
  unsigned i = blockIdx.x * kThreads + threadIdx.x;
  wait_for_previous();
  if (i >= count) return;
  const unsigned c = i % groups * N;
  i /= groups;
  const int s = static_cast<int>(i % columns);
  i /= columns;
  const int begin = static_cast<int>(i % strips) * kSquares;
  const int64_t image = i / strips, channels = static_cast<int64_t>(groups) * N;
  const Channels<N, T> numbers(in, b, k, c);
  Window<N, A> w[2][2];  // above and below, left and right
#pragma unroll
  for (int right = 0; right < 2; ++right)
    fetch_window<N, kSecond>(in, image, begin, s + right, channels, c, w[0][right]);
  const int64_t row = static_cast<int64_t>(p.in_w) * channels;
  int64_t at = ((image * p.in_h + 2 * begin) * p.in_w + 2 * s) * channels + c;
  const bool wide = 2 * s + 1 < p.in_w;
  for (int t = begin; t < min(begin + kSquares, static_cast<int>(rows)); ++t, at += 2 * row) {
    const bool there[2][2] = {{true, wide}, {2 * t + 1 < p.in_h, wide && 2 * t + 1 < p.in_h}};
    A v[2][2][N];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int u = 0; u < 2; ++u)
        if (there[h][u]) load<N>(x + at + h * row + u * channels, v[h][u]);
    }
#pragma unroll
    for (int right = 0; right < 2; ++right)
      fetch_window<N, kSecond>(in, image, t + 1, s + right, channels, c, w[1][right]);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        A sum[N] = {};
#pragma unroll
        for (int below = 0; below <= h; ++below) {
#pragma unroll
          for (int right = 0; right <= u; ++right)
            add_place(w[below][right], (below ? 0 : h + 1) * 3 + (right ? 0 : u + 1), sum);
        }
        if (there[h][u]) numbers.store_dx(v[h][u], sum, dx + at + h * row + u * channels);
      }
    }
#pragma unroll
    for (int right = 0; right < 2; ++right) w[0][right] = w[1][right];
  }
}

Pool pool_of(const BatchNormPoolAttrs& a, const Shape& x) {
  const auto n = [](int64_t v) { return static_cast<int>(v); };
  return {n(x[2]),        n(x[3]),         n(a.size[0]),    n(a.size[1]),     n(a.kernel[0]),
          n(a.kernel[1]), n(a.strides[0]), n(a.strides[1]), n(a.paddings[0]), n(a.paddings[1])};
}

bool is_usual(const Pool& p) {
  return p.kernel_h == 3 && p.kernel_w == 3 && p.stride_h == 2 && p.stride_w == 2 && p.top == 1 &&
         p.left == 1;
}
template <class T, class F> void with_width(const Form& f, F launch) {
  f.width(sizeof(T)) > 1 ? launch(Width<kVector<T>>{}) : launch(Width<1>{});
}
// Of the gradients, whose threads hold four pixels and windows: half as many channels, so that an
// SM holds enough threads.
template <class T> constexpr int kNarrow = kVector<T> / 2;
template <class T, class F> void with_narrow(const Form& f, F launch) {
  f.width(sizeof(T)) > 1 ? launch(Width<kNarrow<T>>{}) : launch(Width<1>{});
}

template <class T> Kernel forward(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(kX), sizeof(T));
  if (f.run != 0) fail(Code::kUnimplemented, message(p.node.op->name, "expects channels-last"));
  const auto& attrs = p.attrs<BatchNormPoolAttrs>();
  const Statistics<T> statistics(p, f, {}, attrs.momentum, attrs.epsilon);
  const Pool pool = pool_of(attrs, p.in(kX).shape);
  const int64_t total = p.out(2).shape.numel();
  const auto run = [=](const Launch& l) {
    const T* x = l.input<T>(kX);
    const A* factor = statistics.take(l, static_cast<A*>(l.scratch));
    with_width<T>(f, [&](auto n) {
      const int64_t count = total / n();
      launch_next(is_usual(pool) ? pool_act<n(), 3, 2, T> : pool_act<n(), 0, 0, T>,
                  blocks_for(count), kThreads, stream_of(l), x, l.output<T>(2),
                  l.output<uint8_t>(5), l.output<T>(6), factor, factor + f.channels, pool, count,
                  static_cast<int>(f.channels / n()));
    });
    TRI_CUDA_LAUNCHED();
  };
  return {run, statistics.scratch() * sizeof(A)};
}

template <bool kSecond, class T> Kernel backward(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(0), sizeof(T), 2);
  if (f.run != 0) fail(Code::kUnimplemented, message(p.node.op->name, "expects channels-last"));
  const SmallInput scale(p, 1), mean(p, 2), inverse(p, 3);
  const Pool pool = pool_of(p.attrs<BatchNormPoolAttrs>(), p.in().shape);
  const int64_t windows = f.images * pool.out_h * pool.out_w;
  const int64_t squares =
      f.images * ((pool.in_w + 1) / 2) * (((pool.in_h + 1) / 2 + kSquares - 1) / kSquares);
  const bool usual = is_usual(pool) && squares * f.channels < int64_t{1} << 31;
  const auto run = [=](const Launch& l) {
    auto* partial = static_cast<A*>(l.scratch);
    const T* x = l.input<T>(0);
    const Incoming<T> in{l.input<T>(5),       kSecond ? l.input<T>(8) : nullptr,
                         l.input<uint8_t>(6), pool,
                         l.input<A>(1),       l.input<A>(4),
                         l.input<A>(2),       l.input<A>(3)};
    with_width<T>(f, [&](auto n) {
      launch_next(pool_grad_sums<n(), kSecond, T>, dim3(f.slabs, f.parts), kThreads, stream_of(l),
                  l.input<T>(7), in, partial, windows, f.channels);
    });
    const Back<A> back = gradient_numbers<A>(f, scale, mean, inverse, l);
    with_narrow<T>(f, [&](auto n) {
      const int64_t groups = f.channels / n();
      if (usual)
        launch_next(pool_grad_squares<n(), kSecond, T>, blocks_for(squares * groups), kThreads,
                    stream_of(l), x, in, l.output<T>(0), back.b, back.k, squares * groups, groups);
      else
        launch_next(pool_grad_pixels<n(), kSecond, T>,
                    blocks_for(f.images * pool.in_h * pool.in_w * groups), kThreads, stream_of(l),
                    x, in, l.output<T>(0), back.b, back.k,
                    f.images * pool.in_h * pool.in_w * groups, f.channels);
    });
    TRI_CUDA_LAUNCHED();
  };
  return {run, gradient_scratch(f) * sizeof(A)};
}

}  // namespace
}  // namespace cuda

Kernel cuda_fused_batch_norm_act_pool(const Prepare& p) {
  if (p.in(cuda::kX).shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in(cuda::kX).dtype,
                                  [&]<class T>(Tag<T>) { return cuda::forward<T>(p); });
}
Kernel cuda_fused_batch_norm_act_pool_grad(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return p.has(8) ? cuda::backward<true, T>(p) : cuda::backward<false, T>(p);
  });
}

}  // namespace trireme
