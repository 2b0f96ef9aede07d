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
             const Acc<T>* __restrict__ factor, const Acc<T>* __restrict__ offset, Pool p,
             int64_t count, int groups) {
  using A = Acc<T>;
  const int kh = K ? K : p.kernel_h, kw = K ? K : p.kernel_w;
  const int sh = S ? S : p.stride_h, sw = S ? S : p.stride_w;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t pixel = divided(i, groups);
  const int c = static_cast<int>(i - pixel * groups) * N;
  const Pixel at = pixel_of(pixel, p.out_h, p.out_w);
  A f[N], o[N], best[N];
  Places<N> where;
#pragma unroll
  for (int k = 0; k < N; ++k) f[k] = factor[c + k], o[k] = offset[c + k], best[k] = A(-1);
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
        if (r > best[k]) best[k] = r, where.at[k] = static_cast<uint8_t>(dh * kw + dw);
      }
    }
  }
  store<N>(y + i * N, best);
  store_places<N>(index + i * N, where);
}

// The gradient that reaches place (h, w) of the picture through all windows over it.
template <int N, int K, int S, bool kSecond, class T>
__device__ __forceinline__ void gradient_at(const T* dy, const T* dy2, const uint8_t* index,
                                            const Pool& p, const Pixel& at, int groups, int c,
                                            Acc<T> (&sum)[N]) {
  const int kh = K ? K : p.kernel_h, kw = K ? K : p.kernel_w;
  const int sh = S ? S : p.stride_h, sw = S ? S : p.stride_w;
  const int last_h = (at.h + p.top) / sh, last_w = (at.w + p.left) / sw;
#pragma unroll
  for (int k = 0; k < N; ++k) sum[k] = 0;
  const int many_h = (kh + sh - 1) / sh, many_w = (kw + sw - 1) / sw;
#pragma unroll
  for (int a = 0; a < many_h; ++a) {
#pragma unroll
    for (int b = 0; b < many_w; ++b) {
      const int oh = last_h - a, ow = last_w - b;
      const int dh = at.h + p.top - oh * sh, dw = at.w + p.left - ow * sw;
      if (oh < 0 || ow < 0 || oh >= p.out_h || ow >= p.out_w || dh >= kh || dw >= kw) continue;
      const int64_t from = ((at.image * p.out_h + oh) * p.out_w + ow) * groups * N + c;
      Acc<T> g[N];
      [[maybe_unused]] Acc<T> g2[N];
      const Places<N> where = load_places<N>(index + from);
      load<N>(dy + from, g);
      if constexpr (kSecond) load<N>(dy2 + from, g2);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        if constexpr (kSecond) g[k] += g2[k];
        sum[k] += where.at[k] == dh * kw + dw ? g[k] : Acc<T>(0);
      }
    }
  }
}

template <class T> struct Incoming {
  const T *dy, *dy2;
  const uint8_t* index;
  Pool pool;
  const Acc<T>*scale, *bias, *mean, *inverse;
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

template <int N, int K, int S, bool kSecond, class T>
__global__ void __launch_bounds__(kThreads)
    pool_grad_sums(const T* __restrict__ x, Incoming<T> in, Acc<T>* partial, int64_t count,
                   int64_t channels) {
  using A = Acc<T>;
  const int groups = static_cast<int>(channels / N);
  sum_rows<N, 1>(count, channels, partial, [&](int64_t c, auto walk) {
    A factor[N], offset[N], mean[N];
    channel_numbers<N>(in, c, factor, offset, mean);
    walk([&](int64_t at, int64_t, auto, A(&a)[N], A(&b)[N]) {
      const Pixel pixel = pixel_of(divided(at, channels), in.pool.in_h, in.pool.in_w);
      A v[N], g[N];
      load<N>(x + at, v);
      gradient_at<N, K, S, kSecond>(in.dy, in.dy2, in.index, in.pool, pixel, groups,
                                    static_cast<int>(c), g);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const A d = fma(factor[k], v[k], offset[k]) > A(0) ? g[k] : A(0);
        a[k] += d;
        b[k] += d * (v[k] - mean[k]);
      }
    });
  });
}

