// What the batch norm kernels share: how the data lies; sums over parts of the rows, which a second
// kernel joins in a fixed order; the numbers of a channel; bits of a mask.
#pragma once

#include <numeric>

#include "ops/batch_norm_fused.h"
#include "ops/cuda_common.cuh"
#include "ops/norm.h"

namespace trireme::cuda {

// How the data lies: rows of channels, or (run > 0) runs of one channel.
struct Form {
  int64_t channels, count;  // count: elements of a channel
  int64_t run, images;
  unsigned slabs, parts;  // of the grid of sums

  // per_sm: blocks of the kernel that sums which an SM holds at a time (by their registers); all
  // run at once.
  Form(const Type& x, size_t element, int64_t per_sm = 4)
      : channels(x.shape[1]), count(x.shape.numel() / channels) {
    const int64_t pixels = split_at(x.shape, 1).inner;
    run = cuda_last(x) || pixels == 1 ? 0 : pixels;
    images = x.shape[0];
    const int64_t n = width(element), groups = channels / n;
    slabs = static_cast<unsigned>(run ? channels : (groups + 31) / 32);
    // Enough blocks for the largest GPU, but 16 rows for a thread.
    const int64_t work = run ? count / (kThreads * n * 4) : count / (16 * rows_at_once(groups));
    parts = static_cast<unsigned>(
        std::clamp<int64_t>(work, 1, std::max<int64_t>(1, 132 * per_sm / slabs)));
    if (run) parts = static_cast<unsigned>(std::min<int64_t>(parts, 64));
  }
  static bool cuda_last(const Type& x) { return channels_last(x); }
  static int64_t rows_at_once(int64_t groups) { return kThreads / std::min<int64_t>(groups, 32); }
  // Elements of an access.
  int width(size_t element) const {
    return vectors_fit(element, run ? run : channels) ? static_cast<int>(16 / element) : 1;
  }
  size_t partials() const { return static_cast<size_t>(2 * channels) * parts; }
};

// Divisions by 32 bits, which are several times quicker, where they do.
__device__ __forceinline__ int64_t divided(int64_t i, int64_t by) {
  return (i | by) >> 32 ? i / by : static_cast<unsigned>(i) / static_cast<unsigned>(by);
}

// Joins the K sums of the threads that share a channel, into partial[part][K][channels]. columns:
// threads side by side, of N channels each.
template <int K, int N, class A>
__device__ void block_sums(A (&sums)[K][N], int columns, int64_t first, int64_t channels,
                           A* partial) {
  constexpr int kWarps = kThreads / 32;
  __shared__ A shared[kWarps * 32 * N];
  // Within a warp first, where several of its rows have the same columns.
  const bool folded = columns < 32 && 32 % columns == 0;
  if (folded) {
#pragma unroll
    for (int which = 0; which < K; ++which) {
#pragma unroll
      for (int i = 0; i < N; ++i)
        for (int o = columns; o < 32; o *= 2)
          sums[which][i] += __shfl_xor_sync(~0u, sums[which][i], o);
    }
  }
  const int rows = folded ? kWarps : kThreads / columns;
  const int tx = threadIdx.x % columns, ty = folded ? threadIdx.x / 32 : threadIdx.x / columns;
  const bool writes = folded ? static_cast<int>(threadIdx.x % 32) < columns : ty < rows;
  A* own = partial + static_cast<int64_t>(blockIdx.y) * K * channels;
#pragma unroll
  for (int which = 0; which < K; ++which) {
    __syncthreads();
    if (writes) {
#pragma unroll
      for (int i = 0; i < N; ++i) shared[(ty * columns + tx) * N + i] = sums[which][i];
    }
    __syncthreads();
    for (int c = threadIdx.x; c < columns * N; c += kThreads) {
      if (first + c >= channels) continue;
      A sum = 0;
#pragma unroll 8
      for (int r = 0; r < rows; ++r) sum += shared[r * columns * N + c];
      own[which * channels + first + c] = sum;
    }
  }
}

// K sums over the rows of channels; for kernels launched by launch_next(), which touch memory here
// alone. f(first channel of N, walk) calls walk(piece), which calls
// piece(offset, offset to the next row, how many rows, sums).
template <int N, int kUnroll = 4, int K = 2, class A, class F>
__device__ void sum_rows(int64_t count, int64_t channels, A* partial, F f) {
  const int groups = static_cast<int>(channels / N);
  const int columns = min(groups, 32), rows = kThreads / columns;
  const int tx = threadIdx.x % columns, ty = threadIdx.x / columns;
  const int64_t group = static_cast<int64_t>(blockIdx.x) * columns + tx;
  A sums[K][N] = {};
  wait_for_previous();
  if (ty < rows && group < groups) {
    const int64_t step = static_cast<int64_t>(gridDim.y) * rows;
    f(group * N, [&](auto piece) {
      int64_t r = static_cast<int64_t>(blockIdx.y) * rows + ty;
      for (; r + (kUnroll - 1) * step < count; r += kUnroll * step)
        piece(r * channels + group * N, step * channels, Width<kUnroll>{}, sums);
      if constexpr (kUnroll > 2) {
        if (r + step < count) {
          piece(r * channels + group * N, step * channels, Width<2>{}, sums);
          r += 2 * step;
        }
      }
      for (; r < count; r += step) piece(r * channels + group * N, 0, Width<1>{}, sums);
    });
  }
  let_next_begin();
  block_sums<K>(sums, columns, static_cast<int64_t>(blockIdx.x) * columns * N, channels, partial);
}

// One channel's runs: gridDim.x channels, gridDim.y parts.
template <int N, int K = 2, class A, class F>
__device__ void sum_runs(int64_t run, int64_t images, int64_t channels, A* partial, F f) {
  const int64_t c = blockIdx.x;
  A sums[K][N] = {};
  wait_for_previous();
  const int64_t vectors = run / N, all = vectors * images;
  f(c, [&](auto piece) {
    for (int64_t i = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x; i < all;
         i += static_cast<int64_t>(gridDim.y) * kThreads) {
      const int64_t image = divided(i, vectors);
      piece((image * channels + c) * run + (i - image * vectors) * N, 0, Width<1>{}, sums);
    }
  });
  A* own = partial + static_cast<int64_t>(blockIdx.y) * K * channels;
#pragma unroll
  for (int which = 0; which < K; ++which) {
    A sum = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) sum += sums[which][i];
    sum = group_reduce<kThreads>(sum, Plus{});
    if (threadIdx.x == 0) own[which * channels + c] = sum;
  }
}

