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

template <int N, bool kSecond, class T>
__device__ __forceinline__ void window_gradient(const Incoming<T>& in, int64_t from, Acc<T> (&g)[N],
                                                Places<N>& where) {
  where = load_places<N>(in.index + from);
  load<N>(in.dy + from, g);
  if constexpr (kSecond) {
    Acc<T> more[N];
    load<N>(in.dy2 + from, more);
#pragma unroll
    for (int k = 0; k < N; ++k) g[k] += more[k];
  }
}

// What a thread works on: kSide * kSide pixels, and the gradient that reaches each through all
// windows over it. Windows of 3 by 3 two apart with one place of padding come in fours: the pixels
// (2t, 2s) to (2t + 1, 2s + 1) lie in windows (t, s) to (t + 1, s + 1) alone, each of which is read
// once. Else each pixel looks at its own windows.
template <int kSide> struct Tile {
  int64_t image;
  int h, w;  // of the first pixel

  __device__ __forceinline__ Tile(int64_t i, const Pool& p) {
    const int height = (p.in_h + kSide - 1) / kSide, width = (p.in_w + kSide - 1) / kSide;
    const int64_t row = divided(i, width);
    image = divided(row, height);
    h = static_cast<int>(row - image * height) * kSide;
    w = static_cast<int>(i - row * width) * kSide;
  }
  static __host__ __device__ int64_t count(const Pool& p, int64_t images) {
    return images * ((p.in_h + kSide - 1) / kSide) * ((p.in_w + kSide - 1) / kSide);
  }
  __device__ __forceinline__ bool has(const Pool& p, int i) const {
    return h + i / kSide < p.in_h && w + i % kSide < p.in_w;
  }
  // The elements before pixel i's.
  __device__ __forceinline__ int64_t at(const Pool& p, int i, int64_t channels) const {
    return ((image * p.in_h + h + i / kSide) * p.in_w + w + i % kSide) * channels;
  }

  template <int N, bool kSecond, class T>
  __device__ __forceinline__ void gradients(const Incoming<T>& in, int64_t channels, int64_t c,
                                            Acc<T> (&sum)[kSide * kSide][N]) const {
    const Pool& p = in.pool;
#pragma unroll
    for (int i = 0; i < kSide * kSide; ++i) {
#pragma unroll
      for (int k = 0; k < N; ++k) sum[i][k] = 0;
    }
    const auto window = [&](int oh, int ow, auto use) {
      if (oh < 0 || ow < 0 || oh >= p.out_h || ow >= p.out_w) return;
      Acc<T> g[N];
      Places<N> where;
      window_gradient<N, kSecond>(in, ((image * p.out_h + oh) * p.out_w + ow) * channels + c, g,
                                  where);
      use(g, where);
    };
    if constexpr (kSide == 2) {
#pragma unroll
      for (int a = 0; a < 2; ++a) {
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          window(h / 2 + a, w / 2 + b, [&](const Acc<T>(&g)[N], const Places<N>& where) {
#pragma unroll
            for (int i = a; i < 2; ++i) {
#pragma unroll
              for (int j = b; j < 2; ++j) {
                const int place = (a ? 0 : i + 1) * 3 + (b ? 0 : j + 1);
#pragma unroll
                for (int k = 0; k < N; ++k)
                  sum[2 * i + j][k] += where.at[k] == place ? g[k] : Acc<T>(0);
              }
            }
          });
        }
      }
    } else {
      const int last_h = (h + p.top) / p.stride_h, last_w = (w + p.left) / p.stride_w;
      for (int oh = last_h; (h + p.top) - oh * p.stride_h < p.kernel_h && oh >= 0; --oh)
        for (int ow = last_w; (w + p.left) - ow * p.stride_w < p.kernel_w && ow >= 0; --ow)
          window(oh, ow, [&](const Acc<T>(&g)[N], const Places<N>& where) {
            const int place =
                (h + p.top - oh * p.stride_h) * p.kernel_w + w + p.left - ow * p.stride_w;
#pragma unroll
            for (int k = 0; k < N; ++k) sum[0][k] += where.at[k] == place ? g[k] : Acc<T>(0);
          });
    }
  }
};

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

template <int N, int kSide, bool kSecond, class T>
__global__ void __launch_bounds__(kThreads, 3)
    pool_grad_apply(const T* x, Incoming<T> in, T* dx,  // dx may be x
                    const Acc<T>* __restrict__ b, const Acc<T>* __restrict__ k, int64_t vectors,
                    int64_t channels) {
  using A = Acc<T>;
  const int64_t groups = channels / N, step = static_cast<int64_t>(gridDim.x) * kThreads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  A fb[N], fk[N], factor[N], offset[N], mean[N];
  int64_t c = 0;
  const auto numbers = [&] {
    c = channel_of<N, true>(i, groups, 0);
    channel_numbers<N>(in, c, factor, offset, mean);
#pragma unroll
    for (int n = 0; n < N; ++n) fb[n] = b[c + n], fk[n] = k[c + n];
  };
  const bool constant = step % groups == 0;
  wait_for_previous();
  numbers();
  for (; i < vectors; i += step) {
    if (!constant) numbers();
    const Tile<kSide> tile(divided(i, groups), in.pool);
    A v[kSide * kSide][N], g[kSide * kSide][N];
#pragma unroll
    for (int q = 0; q < kSide * kSide; ++q)
      if (tile.has(in.pool, q)) load<N>(x + tile.at(in.pool, q, channels) + c, v[q]);
    tile.template gradients<N, kSecond>(in, channels, c, g);
#pragma unroll
    for (int q = 0; q < kSide * kSide; ++q) {
      if (!tile.has(in.pool, q)) continue;
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const A d = fma(factor[n], v[q][n], offset[n]) > A(0) ? g[q][n] : A(0);
        v[q][n] = factor[n] * d + (fb[n] * v[q][n] + fk[n]);
      }
      store<N>(dx + tile.at(in.pool, q, channels) + c, v[q]);
    }
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
// Of the gradients, whose threads hold four pixels: half as many channels, so that an SM holds
// enough threads.
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
  const bool usual = is_usual(pool);
  const int64_t windows = f.images * pool.out_h * pool.out_w;
  const int64_t tiles = usual ? Tile<2>::count(pool, f.images) : Tile<1>::count(pool, f.images);
  const auto run = [=](const Launch& l) {
    auto* partial = static_cast<A*>(l.scratch);
    const T* x = l.input<T>(0);
    const Incoming<T> in{l.input<T>(5),       kSecond ? l.input<T>(8) : nullptr,
                         l.input<uint8_t>(6), pool,
                         l.input<A>(1),       l.input<A>(4),
                         l.input<A>(2),       l.input<A>(3)};
    with_width<T>(f, [&](auto n) {
      pool_grad_sums<n(), kSecond, T><<<dim3(f.slabs, f.parts), kThreads, 0, stream_of(l)>>>(
          l.input<T>(7), in, partial, windows, f.channels);
    });
    TRI_CUDA_LAUNCHED();
    const Back<A> back = gradient_numbers<A>(f, scale, mean, inverse, l);
    with_narrow<T>(f, [&](auto n) {
      const int64_t groups = f.channels / n(), vectors = tiles * groups;
      launch_next(usual ? pool_grad_apply<n(), 2, kSecond, T> : pool_grad_apply<n(), 1, kSecond, T>,
                  steady_blocks(f, vectors, groups), kThreads, stream_of(l), x, in, l.output<T>(0),
                  back.b, back.k, vectors, f.channels);
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
