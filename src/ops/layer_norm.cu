// layer_norm and its gradient on the GPU, group_norm and instance_norm.
#include "ops/cuda_common.cuh"
#include "ops/norm.h"

namespace trireme {
namespace cuda {
namespace {

// Mean and 1 / deviation of a line, in two passes over it (the second finds it in the cache).
template <int G, int N, class T>
__device__ void moments(const T* x, const Lines& s, Acc<T> epsilon, Acc<T>& mean, Acc<T>& inverse) {
  using A = Acc<T>;
  A sum = 0, squares = 0;
  for_pieces<G, N>(s.size, [&](int64_t i) {
    A v[N];
    load<N>(x + i, v);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += v[k];
  });
  mean = group_reduce<G>(sum, Plus{}) / static_cast<A>(s.size);
  for_pieces<G, N>(s.size, [&](int64_t i) {
    A v[N];
    load<N>(x + i, v);
#pragma unroll
    for (int k = 0; k < N; ++k) squares += (v[k] - mean) * (v[k] - mean);
  });
  inverse = inverse_root(group_reduce<G>(squares, Plus{}) / static_cast<A>(s.size) + epsilon);
}

// The parameter of an element is at place / run % period: layer_norm has run 1, group_norm a
// channel's pixels.
struct Affine {
  Small scale, bias;
  int64_t run, period, offset_of_line;
};

template <int G, int N, class T>
__global__ void __launch_bounds__(kThreads)
    norm_lines(const T* x, T* y, Lines s, Affine affine, Acc<T> epsilon) {
  using A = Acc<T>;
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (kThreads / G) + threadIdx.x / G;
  if (r >= s.count) return;
  x += r * s.size;
  y += r * s.size;
  A mean, inverse;
  moments<G, N>(x, s, epsilon, mean, inverse);
  for_pieces<G, N>(s.size, [&](int64_t i) {
    A v[N];
    load<N>(x + i, v);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      int64_t at = i + k;
      if (affine.offset_of_line != 0)
        at = (r * affine.offset_of_line + at / affine.run) % affine.period;
      v[k] = (v[k] - mean) * inverse * affine.scale.at(at, A(1)) + affine.bias.at(at, A(0));
    }
    store<N>(y + i, v);
  });
}

// N numbers of shared memory in 16-byte pieces: single ones, N apart from thread to thread, would
// meet in the same banks.
template <int N, class A> __device__ __forceinline__ void get(const A* p, A (&v)[N]) {
  if constexpr (N % kVector<A> == 0) {
#pragma unroll
    for (int n = 0; n < N; n += kVector<A>) {
      A part[kVector<A>];
      load<kVector<A>>(p + n, part);
#pragma unroll
      for (int k = 0; k < kVector<A>; ++k) v[n + k] = part[k];
    }
  } else {
#pragma unroll
    for (int n = 0; n < N; ++n) v[n] = p[n];
  }
}

// layer_norm of rows that fit into a warp's registers, K vectors of N a thread: read once. Scale
// and bias lie in shared memory.
template <int N, int K, class T>
__global__ void __launch_bounds__(kThreads)
    layer_norm_rows(const T* __restrict__ x, T* __restrict__ y, Small scale, Small bias,
                    int64_t rows, int n, Acc<T> epsilon) {
  using A = Acc<T>;
  __shared__ __align__(16) A factor[K * 32 * N], offset[K * 32 * N];
  wait_for_previous();
  for (int c = threadIdx.x; c < n; c += kThreads) {
    factor[c] = scale.at(c, A(1));
    offset[c] = bias.at(c, A(0));
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  const auto column = [&](int k) { return (k * 32 + lane) * N; };
  constexpr int kWarps = kThreads / 32;
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; r < rows;
       r += static_cast<int64_t>(gridDim.x) * kWarps) {
    A v[K][N] = {};
    A sum = 0, squares = 0;
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (column(k) < n) load<N>(x + r * n + column(k), v[k]);
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
      for (int i = 0; i < N; ++i) sum += v[k][i];
    }
    const A mean = group_reduce<32>(sum, Plus{}) / static_cast<A>(n);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (column(k) >= n) continue;
#pragma unroll
      for (int i = 0; i < N; ++i) squares += (v[k][i] - mean) * (v[k][i] - mean);
    }
    const A inverse = inverse_root(group_reduce<32>(squares, Plus{}) / static_cast<A>(n) + epsilon);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (column(k) >= n) continue;
      A f[N], o[N];
      get<N>(factor + column(k), f);
      get<N>(offset + column(k), o);
#pragma unroll
      for (int i = 0; i < N; ++i) v[k][i] = (v[k][i] - mean) * inverse * f[i] + o[i];
      store<N>(y + r * n + column(k), v[k]);
    }
  }
}