// Sums around one value of the channel, so that a large mean does not drown the variance.
template <int N, bool kRows, class T>
__global__ void __launch_bounds__(kThreads)
    moments(const T* __restrict__ x, Acc<T>* partial, int64_t count, int64_t channels, int64_t run,
            int64_t images) {
  using A = Acc<T>;
  const auto body = [&](int64_t c, auto walk) {
    A shift[N];
    if constexpr (kRows) {
      load<N>(x + c, shift);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) shift[i] = up(x[c * run]);
    }
    walk([&](int64_t at, int64_t step, auto unroll, A(&sums)[2][N]) {
      constexpr int U = decltype(unroll)::value;
      A v[U][N];
#pragma unroll
      for (int u = 0; u < U; ++u) load<N>(x + at + u * step, v[u]);
#pragma unroll
      for (int u = 0; u < U; ++u) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
          const A d = v[u][i] - shift[i];
          sums[0][i] += d;
          sums[1][i] += d * d;
        }
      }
    });
  };
  if constexpr (kRows) sum_rows<N>(count, channels, partial, body);
  else sum_runs<N>(run, images, channels, partial, body);
}

// ---- masks: one bit an element, in the order of memory, the lowest bit first

// Of vector i; the threads of a warp have neighbouring vectors, and all come here.
template <int N>
__device__ __forceinline__ void put_bits(uint8_t* mask, int64_t i, unsigned bits, bool there) {
#pragma unroll
  for (int o = 1; o * N < 8; o *= 2) bits |= __shfl_down_sync(~0u, bits, o) << o * N;
  if (there && i * N % 8 == 0) mask[i * N / 8] = static_cast<uint8_t>(bits);
}
// Of the N elements from `at` on.
template <int N> __device__ __forceinline__ unsigned get_bits(const uint8_t* mask, int64_t at) {
  return static_cast<unsigned>(mask[at / 8]) >> at % 8;
}

