// Depthwise convolutions on the GPU: memory sets their pace, so results are made in rows that share
// what they read, 16 bytes of channels at a time.
#include "ops/conv_cuda.h"
#include "ops/cuda_common.cuh"

namespace trireme::cuda {
namespace {

struct Strides {
  int64_t n, c, h, w;
};
struct Geometry {
  int n, h, w, oh, ow, kh, kw, sh, sw, dh, dw, top, left;
  int64_t channels;
  Strides x, y;
};

struct Tail {
  const void* bias;  // in the sums' type
  const void* residual;
  cpu::Act act;
  bool after;  // the residual comes behind all
  float alpha, beta, scale, shift;
};

// Not inlined: the kernels would have it in every place of their unrolled loops.
__device__ __noinline__ float curved(float v, cpu::Act act) {
  switch (act) {
    case cpu::Act::kGelu: return 0.5f * v * (1.f + erff(v * 0.70710678f));
    case cpu::Act::kTanh: return tanhf(v);
    case cpu::Act::kSwish: return v / (1.f + expf(-v));
    default: return 1.f / (1.f + expf(-v));
  }
}

__device__ __forceinline__ float activated(float v, const Tail& t) {
  switch (t.act) {
    case cpu::Act::kNone: return v;
    case cpu::Act::kRelu: return v < 0 ? 0 : v;
    case cpu::Act::kClip: return min(max(v, t.alpha), t.beta);
    case cpu::Act::kLeakyRelu: return v < 0 ? t.alpha * v : v;
    case cpu::Act::kHardSwish: return v * min(max(v + 3.f, 0.f), 6.f) * (1.f / 6);
    case cpu::Act::kHardSigmoid: return min(max(t.alpha * v + t.beta, 0.f), 1.f);
    default: return curved(v, t.act);
  }
}

// N results, at element `at` of the result, of channels from c on.
template <int N, class T>
__device__ __forceinline__ void finish(Acc<T> (&v)[N], T* out, int64_t at, int64_t c,
                                       const Tail& t) {
  using A = Acc<T>;
  A r[N] = {};
  const A* bias = static_cast<const A*>(t.bias);
  if (t.residual != nullptr) load<N>(static_cast<const T*>(t.residual) + at, r);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    A e = v[k] + (bias == nullptr ? A(0) : bias[c + k]);
    if (!t.after) e += r[k];
    if constexpr (std::is_same_v<A, float>) e = activated(e, t);  // float64 is never fused
    if (t.scale != 1.f || t.shift != 0.f) e = e * t.scale + t.shift;
    if (t.after) e += r[k];
    v[k] = e;
  }
  store<N>(out + at, v);
}

// 16 bytes, or zeros.
template <class T> __device__ __forceinline__ uint4 piece(const T* p, bool there) {
  return there ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0);
}
template <class T> __device__ __forceinline__ void numbers(uint4 raw, Acc<T> (&v)[kVector<T>]) {
  load<kVector<T>>(reinterpret_cast<const T*>(&raw), v);
}