template <int K, class T> Kernel layer_norm_rows_kernel(const Prepare& p, const AxisSplit& s) {
  const SmallInput scale(p, 1), bias(p, 2);
  const auto epsilon = static_cast<Acc<T>>(p.attrs<NormAttrs>().epsilon);
  const auto blocks = std::min<unsigned>(blocks_for(s.outer, kThreads / 32), 132 * 8);
  return {[=](const Launch& l) {
    launch_next(layer_norm_rows<kVector<T>, K, T>, dim3(blocks), kThreads, stream_of(l),
                l.input<T>(0), l.output<T>(), scale.get(l), bias.get(l), s.outer,
                static_cast<int>(s.size), epsilon);
  }};
}

template <class T> Kernel norm_kernel(const Prepare& p, const Lines& s, const Affine& form) {
  const SmallInput scale(p, 1), bias(p, 2);
  const auto epsilon = static_cast<Acc<T>>(p.attrs<NormAttrs>().epsilon);
  return {[=](const Launch& l) {
    Affine affine = form;
    affine.scale = scale.get(l);
    affine.bias = bias.get(l);
    choose_lines<T>(s, [&](auto g, auto n) {
      if constexpr (g() > 1)
        norm_lines<g(), n(), T><<<blocks_for(s.count, kThreads / g()), kThreads, 0, stream_of(l)>>>(
            l.input<T>(0), l.output<T>(), s, affine, epsilon);
    });
    TRI_CUDA_LAUNCHED();
  }};
}

// ---- gradient: dx = inverse (g - mean(g) - xhat mean(g xhat)) with g = dy scale

// Sums of four numbers over a group of threads, which all get them: one round for all four.
template <int G, class A> __device__ __forceinline__ void reduce4(A (&v)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] = group_reduce<32>(v[i], Plus{});
  if constexpr (G > 32) {
    __shared__ A parts[32][4];
    const int warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
#pragma unroll
      for (int i = 0; i < 4; ++i) parts[warp][i] = v[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = parts[0][i];
      for (int w = 1; w < warps; ++w) v[i] += parts[w][i];
    }
  }
}

// A group (G: a warp, or kThreads for a whole block of any size) walks over rows; each thread keeps
// its columns, K vectors of N, and their sums over its rows: everything is read once. The moments
// are taken around the row's first element. partial: [blocks, kSums, n]; the third sum is of dx.
constexpr int kWarpThreads = 128;  // of a block whose warps have a row each
template <int K> constexpr int kWarpBlocks = K == 1 ? 5 : 3;  // of them that an SM holds