// Joins the parts of 32 channels; f(channel, K sums) once a channel.
template <int K = 2, class A, class F>
__device__ void join_parts(const A* partial, int parts, int64_t channels, F f) {
  __shared__ double shared[K][32][33];
  const int x = threadIdx.x % 32, y = threadIdx.x / 32;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * 32 + x;
  double sums[K] = {};
  if (c < channels) {
#pragma unroll 4
    for (int part = y; part < parts; part += 32) {
#pragma unroll
      for (int which = 0; which < K; ++which)
        sums[which] += partial[(static_cast<int64_t>(part) * K + which) * channels + c];
    }
  }
#pragma unroll
  for (int which = 0; which < K; ++which) shared[which][y][x] = sums[which];
  __syncthreads();
  if (y > 0 || c >= channels) return;
#pragma unroll
  for (int which = 0; which < K; ++which)
    for (int row = 1; row < 32; ++row) sums[which] += shared[which][row][x];
  f(c, sums);
}

// y = factor x + offset. What the gradients compute again from the saved statistics has the same
// bits as in the forward pass, so that both agree on which side of ReLU's kink an element lies.
template <class A>
__device__ __forceinline__ void affine_of(A scale, A bias, A mean, A inverse, A& factor,
                                          A& offset) {
  factor = scale * inverse;
  offset = fma(-mean, factor, bias);
}

template <class A> struct Train {
  const A *mean_in, *variance_in;
  A *mean, *variance, *saved_mean, *saved_inverse, *factor, *offset;
  Small scale, bias;
  double count, momentum, epsilon;
  int64_t stride;  // from one channel's first element to the next one's
};

template <class T>
__global__ void __launch_bounds__(1024)
    finish_train(const T* x, const Acc<T>* partial, int parts, int64_t channels, Train<Acc<T>> t) {
  using A = Acc<T>;
  let_next_begin();
  wait_for_previous();
  join_parts(partial, parts, channels, [&](int64_t c, const double(&sums)[2]) {
    const double shift = x ? static_cast<double>(up(x[c * t.stride])) : 0;
    const double d = sums[0] / t.count, mean = shift + d;
    const double variance = fmax(0.0, sums[1] / t.count - d * d),
                 inverse = 1 / sqrt(variance + t.epsilon);
    t.mean[c] = static_cast<A>(t.momentum * t.mean_in[c] + (1 - t.momentum) * mean);
    t.variance[c] = static_cast<A>(t.momentum * t.variance_in[c] + (1 - t.momentum) * variance);
    t.saved_mean[c] = static_cast<A>(mean);
    t.saved_inverse[c] = static_cast<A>(inverse);
    affine_of(t.scale.at(c, A(1)), t.bias.at(c, A(0)), static_cast<A>(mean),
              static_cast<A>(inverse), t.factor[c], t.offset[c]);
  });
}

// dscale, dbias and the numbers of dx = a g + b x + k.
template <class A> struct Back {
  Small scale, mean, inverse;
  A *dscale, *dbias, *a, *b, *k;
  double count;

  // From the sums of g and of g (x - mean).
  __device__ __forceinline__ void finish(int64_t c, double g, double gx) const {
    const double s = scale.at(c, 1.0), r = inverse.at(c, 1.0), m = mean.at(c, 0.0);
    dscale[c] = static_cast<A>(gx * r);
    dbias[c] = static_cast<A>(g);
    const double by_x = -s * r * r * r * gx / count;
    a[c] = static_cast<A>(s * r);
    b[c] = static_cast<A>(by_x);
    k[c] = static_cast<A>(-s * r * g / count - by_x * m);
  }
};