// kTile results of one row in a thread, of a K x K kernel with stride S and no dilation: a row of
// the input is read once for all of them.
template <int K, int S, int kTile, bool kFlip, class T>
__global__ void __launch_bounds__(kThreads) row_tiles(const T* x, const T* weight, T* y, Geometry g,
                                                      Tail tail, unsigned tiles, unsigned count) {
  using A = Acc<T>;
  constexpr int N = kVector<T>, kSpan = (kTile - 1) * S + K;
  unsigned i = blockIdx.x * kThreads + threadIdx.x;
  let_next_begin();
  wait_for_previous();
  if (i >= count) return;
  const unsigned chunks = static_cast<unsigned>(g.channels) / N, c = i % chunks * N;
  i /= chunks;
  const int ow = static_cast<int>(i % tiles) * kTile;
  i /= tiles;
  const int oh = static_cast<int>(i % g.oh), n = static_cast<int>(i / g.oh);
  A sum[kTile][N] = {};
  const int left = ow * S - g.left;
  const T* image = x + n * g.x.n + left * g.x.w + c;
#pragma unroll 1
  for (int ky = 0; ky < K; ++ky) {
    const int h = oh * S - g.top + ky;
    if (h < 0 || h >= g.h) continue;
    // All loads of a row first: they are under way together.
    const T* row = image + h * g.x.h;
    uint4 raw[kSpan];
#pragma unroll
    for (int j = 0; j < kSpan; ++j)
      raw[j] = piece(row + j * g.x.w, left + j >= 0 && left + j < g.w);
    A wv[K][N];
#pragma unroll
    for (int kx = 0; kx < K; ++kx)
      load<N>(weight + (kFlip ? K * K - 1 - (ky * K + kx) : ky * K + kx) * g.channels + c, wv[kx]);
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      A v[N];
      numbers<T>(raw[j], v);
#pragma unroll
      for (int t = 0; t < kTile; ++t) {
        const int kx = j - t * S;
        if (kx < 0 || kx >= K) continue;
#pragma unroll
        for (int k = 0; k < N; ++k) sum[t][k] += v[k] * wv[kx][k];
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kTile; ++t)
    if (ow + t < g.ow) finish<N>(sum[t], y, n * g.y.n + oh * g.y.h + (ow + t) * g.y.w + c, c, tail);
}

struct Spot {
  int n, h, w;
  int64_t c;
};
template <int N>
__device__ __forceinline__ Spot spot_of(int64_t i, int height, int width, int64_t channels,
                                        bool planar) {
  Spot s;
  if (!planar) {
    s.c = i % (channels / N) * N;
    i /= channels / N;
  }
  s.w = static_cast<int>(i % width);
  i /= width;
  s.h = static_cast<int>(i % height);
  i /= height;
  if (planar) {
    s.c = i % channels;
    i /= channels;
  }
  s.n = static_cast<int>(i);
  return s;
}

// Any geometry and layout: a result a thread, N channels of it.
template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    any_forward(const T* x, const T* weight, T* y, Geometry g, Tail tail, int64_t count) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  let_next_begin();
  wait_for_previous();
  if (i >= count) return;
  const Spot s = spot_of<N>(i, g.oh, g.ow, g.channels, g.y.c != 1);
  A sum[N] = {};
  const T* image = x + s.n * g.x.n + s.c * g.x.c;
  for (int ky = 0; ky < g.kh; ++ky) {
    const int h = s.h * g.sh - g.top + ky * g.dh;
    if (h < 0 || h >= g.h) continue;
    for (int kx = 0; kx < g.kw; ++kx) {
      const int w = s.w * g.sw - g.left + kx * g.dw;
      if (w < 0 || w >= g.w) continue;
      A v[N], wv[N];
      load<N>(image + h * g.x.h + w * g.x.w, v);
      load<N>(weight + (ky * g.kw + kx) * g.channels + s.c, wv);
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += v[k] * wv[k];
    }
  }
  finish<N>(sum, y, s.n * g.y.n + s.h * g.y.h + s.w * g.y.w + s.c * g.y.c, s.c, tail);
}

// An element of the input a thread, from all results that it went into.
template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    any_dgrad(const T* dy, const T* weight, T* dx, Geometry g, Tail tail, int64_t count) {
  using A = Acc<T>;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const Spot s = spot_of<N>(i, g.h, g.w, g.channels, g.x.c != 1);
  A sum[N] = {};
  const T* image = dy + s.n * g.y.n + s.c * g.y.c;
  // Undilated, every stride-th tap comes from a result.
  const int y0 = g.dh == 1 ? (s.h + g.top) % g.sh : 0, y_step = g.dh == 1 ? g.sh : 1;
  const int x0 = g.dw == 1 ? (s.w + g.left) % g.sw : 0, x_step = g.dw == 1 ? g.sw : 1;
  for (int ky = y0; ky < g.kh; ky += y_step) {
    const int h = s.h + g.top - ky * g.dh;
    if (h < 0 || h % g.sh != 0 || h / g.sh >= g.oh) continue;
    for (int kx = x0; kx < g.kw; kx += x_step) {
      const int w = s.w + g.left - kx * g.dw;
      if (w < 0 || w % g.sw != 0 || w / g.sw >= g.ow) continue;
      A v[N], wv[N];
      load<N>(image + h / g.sh * g.y.h + w / g.sw * g.y.w, v);
      load<N>(weight + (ky * g.kw + kx) * g.channels + s.c, wv);
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += v[k] * wv[k];
    }
  }
  finish<N>(sum, dx, s.n * g.x.n + s.h * g.x.h + s.w * g.x.w + s.c * g.x.c, s.c, tail);
}