template <int G, int N, int K, int kSums, class T>
__global__ void __launch_bounds__(G == 32 ? kWarpThreads
                                  : N > 1 ? 512
                                          : 1024,
                                  G == 32 ? kWarpBlocks<K> : 1)
    layer_norm_grad_rows(const T* x, Small scale, const T* dy, T* dx, Acc<T>* partial, int64_t rows,
                         int64_t n, Acc<T> epsilon) {
  using A = Acc<T>;
  extern __shared__ __align__(16) unsigned char memory[];  // sums of the groups
  A* shared = reinterpret_cast<A*>(memory);
  wait_for_previous();
  const int threads = G == 32 ? 32 : static_cast<int>(blockDim.x), lane = threadIdx.x % threads;
  const int group = threadIdx.x / threads, groups = blockDim.x / threads;
  const A count = static_cast<A>(n);
  const auto column = [&](int k) { return (k * threads + lane) * N; };
  A columns[kSums][K][N] = {};
  // A warp has many columns a thread: the factors lie in shared memory, and the registers they
  // would take hold the next row, which is on its way while this one is worked on.
  constexpr bool kAhead = G == 32;
  A factor[kAhead ? 1 : K][N] = {}, *factors = shared + (kAhead ? kSums * n : 0);
  uint4 next[2][K] = {};
  const int64_t step = static_cast<int64_t>(gridDim.x) * groups;
  int64_t r = static_cast<int64_t>(blockIdx.x) * groups + group;
  const auto ask = [&](int64_t row) {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (row >= rows || column(k) >= n) continue;
      next[0][k] = *reinterpret_cast<const uint4*>(x + row * n + column(k));
      next[1][k] = *reinterpret_cast<const uint4*>(dy + row * n + column(k));
    }
  };
  if constexpr (kAhead) {
    for (int c = threadIdx.x; c < n; c += kWarpThreads) factors[c] = scale.at(c, A(1));
    __syncthreads();
    ask(r);
  } else {
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
      for (int i = 0; i < N; ++i)
        if (column(k) < n) factor[k][i] = scale.at(column(k) + i, A(1));
    }
  }
  // Of this thread's vector k.
  const auto factors_of = [&](int k, A(&f)[N]) {
    if constexpr (kAhead) {
#pragma unroll
      for (int i = 0; i < N; i += kVector<A>) {
        A part[kVector<A>];
        load<kVector<A>>(factors + column(k) + i, part);
#pragma unroll
        for (int m = 0; m < kVector<A>; ++m) f[i + m] = part[m];
      }
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) f[i] = factor[k][i];
    }
  };
  for (; r < rows; r += step) {
    A v[K][N] = {}, g[K][N] = {}, shift;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (column(k) >= n) continue;
      if constexpr (kAhead) {
        load<N>(reinterpret_cast<const T*>(&next[0][k]), v[k]);
        load<N>(reinterpret_cast<const T*>(&next[1][k]), g[k]);
      } else {
        load<N>(x + r * n + column(k), v[k]);
        load<N>(dy + r * n + column(k), g[k]);
      }
    }
    if constexpr (kAhead) {
      shift = __shfl_sync(~0u, v[0][0], 0);
      ask(r + step);
    } else {
      shift = up(x[r * n]);
    }
    A sums[4] = {};  // of d = x - shift, d^2, g scale, g scale d
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (column(k) >= n) continue;
      A own[N];
      factors_of(k, own);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const A d = v[k][i] - shift, f = g[k][i] * own[i];
        v[k][i] = d;
        sums[0] += d;
        sums[1] += d * d;
        sums[2] += f;
        sums[3] += f * d;
      }
    }
    reduce4<G>(sums);
    const A mean = sums[0] / count, variance = sums[1] / count - mean * mean;
    const A inverse = inverse_root((variance > A(0) ? variance : A(0)) + epsilon);
    const A a = sums[2] / count, b = (sums[3] / count - mean * a) * inverse;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (column(k) >= n) continue;
      A own[N];
      factors_of(k, own);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const A xhat = (v[k][i] - mean) * inverse;
        columns[0][k][i] += g[k][i] * xhat;
        columns[1][k][i] += g[k][i];
        v[k][i] = inverse * (g[k][i] * own[i] - a - xhat * b);
        if constexpr (kSums > 2) columns[2][k][i] += v[k][i];
      }
      store<N>(dx + r * n + column(k), v[k]);
    }
  }
  let_next_begin();
  A* own = partial + static_cast<int64_t>(blockIdx.x) * kSums * n;
  // The groups' sums, one group after the other.
  for (int turn = 0; turn < groups; ++turn) {
    __syncthreads();
    if (group != turn) continue;
#pragma unroll
    for (int which = 0; which < kSums; ++which) {
#pragma unroll
      for (int k = 0; k < K; ++k) {
        if (column(k) >= n) continue;
#pragma unroll
        for (int i = 0; i < N; ++i) {
          const int64_t c = which * n + column(k) + i;
          const A sum = columns[which][k][i] + (turn == 0 ? A(0) : shared[c]);
          if (turn == groups - 1) own[c] = sum;
          else shared[c] = sum;
        }
      }
    }
  }
}