template <int N, int K, int S, bool kSecond, class T>
__global__ void __launch_bounds__(kThreads)
    pool_grad_apply(const T* x, Incoming<T> in, T* dx,  // dx may be x
                    const Acc<T>* __restrict__ a, const Acc<T>* __restrict__ b,
                    const Acc<T>* __restrict__ k, int64_t vectors, int groups) {
  using A = Acc<T>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  A fa[N], fb[N], fk[N], factor[N], offset[N], mean[N];
  int c = 0;
  const auto numbers = [&] {
    c = static_cast<int>(channel_of<N, true>(i, groups, 0));
    channel_numbers<N>(in, c, factor, offset, mean);
#pragma unroll
    for (int n = 0; n < N; ++n) fa[n] = a[c + n], fb[n] = b[c + n], fk[n] = k[c + n];
  };
  const bool constant = step % groups == 0;
  numbers();
  for (; i < vectors; i += step) {
    if (!constant) numbers();
    A v[N], g[N];
    load<N>(x + i * N, v);
    const Pixel pixel = pixel_of(divided(i, groups), in.pool.in_h, in.pool.in_w);
    gradient_at<N, K, S, kSecond>(in.dy, in.dy2, in.index, in.pool, pixel, groups, c, g);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const A d = fma(factor[n], v[n], offset[n]) > A(0) ? g[n] : A(0);
      v[n] = fa[n] * d + (fb[n] * v[n] + fk[n]);
    }
    store<N>(dx + i * N, v);
  }
}

Pool pool_of(const BatchNormPoolAttrs& a, const Shape& x) {
  const auto n = [](int64_t v) { return static_cast<int>(v); };
  return {n(x[2]),        n(x[3]),         n(a.size[0]),    n(a.size[1]),     n(a.kernel[0]),
          n(a.kernel[1]), n(a.strides[0]), n(a.strides[1]), n(a.paddings[0]), n(a.paddings[1])};
}

// launch(N, K, S) with the constants of this window.
template <class T, class F> void with_window(const Form& f, const Pool& p, F launch) {
  const bool usual = p.kernel_h == 3 && p.kernel_w == 3 && p.stride_h == 2 && p.stride_w == 2;
  const auto window = [&](auto n) {
    usual ? launch(n, Width<3>{}, Width<2>{}) : launch(n, Width<0>{}, Width<0>{});
  };
  f.width(sizeof(T)) > 1 ? window(Width<kVector<T>>{}) : window(Width<1>{});
}

template <class T> Kernel forward(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(kX), sizeof(T));
  if (f.run != 0) fail(Code::kUnimplemented, message(p.node.op->name, "expects channels-last"));
  const SmallInput scale(p, 3), bias(p, 4);
  const auto& attrs = p.attrs<BatchNormPoolAttrs>();
  const Pool pool = pool_of(attrs, p.in(kX).shape);
  const int64_t total = p.out(2).shape.numel();
  const auto run = [=, momentum = attrs.momentum, epsilon = attrs.epsilon](const Launch& l) {
    const T* x = l.input<T>(kX);
    const A* factor = batch_statistics<T>(f, x, scale, bias, momentum, epsilon, l);
    with_window<T>(f, pool, [&](auto n, auto k, auto s) {
      const int64_t count = total / n();
      pool_act<n(), k(), s(), T><<<blocks_for(count), kThreads, 0, stream_of(l)>>>(
          x, l.output<T>(2), l.output<uint8_t>(5), factor, factor + f.channels, pool, count,
          static_cast<int>(f.channels / n()));
    });
    TRI_CUDA_LAUNCHED();
  };
  return {run, statistics_scratch(f) * sizeof(A)};
}

template <bool kSecond, class T> Kernel backward(const Prepare& p) {
  using A = Acc<T>;
  const Form f(p.in(0), sizeof(T));
  if (f.run != 0) fail(Code::kUnimplemented, message(p.node.op->name, "expects channels-last"));
  const SmallInput scale(p, 1), mean(p, 2), inverse(p, 3);
  const Pool pool = pool_of(p.attrs<BatchNormPoolAttrs>(), p.in().shape);
  const auto run = [=](const Launch& l) {
    auto* partial = static_cast<A*>(l.scratch);
    const T* x = l.input<T>(0);
    const Incoming<T> in{l.input<T>(5),       kSecond ? l.input<T>(7) : nullptr,
                         l.input<uint8_t>(6), pool,
                         l.input<A>(1),       l.input<A>(4),
                         l.input<A>(2),       l.input<A>(3)};
    with_window<T>(f, pool, [&](auto n, auto k, auto s) {
      pool_grad_sums<n(), k(), s(), kSecond, T>
          <<<dim3(f.slabs, f.parts), kThreads, 0, stream_of(l)>>>(x, in, partial, f.count,
                                                                  f.channels);
    });
    TRI_CUDA_LAUNCHED();
    const Back<A> back = gradient_numbers<A>(f, scale, mean, inverse, l);
    with_window<T>(f, pool, [&](auto n, auto k, auto s) {
      const int64_t groups = f.channels / n(), vectors = f.count * groups;
      pool_grad_apply<n(), k(), s(), kSecond, T>
          <<<steady_blocks(f, vectors, groups), kThreads, 0, stream_of(l)>>>(
              x, in, l.output<T>(0), back.a, back.b, back.k, vectors, static_cast<int>(groups));
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
    return p.has(7) ? cuda::backward<true, T>(p) : cuda::backward<false, T>(p);
  });
}

}  // namespace trireme