// ---- the weight's gradient: blocks sum over shares of the pixels, then the shares are summed

constexpr int kMostTaps = 9;

// Taps first_tap + blockIdx.z * kTaps ... of N channels a thread; lanes of channels by lanes of
// pixels.
template <int N, int kTaps, class T>
__global__ void __launch_bounds__(kThreads)
    wgrad_shares(const T* x, const T* dy, Acc<T>* shares, Geometry g, int lanes, unsigned pixels) {
  using A = Acc<T>;
  __shared__ A parts[kThreads * N];
  const int tx = static_cast<int>(threadIdx.x) % lanes, ty = static_cast<int>(threadIdx.x) / lanes;
  const int rows = kThreads / lanes, first = static_cast<int>(blockIdx.z) * kTaps,
            taps = g.kh * g.kw;
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * lanes + tx) * N;
  A sum[kTaps][N] = {};
  const unsigned step = gridDim.y * rows;
  for (unsigned p = blockIdx.y * rows + ty; c < g.channels && p < pixels; p += step) {
    const int ow = static_cast<int>(p % g.ow), oh = static_cast<int>(p / g.ow % g.oh);
    const int64_t n = p / g.ow / g.oh;
    A d[N];
    load<N>(dy + n * g.y.n + oh * g.y.h + ow * g.y.w + c * g.y.c, d);
    const T* image = x + n * g.x.n + c * g.x.c;
    const auto offset = [&](int t, bool& inside) {
      const int tap = first + t;
      const int h = oh * g.sh - g.top + tap / g.kw * g.dh,
                w = ow * g.sw - g.left + tap % g.kw * g.dw;
      inside = tap < taps && h >= 0 && h < g.h && w >= 0 && w < g.w;
      return h * g.x.h + w * g.x.w;
    };
    if constexpr (N > 1) {
      uint4 raw[kTaps];
#pragma unroll
      for (int t = 0; t < kTaps; ++t) {
        bool inside = false;
        const int64_t at = offset(t, inside);
        raw[t] = piece(image + at, inside);
      }
#pragma unroll
      for (int t = 0; t < kTaps; ++t) {
        A v[N];
        numbers<T>(raw[t], v);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[t][k] += d[k] * v[k];
      }
    } else {
#pragma unroll
      for (int t = 0; t < kTaps; ++t) {
        bool inside = false;
        const int64_t at = offset(t, inside);
        if (inside) sum[t][0] += d[0] * up(image[at]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kTaps; ++t) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < N; ++k) parts[threadIdx.x * N + k] = sum[t][k];
    __syncthreads();
    for (int k = threadIdx.x; k < lanes * N; k += kThreads) {
      const int64_t column = static_cast<int64_t>(blockIdx.x) * lanes * N + k;
      if (column >= g.channels || first + t >= taps) break;
      A all = 0;
      for (int r = 0; r < rows; ++r) all += parts[r * lanes * N + k];
      shares[(static_cast<int64_t>(blockIdx.y) * taps + first + t) * g.channels + column] = all;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    wgrad_sum(const Acc<T>* shares, T* dw, int64_t channels, int taps, int count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= channels * taps) return;
  const int64_t c = i % channels, tap = i / channels;
  Acc<T> sum = 0;
  for (int s = 0; s < count; ++s) sum += shares[s * channels * taps + i];
  dw[c * taps + tap] = down<T>(sum);
}

// ---- launches

Geometry geometry_of(const Depthwise& d) {
  const cpu::ConvSpec& s = d.spec;
  const auto in = [](int64_t v) { return static_cast<int>(v); };
  const auto strides = [](const DepthwisePicture& p) {
    return Strides{p.strides[0], p.strides[1], p.strides[2], p.strides[3]};
  };
  return {in(s.n),    in(s.h),  in(s.w),      in(s.oh),    in(s.ow), in(s.kh),
          in(s.kw),   in(s.sh), in(s.sw),     in(s.dh),    in(s.dw), in(s.top),
          in(s.left), s.ic,     strides(d.x), strides(d.y)};
}

Tail tail_of(const cpu::Epilogue& e, const DepthwiseArgs& a) {
  return {a.bias,  a.residual, e.act,   e.residual == cpu::Epilogue::kAfter,
          e.alpha, e.beta,     e.scale, e.shift};
}

template <class F> void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32: return f(Tag<float>{});
    case DType::kBFloat16: return f(Tag<__nv_bfloat16>{});
    case DType::kFloat16: return f(Tag<__half>{});
    default: return f(Tag<double>{});
  }
}

