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

// A block walks over rows; each thread keeps its columns, K vectors of N, and their sums over the
// rows of the block: everything is read once. partial: [blocks, 2, n].
template <int N, int K, class T>
__global__ void __launch_bounds__(N > 1 ? 512 : 1024)
    layer_norm_grad_rows(const T* x, Small scale, const T* dy, T* dx, Acc<T>* partial, int64_t rows,
                         int64_t n, Acc<T> epsilon) {
  using A = Acc<T>;
  const A count = static_cast<A>(n);
  A dscale[K][N] = {}, dbias[K][N] = {}, factor[K][N];
  const auto column = [&](int k) {
    return (static_cast<int64_t>(k) * blockDim.x + threadIdx.x) * N;
  };
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int i = 0; i < N; ++i) factor[k][i] = column(k) < n ? scale.at(column(k) + i, A(1)) : A(0);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    A v[K][N] = {}, g[K][N] = {};
    A sum = 0, squares = 0, a = 0, b = 0;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (column(k) >= n) continue;
      load<N>(x + r * n + column(k), v[k]);
      load<N>(dy + r * n + column(k), g[k]);
#pragma unroll
      for (int i = 0; i < N; ++i) sum += v[k][i];
    }
    const A mean = group_reduce<kThreads>(sum, Plus{}) / count;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (column(k) >= n) continue;
#pragma unroll
      for (int i = 0; i < N; ++i) squares += (v[k][i] - mean) * (v[k][i] - mean);
    }
    const A inverse = inverse_root(group_reduce<kThreads>(squares, Plus{}) / count + epsilon);
#pragma unroll
    for (int k = 0; k < K; ++k) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const A xhat = (v[k][i] - mean) * inverse;
        v[k][i] = xhat;
        dscale[k][i] += g[k][i] * xhat;
        dbias[k][i] += g[k][i];
        g[k][i] *= factor[k][i];
        a += g[k][i];
        b += g[k][i] * xhat;
      }
    }
    a = group_reduce<kThreads>(a, Plus{}) / count;
    b = group_reduce<kThreads>(b, Plus{}) / count;
#pragma unroll
    for (int k = 0; k < K; ++k) {
      if (column(k) >= n) continue;
#pragma unroll
      for (int i = 0; i < N; ++i) v[k][i] = inverse * (g[k][i] - a - v[k][i] * b);
      store<N>(dx + r * n + column(k), v[k]);
    }
  }
  A* own = partial + static_cast<int64_t>(blockIdx.x) * 2 * n;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (column(k) >= n) continue;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      own[column(k) + i] = dscale[k][i];
      own[n + column(k) + i] = dbias[k][i];
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

// Blocks' sums into the results: 32 columns a block, 8 threads a column.
template <class A>
__global__ void __launch_bounds__(kThreads)
    join_partials(const A* partial, A* first, A* second, int64_t parts, int64_t n) {
  __shared__ A sums[8][33];
  const int x = threadIdx.x % 32, y = threadIdx.x / 32;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * 32 + x;
  A sum = 0;
  if (c < 2 * n)
    for (int64_t k = y; k < parts; k += 8) sum += partial[k * 2 * n + c];
  sums[y][x] = sum;
  __syncthreads();
  if (y > 0 || c >= 2 * n) return;
  for (int k = 1; k < 8; ++k) sum += sums[k][x];
  (c < n ? first[c] : second[c - n]) = sum;
}

template <int N, int K, class T>
Kernel grad_rows_kernel(const Prepare& p, int64_t rows, int64_t n, unsigned threads) {
  using A = Acc<T>;
  const SmallInput scale(p, 1);
  const auto epsilon = static_cast<A>(p.attrs<NormAttrs>().epsilon);
  const int64_t per_sm = std::clamp<int64_t>(1024 / threads, 1, 8);
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(rows, 132 * per_sm));
  return {[=](const Launch& l) {
            auto* partial = static_cast<A*>(l.scratch);
            layer_norm_grad_rows<N, K, T>
                <<<blocks, threads, 0, stream_of(l)>>>(l.input<T>(0), scale.get(l), l.input<T>(2),
                                                       l.output<T>(0), partial, rows, n, epsilon);
            TRI_CUDA_LAUNCHED();
            join_partials<A><<<blocks_for(2 * n, 32), kThreads, 0, stream_of(l)>>>(
                partial, l.output<A>(1), l.output<A>(2), blocks, n);
            TRI_CUDA_LAUNCHED();
          },
          static_cast<size_t>(blocks) * 2 * static_cast<size_t>(n) * sizeof(A)};
}

template <class T> Kernel grad_long_kernel(const Prepare& p, int64_t rows, int64_t n) {
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
          },
          static_cast<size_t>(4 * rows) * sizeof(A)};
}

template <class T> Kernel grad_kernel(const Prepare& p, int64_t rows, int64_t n) {
  constexpr int kN = kVector<T>;
  const auto threads_for = [](int64_t vectors) {
    return static_cast<unsigned>((vectors + 31) / 32 * 32);
  };
  const bool wide = vectors_fit(sizeof(T), n);
  if (wide && n / kN <= 512) return grad_rows_kernel<kN, 1, T>(p, rows, n, threads_for(n / kN));
  if (!wide && n <= 1024) return grad_rows_kernel<1, 1, T>(p, rows, n, threads_for(n));
  if (!wide && n <= 4096) return grad_rows_kernel<1, 4, T>(p, rows, n, threads_for((n + 3) / 4));
  return grad_long_kernel<T>(p, rows, n);
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
    return cuda::norm_kernel<T>(p, {s.outer, s.size, 1}, {{}, {}, 1, s.size, 0});
  });
}

Kernel cuda_layer_norm_grad(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda_zero_outputs(p);
  const AxisSplit s = cuda::rows_of(p.in().shape, p.attrs<NormAttrs>().axis);
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return cuda::grad_kernel<T>(p, s.outer, s.size);
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