template <class A>
__global__ void __launch_bounds__(1024)
    finish_grad(const A* partial, int parts, int64_t channels, Back<A> t) {
  let_next_begin();
  wait_for_previous();
  join_parts(partial, parts, channels,
             [&](int64_t c, const double(&sums)[2]) { t.finish(c, sums[0], sums[1]); });
}

// launch(width, rows) with the constants that this form has.
template <class T, class F> void with_form(const Form& f, F launch) {
  using Rows = std::true_type;
  using Runs = std::false_type;
  if (f.width(sizeof(T)) > 1)
    f.run ? launch(Width<kVector<T>>{}, Runs{}) : launch(Width<kVector<T>>{}, Rows{});
  else f.run ? launch(Width<1>{}, Runs{}) : launch(Width<1>{}, Rows{});
}

// The first channel of vector i; `groups` are vectors in a row of channels, or in a run.
template <int N, bool kRows>
__device__ __forceinline__ int64_t channel_of(int64_t i, int64_t groups, int64_t channels) {
  const int64_t row = divided(i, groups);
  if constexpr (kRows) return (i - row * groups) * N;
  else return row - divided(row, channels) * channels;
}

// The numbers of N channels from c on; of runs (c is one channel) the same one N times.
template <int N, bool kRows, class A>
__device__ __forceinline__ void numbers_at(const A* p, int64_t c, A (&v)[N]) {
  if constexpr (!kRows) {
#pragma unroll
    for (int n = 0; n < N; ++n) v[n] = p[c];
  } else if constexpr (N % kVector<A> == 0) {
#pragma unroll
    for (int n = 0; n < N; n += kVector<A>) {
      A part[kVector<A>];
      load<kVector<A>>(p + c + n, part);
#pragma unroll
      for (int k = 0; k < kVector<A>; ++k) v[n + k] = part[k];
    }
  } else {
#pragma unroll
    for (int n = 0; n < N; ++n) v[n] = p[c + n];
  }
}

// Blocks that walk over vectors; a thread keeps its channels where the number can be made to fit.
inline unsigned steady_blocks(const Form& f, int64_t vectors, int64_t groups) {
  const unsigned blocks = walking_blocks(vectors, 2 * kThreads);
  const int64_t unit = f.run ? 1 : groups / std::gcd(groups, int64_t{kThreads});
  return blocks > unit ? blocks - static_cast<unsigned>(blocks % unit) : blocks;
}

// out = a x + k, or with dy: out = a dy + b x + k.
template <int N, bool kRows, bool kGrad, class T>
__global__ void __launch_bounds__(kThreads)
    apply(const T* x, const T* dy, T* out,  // out may be x
          const Acc<T>* __restrict__ a, const Acc<T>* __restrict__ b, const Acc<T>* __restrict__ k,
          int64_t vectors, int64_t groups, int64_t channels) {
  using A = Acc<T>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  A fa[N], fb[N], fk[N];
  const auto numbers = [&](int64_t at) {
    const int64_t c = channel_of<N, kRows>(at, groups, channels);
    numbers_at<N, kRows>(a, c, fa);
    numbers_at<N, kRows>(k, c, fk);
    if constexpr (kGrad) numbers_at<N, kRows>(b, c, fb);
  };
  const auto one = [&](A(&v)[N], const A(&g)[N]) {
#pragma unroll
    for (int n = 0; n < N; ++n)
      v[n] = kGrad ? fa[n] * g[n] + (fb[n] * v[n] + fk[n]) : fa[n] * v[n] + fk[n];
  };
  const bool constant = kRows && step % groups == 0;
  wait_for_previous();
  if (i < vectors) numbers(i);
  for (; i + step < vectors; i += 2 * step) {
    A v[2][N], g[2][N];
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      load<N>(x + (i + u * step) * N, v[u]);
      if constexpr (kGrad) load<N>(dy + (i + u * step) * N, g[u]);
    }
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      if (!constant) numbers(i + u * step);
      one(v[u], g[u]);
      store<N>(out + (i + u * step) * N, v[u]);
    }
  }
  if (i < vectors) {
    A v[N], g[N];
    load<N>(x + i * N, v);
    if constexpr (kGrad) load<N>(dy + i * N, g);
    if (!constant) numbers(i);
    one(v, g);
    store<N>(out + i * N, v);
  }
}