// Rows too long for the registers of a block: four numbers of each row first, then sums of columns,
// and dx last, since it may overwrite x.
template <class T>
__global__ void __launch_bounds__(kThreads)
    layer_norm_grad_stats(const T* x, Small scale, const T* dy, Acc<T>* stats, Lines s,
                          Acc<T> epsilon) {
  using A = Acc<T>;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * s.size;
  A mean, inverse, a = 0, b = 0;
  moments<kThreads, 1>(x + at, s, epsilon, mean, inverse);
  for (int64_t i = threadIdx.x; i < s.size; i += kThreads) {
    const A g = up(dy[at + i]) * scale.at(i, A(1));
    a += g;
    b += g * (up(x[at + i]) - mean) * inverse;
  }
  a = group_reduce<kThreads>(a, Plus{}) / static_cast<A>(s.size);
  b = group_reduce<kThreads>(b, Plus{}) / static_cast<A>(s.size);
  if (threadIdx.x > 0) return;
  stats += 4 * static_cast<int64_t>(blockIdx.x);
  stats[0] = mean, stats[1] = inverse, stats[2] = a, stats[3] = b;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    layer_norm_grad_long(const T* x, Small scale, const T* dy, T* dx, const Acc<T>* stats,
                         int64_t n) {
  using A = Acc<T>;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * n;
  stats += 4 * static_cast<int64_t>(blockIdx.x);
  const A mean = stats[0], inverse = stats[1], a = stats[2], b = stats[3];
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const A xhat = (up(x[at + i]) - mean) * inverse;
    dx[at + i] = down<T>(inverse * (up(dy[at + i]) * scale.at(i, A(1)) - a - xhat * b));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    layer_norm_grad_columns(const T* x, const T* dy, const Acc<T>* stats, Acc<T>* dscale,
                            Acc<T>* dbias, int64_t rows, int64_t n) {
  using A = Acc<T>;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= n) return;
  A s = 0, b = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const A g = up(dy[r * n + c]);
    b += g;
    s += g * (up(x[r * n + c]) - stats[4 * r]) * stats[4 * r + 1];
  }
  dscale[c] = s;
  dbias[c] = b;
}

// Blocks' sums into the results: 32 columns a block, 32 threads a column. third may be null.
template <class T>
__global__ void __launch_bounds__(1024)
    join_partials(const Acc<T>* partial, Acc<T>* first, Acc<T>* second, T* third, int64_t parts,
                  int64_t n) {
  using A = Acc<T>;
  __shared__ A sums[32][33];
  const int x = threadIdx.x % 32, y = threadIdx.x / 32;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * 32 + x, all = (third ? 3 : 2) * n;
  wait_for_previous();
  A sum = 0;
  if (c < all) {
#pragma unroll 4
    for (int64_t k = y; k < parts; k += 32) sum += partial[k * all + c];
  }
  sums[y][x] = sum;
  __syncthreads();
  if (y > 0 || c >= all) return;
  for (int k = 1; k < 32; ++k) sum += sums[k][x];
  if (c < n) first[c] = sum;
  else if (c < 2 * n) second[c - n] = sum;
  else third[c - 2 * n] = down<T>(sum);
}

// `threads` a block, each group of which has a row at a time.
template <int G, int N, int K, int kSums, class T>
Kernel grad_rows_kernel(const Prepare& p, int64_t rows, int64_t n, unsigned threads) {
  using A = Acc<T>;
  const SmallInput scale(p, 1);
  const auto epsilon = static_cast<A>(p.attrs<NormAttrs>().epsilon);
  const int64_t per_sm = G == 32 ? kWarpBlocks<K>
                                 : std::clamp<int64_t>((kSums > 2 ? 682 : 768) / threads, 1, 16),
                at_once = G == 32 ? kWarpThreads / 32 : 1;
  const auto blocks =
      static_cast<unsigned>(std::min<int64_t>((rows + at_once - 1) / at_once, 132 * per_sm));
  const size_t sums = kSums * static_cast<size_t>(n),
               shared = G == 32 ? (sums + static_cast<size_t>(n)) * sizeof(A) : 0;
  return {[=](const Launch& l) {
            auto* partial = static_cast<A*>(l.scratch);
            launch_next(layer_norm_grad_rows<G, N, K, kSums, T>,
                        LaunchShape{.blocks = dim3(blocks), .threads = threads, .shared = shared},
                        stream_of(l), l.input<T>(0), scale.get(l), l.input<T>(2), l.output<T>(0),
                        partial, rows, n, epsilon);
            launch_next(join_partials<T>, dim3(blocks_for(kSums * n, 32)), 1024, stream_of(l),
                        partial, l.output<A>(1), l.output<A>(2),
                        kSums > 2 ? l.output<T>(3) : nullptr, static_cast<int64_t>(blocks), n);
          },
          blocks * sums * sizeof(A)};
}