bool is_wide(const Geometry& g, DType dtype) {
  return g.x.c == 1 && g.y.c == 1 && vectors_fit(size_of(dtype), g.channels);
}

template <int K, int S, bool kFlip, class T>
bool launch_rows(const Geometry& g, const DepthwiseArgs& a, const Tail& tail, cudaStream_t stream) {
  constexpr int kTile = S == 1 ? 4 : 2;
  const int tiles = (g.ow + kTile - 1) / kTile;
  const int64_t count = static_cast<int64_t>(g.n) * g.oh * tiles * (g.channels / kVector<T>);
  if (count > 0x7fffffff) return false;
  launch_next(row_tiles<K, S, kTile, kFlip, T>, dim3(blocks_for(count)), kThreads, stream,
              static_cast<const T*>(a.in), static_cast<const T*>(a.weight), static_cast<T*>(a.out),
              g, tail, static_cast<unsigned>(tiles), static_cast<unsigned>(count));
  return true;
}

// Whether one of the kernels for square undilated ones takes it.
template <bool kFlip, class T>
bool rows_take(const Geometry& g, const DepthwiseArgs& a, const Tail& tail, cudaStream_t stream) {
  if (!is_wide(g, std::is_same_v<T, float> ? DType::kFloat32 : DType::kFloat16)) return false;
  if (g.kh != g.kw || g.sh != g.sw || g.dh != 1 || g.dw != 1) return false;
  if (g.kh == 3 && g.sh == 1) return launch_rows<3, 1, kFlip, T>(g, a, tail, stream);
  if (g.kh == 5 && g.sh == 1) return launch_rows<5, 1, kFlip, T>(g, a, tail, stream);
  if (kFlip) return false;
  if (g.kh == 3 && g.sh == 2) return launch_rows<3, 2, false, T>(g, a, tail, stream);
  if (g.kh == 5 && g.sh == 2) return launch_rows<5, 2, false, T>(g, a, tail, stream);
  return false;
}

struct Shares {
  int lanes;
  dim3 grid;
};
template <int N> Shares shares_of(const Geometry& g) {
  const int64_t chunks = g.channels / N, taps = int64_t{g.kh} * g.kw;
  int lanes = 1;
  while (lanes < 32 && lanes < chunks) lanes *= 2;
  const int64_t columns = (chunks + lanes - 1) / lanes, layers = (taps + kMostTaps - 1) / kMostTaps;
  const int64_t pixels = int64_t{g.n} * g.oh * g.ow, rows = kThreads / lanes;
  const int64_t most = std::max<int64_t>(1, pixels / (rows * 8));
  const int64_t share =
      std::clamp<int64_t>(132 * 6 / (columns * layers), 1, std::min<int64_t>(most, 1024));
  return {lanes, dim3(static_cast<unsigned>(columns), static_cast<unsigned>(share),
                      static_cast<unsigned>(layers))};
}

}  // namespace