template <bool kGrad, class T>
void run_apply(const Form& f, const T* x, const T* dy, T* out, const Acc<T>* a, const Acc<T>* b,
               const Acc<T>* k, cudaStream_t stream) {
  with_form<T>(f, [&](auto n, auto rows) {
    const int64_t vectors = f.channels * f.count / n(),
                  groups = (rows() ? f.channels : f.run) / n();
    launch_next(apply<n(), rows(), kGrad, T>, steady_blocks(f, vectors, groups), kThreads, stream,
                x, dy, out, a, b, k, vectors, groups, f.channels);
  });
}

// The sums of x and of its squares around each channel's first element, into the partial sums.
template <class T>
void partial_moments(const Form& f, const T* x, Acc<T>* partial, cudaStream_t stream) {
  with_form<T>(f, [&](auto n, auto rows) {
    launch_next(moments<n(), rows(), T>, dim3(f.slabs, f.parts), kThreads, stream, x, partial,
                f.count, f.channels, f.run, f.images);
  });
}

// Takes the statistics of x and puts them into the node's outputs.
template <class T> class Statistics {
 public:
  using A = Acc<T>;

  Statistics(const Prepare& p, const Form& form, const NormPlaces& places, double momentum,
             double epsilon)
      : f_(form),
        at_(places),
        scale_(p, places.scale),
        bias_(p, places.bias),
        given_(p.has(places.sums)),
        momentum_(momentum),
        epsilon_(epsilon) {}

  // Numbers of scratch.
  size_t scratch() const { return f_.partials() + 2 * static_cast<size_t>(f_.channels); }

  // The factors of y = factor x + offset, behind which the offsets stand, in `scratch`.
  const A* take(const Launch& l, A* scratch) const {
    A *factor = scratch + f_.partials(), *offset = factor + f_.channels;
    const T* x = l.input<T>(at_.x);
    if (!given_) partial_moments<T>(f_, x, scratch, stream_of(l));
    const Train<A> t{l.input<A>(at_.mean),
                     l.input<A>(at_.variance),
                     l.output<A>(at_.mean_out),
                     l.output<A>(at_.variance_out),
                     l.output<A>(at_.saved_mean),
                     l.output<A>(at_.saved_mean + 1),
                     factor,
                     offset,
                     scale_.get(l),
                     bias_.get(l),
                     static_cast<double>(f_.count),
                     momentum_,
                     epsilon_,
                     f_.run ? f_.run : 1};
    launch_next(finish_train<T>, blocks_for(f_.channels, 32), 1024, stream_of(l),
                given_ ? nullptr : x, given_ ? l.input<A>(at_.sums) : scratch,
                given_ ? 1 : static_cast<int>(f_.parts), f_.channels, t);
    return factor;
  }

 private:
  Form f_;
  NormPlaces at_;
  SmallInput scale_, bias_;
  bool given_;
  double momentum_, epsilon_;
};

// The same for the gradients: from the sums in l.scratch to dscale and dbias (outputs 1 and 2) and
// the numbers of dx = a g + b x + k, which stand behind the sums.
inline size_t gradient_scratch(const Form& f) {
  return f.partials() + 3 * static_cast<size_t>(f.channels);
}
template <class A>
Back<A> gradient_numbers(const Form& f, const SmallInput& scale, const SmallInput& mean,
                         const SmallInput& inverse, const Launch& l) {
  auto* partial = static_cast<A*>(l.scratch);
  A* a = partial + f.partials();
  const Back<A> back{scale.get(l),   mean.get(l),        inverse.get(l),
                     l.output<A>(1), l.output<A>(2),     a,
                     a + f.channels, a + 2 * f.channels, static_cast<double>(f.count)};
  launch_next(finish_grad<A>, blocks_for(f.channels, 32), 1024, stream_of(l), partial,
              static_cast<int>(f.parts), f.channels, back);
  return back;
}

}  // namespace trireme::cuda