template <class T>
__global__ void __launch_bounds__(kThreads) add_rows(const T* dx, T* sum, int64_t rows, int64_t n) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= n) return;
  Acc<T> all = 0;
  for (int64_t r = 0; r < rows; ++r) all += up(dx[r * n + c]);
  sum[c] = down<T>(all);
}

template <int kSums, class T> Kernel grad_long_kernel(const Prepare& p, int64_t rows, int64_t n) {
  using A = Acc<T>;
  const SmallInput scale(p, 1);
  const auto epsilon = static_cast<A>(p.attrs<NormAttrs>().epsilon);
  return {[=](const Launch& l) {
            auto* stats = static_cast<A*>(l.scratch);
            layer_norm_grad_stats<T><<<blocks_for(rows, 1), kThreads, 0, stream_of(l)>>>(
                l.input<T>(0), scale.get(l), l.input<T>(2), stats, Lines{rows, n, 1}, epsilon);
            TRI_CUDA_LAUNCHED();
            layer_norm_grad_columns<T><<<blocks_for(n), kThreads, 0, stream_of(l)>>>(
                l.input<T>(0), l.input<T>(2), stats, l.output<A>(1), l.output<A>(2), rows, n);
            TRI_CUDA_LAUNCHED();
            layer_norm_grad_long<T><<<blocks_for(rows, 1), kThreads, 0, stream_of(l)>>>(
                l.input<T>(0), scale.get(l), l.input<T>(2), l.output<T>(0), stats, n);
            TRI_CUDA_LAUNCHED();
            if constexpr (kSums > 2) {
              add_rows<T><<<blocks_for(n), kThreads, 0, stream_of(l)>>>(l.output<T>(0),
                                                                        l.output<T>(3), rows, n);
              TRI_CUDA_LAUNCHED();
            }
          },
          static_cast<size_t>(4 * rows) * sizeof(A)};
}

template <int kSums, class T> Kernel grad_kernel(const Prepare& p, int64_t rows, int64_t n) {
  constexpr int kN = kVector<T>;
  const auto threads_for = [](int64_t vectors) {
    return static_cast<unsigned>((vectors + 31) / 32 * 32);
  };
  const bool wide = vectors_fit(sizeof(T), n);
  const int64_t vectors = n / kN;
  if (wide && vectors <= 32) return grad_rows_kernel<32, kN, 1, kSums, T>(p, rows, n, kWarpThreads);
  if (wide && vectors <= 64) return grad_rows_kernel<32, kN, 2, kSums, T>(p, rows, n, kWarpThreads);
  if (wide && vectors <= 96) return grad_rows_kernel<32, kN, 3, kSums, T>(p, rows, n, kWarpThreads);
  if (wide && vectors <= 512)
    return grad_rows_kernel<kThreads, kN, 1, kSums, T>(p, rows, n, threads_for(vectors));
  if (!wide && n <= 1024)
    return grad_rows_kernel<kThreads, 1, 1, kSums, T>(p, rows, n, threads_for(n));
  if (!wide && n <= 4096)
    return grad_rows_kernel<kThreads, 1, 4, kSums, T>(p, rows, n, threads_for((n + 3) / 4));
  return grad_long_kernel<kSums, T>(p, rows, n);
}

// ---- group_norm, channels-last: a block a group of an image