void depthwise_forward(const Depthwise& d, const cpu::Epilogue& e, const DepthwiseArgs& a,
                       void* stream) {
  const Geometry g = geometry_of(d);
  const Tail tail = tail_of(e, a);
  const auto s = static_cast<cudaStream_t>(stream);
  const int64_t count = int64_t{g.n} * g.oh * g.ow * g.channels;
  with_type(d.dtype, [&]<class T>(Tag<T>) {
    constexpr int kN = kVector<T>;
    if constexpr (sizeof(T) <= 4)
      if (rows_take<false, T>(g, a, tail, s)) return;
    const bool wide = is_wide(g, d.dtype);
    const int64_t spots = wide ? count / kN : count;
    launch_next(wide ? any_forward<kN, T> : any_forward<1, T>, dim3(blocks_for(spots)), kThreads, s,
                static_cast<const T*>(a.in), static_cast<const T*>(a.weight),
                static_cast<T*>(a.out), g, tail, spots);
  });
}

void depthwise_dgrad(const Depthwise& d, const cpu::Epilogue& e, const DepthwiseArgs& a,
                     void* stream) {
  const Geometry g = geometry_of(d);
  const Tail tail = tail_of(e, a);
  const auto s = static_cast<cudaStream_t>(stream);
  const int64_t count = int64_t{g.n} * g.h * g.w * g.channels;
  with_type(d.dtype, [&]<class T>(Tag<T>) {
    constexpr int kN = kVector<T>;
    if constexpr (sizeof(T) <= 4) {
      // With stride 1 it is the convolution by the kernel turned round.
      Geometry turned = g;
      turned.h = g.oh, turned.w = g.ow, turned.oh = g.h, turned.ow = g.w;
      turned.top = g.kh - 1 - g.top, turned.left = g.kw - 1 - g.left;
      turned.x = g.y, turned.y = g.x;
      if (g.sh == 1 && g.sw == 1 && rows_take<true, T>(turned, a, tail, s)) return;
    }
    const bool wide = is_wide(g, d.dtype);
    (wide ? any_dgrad<kN, T>
          : any_dgrad<1, T>)<<<blocks_for(wide ? count / kN : count), kThreads, 0, s>>>(
        static_cast<const T*>(a.in), static_cast<const T*>(a.weight), static_cast<T*>(a.out), g,
        tail, wide ? count / kN : count);
  });
  TRI_CUDA_LAUNCHED();
}

size_t depthwise_wgrad_scratch(const Depthwise& d) {
  const Geometry g = geometry_of(d);
  size_t shares = 0, element = d.dtype == DType::kFloat64 ? 8 : 4;
  with_type(d.dtype, [&]<class T>(Tag<T>) {
    shares = is_wide(g, d.dtype) ? shares_of<kVector<T>>(g).grid.y : shares_of<1>(g).grid.y;
  });
  return shares * static_cast<size_t>(g.channels * g.kh * g.kw) * element;
}

void depthwise_wgrad(const Depthwise& d, const void* x, const void* dy, void* dweight,
                     void* scratch, void* stream) {
  const Geometry g = geometry_of(d);
  const auto s = static_cast<cudaStream_t>(stream);
  const auto pixels = static_cast<unsigned>(int64_t{g.n} * g.oh * g.ow);
  const int taps = g.kh * g.kw;
  with_type(d.dtype, [&]<class T>(Tag<T>) {
    const auto launch = [&]<int N>(Width<N>) {
      const Shares shares = shares_of<N>(g);
      wgrad_shares<N, kMostTaps, T>
          <<<shares.grid, kThreads, 0, s>>>(static_cast<const T*>(x), static_cast<const T*>(dy),
                                            static_cast<Acc<T>*>(scratch), g, shares.lanes, pixels);
      wgrad_sum<T><<<blocks_for(g.channels * taps), kThreads, 0, s>>>(
          static_cast<const Acc<T>*>(scratch), static_cast<T*>(dweight), g.channels, taps,
          static_cast<int>(shares.grid.y));
    };
    if (is_wide(g, d.dtype)) launch(Width<kVector<T>>{});
    else launch(Width<1>{});
  });
  TRI_CUDA_LAUNCHED();
}

}  // namespace trireme::cuda