template <class T>
__global__ void __launch_bounds__(kThreads)
    group_norm_last(const T* x, T* y, Small scale, Small bias, int64_t pixels, int64_t channels,
                    int64_t width, Acc<T> epsilon) {
  using A = Acc<T>;
  const int64_t groups = channels / width, image = blockIdx.x / groups,
                first = blockIdx.x % groups * width;
  x += image * pixels * channels + first;
  y += image * pixels * channels + first;
  const int64_t n = pixels * width;
  const auto place = [&](int64_t i) { return i / width * channels + i % width; };
  A sum = 0, squares = 0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += up(x[place(i)]);
  const A mean = group_reduce<kThreads>(sum, Plus{}) / static_cast<A>(n);
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const A d = up(x[place(i)]) - mean;
    squares += d * d;
  }
  const A inverse =
      inverse_root(group_reduce<kThreads>(squares, Plus{}) / static_cast<A>(n) + epsilon);
  for (int64_t i = threadIdx.x; i < n; i += kThreads) {
    const int64_t c = first + i % width;
    y[place(i)] =
        down<T>((up(x[place(i)]) - mean) * inverse * scale.at(c, A(1)) + bias.at(c, A(0)));
  }
}

template <class T> Kernel group_norm_kernel(const Prepare& p) {
  const Shape& x = p.in().shape;
  const int64_t groups = p.node.op == &ops::instance_norm_op ? x[1] : p.attrs<NormAttrs>().groups;
  const int64_t pixels = split_at(x, 1).inner, width = x[1] / groups;
  if (!channels_last(p.in()))
    return norm_kernel<T>(p, Lines{x[0] * groups, width * pixels, 1},
                          Affine{{}, {}, pixels, x[1], width});
  const SmallInput scale(p, 1), bias(p, 2);
  const auto epsilon = static_cast<Acc<T>>(p.attrs<NormAttrs>().epsilon);
  return {[=, blocks = blocks_for(x[0] * groups, 1), channels = x[1]](const Launch& l) {
    group_norm_last<T><<<blocks, kThreads, 0, stream_of(l)>>>(
        l.input<T>(0), l.output<T>(), scale.get(l), bias.get(l), pixels, channels, width, epsilon);
    TRI_CUDA_LAUNCHED();
  }};
}

AxisSplit rows_of(const Shape& x, int64_t axis) {
  AxisSplit s;
  for (int d = 0; d < x.rank(); ++d) (d < axis ? s.outer : s.size) *= x[d];
  return s;
}

}  // namespace
}  // namespace cuda

Kernel cuda_layer_norm(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda::nothing();
  const AxisSplit s = cuda::rows_of(p.in().shape, p.attrs<NormAttrs>().axis);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    const int64_t vectors = s.size / cuda::kVector<T>;
    if (cuda::vectors_fit(sizeof(T), s.size)) {
      if (vectors <= 32) return cuda::layer_norm_rows_kernel<1, T>(p, s);
      if (vectors <= 64) return cuda::layer_norm_rows_kernel<2, T>(p, s);
      if (vectors <= 96) return cuda::layer_norm_rows_kernel<3, T>(p, s);
    }
    return cuda::norm_kernel<T>(p, {s.outer, s.size, 1}, {{}, {}, 1, s.size, 0});
  });
}

Kernel cuda_layer_norm_grad(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  const AxisSplit s = cuda::rows_of(p.in().shape, p.attrs<NormAttrs>().axis);
  const bool sum = p.node.op == &ops::layer_norm_grad_sum_op;
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return sum ? cuda::grad_kernel<3, T>(p, s.outer, s.size)
               : cuda::grad_kernel<2, T>(p, s.outer, s.size);
  });
}

Kernel cuda_group_norm(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::group_norm_kernel<T>(p); });
}

Kernel cuda_zero_outputs(const Prepare& p) {
  std::vector<size_t> bytes;
  for (const auto& v : p.node.outputs) bytes.push_back(v->type.bytes());
  return {[bytes](const Launch& l) {
    for (size_t i = 0; i < bytes.size(); ++i)
      if (bytes[i] > 0) TRI_CUDA_CALL(cudaMemsetAsync(l.out[i], 0, bytes[i], cuda::stream_of(l)));
  }};
}

}  // namespace trireme
