// softmax, log_softmax, cross entropy and their gradients on the GPU. A line of classes belongs to
// a thread, a warp or a block; it comes from memory once, later passes find it in the cache.
#include "ops/cross_entropy.h"
#include "ops/cuda_common.cuh"
#include "ops/norm.h"

namespace trireme {
namespace cuda {
namespace {

// The largest of a line, and the sum of e^(x - most): all threads of the group get it. kPadded:
// what lies at `end` and behind it does not count.
template <class A> struct Whole { A most, sum; };

// kFast: the hardware's exponential, within 2^-21 of the largest.
template <int G, int N, bool kPadded = false, bool kFast = false, class T>
__device__ Whole<Acc<T>> whole_of(const T* x, const Lines& s, int64_t end = 0) {
  using A = Acc<T>;
  A most = lowest<A>(), sum = 0;
  const auto power = [](A v) {
    if constexpr (kFast) return __expf(v);
    else return exp_of(v);
  };
  const auto take = [&](A(&v)[N], int64_t i) {
    A top = most;
    if (kPadded && i + N > end) {
#pragma unroll
      for (int k = 0; k < N; ++k) v[k] = i + k < end ? v[k] : -static_cast<A>(INFINITY);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) top = v[k] > top ? v[k] : top;  // a NaN shows in the sum
    sum *= power(most - top);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += power(v[k] - top);
    most = top;
  };
  // Several loads are under way at a time.
  constexpr int kAhead = G > 32 && N > 1 ? 4 : 1;
  const int64_t size = kPadded ? end : s.size;
  int64_t i = static_cast<int64_t>(threadIdx.x % G) * N;
  for (; i + (kAhead - 1) * G * N < size; i += kAhead * G * N) {
    A v[kAhead][N];
#pragma unroll
    for (int u = 0; u < kAhead; ++u) load<N>(x + (i + u * G * N) * s.inner, v[u]);
#pragma unroll
    for (int u = 0; u < kAhead; ++u) take(v[u], i + u * G * N);
  }
  for (; i < size; i += G * N) {
    A v[N];
    load<N>(x + i * s.inner, v);
    take(v, i);
  }
  const A all = group_reduce<G>(most, Larger{});
  return {all, group_reduce<G>(sum * exp_of(most - all), Plus{})};
}

// The line of this thread's group; -1 behind the last one (then of a whole warp or block).
template <int G> __device__ __forceinline__ int64_t own_line(const Lines& s) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (kThreads / G) + threadIdx.x / G;
  return r < s.count ? r : -1;
}

template <int G, int N, class T>
__global__ void __launch_bounds__(kThreads) softmax_lines(const T* x, T* y, Lines s, bool log) {
  using A = Acc<T>;
  const int64_t r = own_line<G>(s);
  let_next_begin();
  wait_for_previous();
  if (r < 0) return;
  x += s.begin(r);
  y += s.begin(r);
  const Whole<A> w = whole_of<G, N>(x, s);
  const A log_sum = log_of(w.sum), factor = A(1) / w.sum;
  for_pieces<G, N>(s.size, [&](int64_t i) {
    A v[N];
    load<N>(x + i * s.inner, v);
#pragma unroll
    for (int k = 0; k < N; ++k)
      v[k] = log ? (v[k] - w.most) - log_sum : exp_of(v[k] - w.most) * factor;
    store<N>(y + i * s.inner, v);
  });
}

// dx = y (dy - sum of y dy)
template <int G, int N, class T>
__global__ void __launch_bounds__(kThreads)
    softmax_grad_lines(const T* y, const T* dy, T* dx, Lines s) {
  using A = Acc<T>;
  const int64_t r = own_line<G>(s);
  if (r < 0) return;
  const int64_t at = s.begin(r);
  A sum = 0;
  for_pieces<G, N>(s.size, [&](int64_t i) {
    A v[N], g[N];
    load<N>(y + at + i * s.inner, v);
    load<N>(dy + at + i * s.inner, g);
#pragma unroll
    for (int k = 0; k < N; ++k) sum += v[k] * g[k];
  });
  sum = group_reduce<G>(sum, Plus{});
  for_pieces<G, N>(s.size, [&](int64_t i) {
    A v[N], g[N];
    load<N>(y + at + i * s.inner, v);
    load<N>(dy + at + i * s.inner, g);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] *= g[k] - sum;
    store<N>(dx + at + i * s.inner, v);
  });
}

// Hard labels; one outside of the classes has NaN for its loss (the host cannot be told).
struct Labels {
  Index at;
  int64_t ignored;
};

template <int G, int N, bool kSoft, class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_lines(const T* x, const T* soft, Labels hard, T* y, T* loss, Lines s) {
  using A = Acc<T>;
  const int64_t r = own_line<G>(s);
  if (r < 0) return;
  const int64_t at = s.begin(r);
  const Whole<A> w = whole_of<G, N>(x + at, s);
  const A log_sum = log_of(w.sum), factor = A(1) / w.sum;
  A result = 0;
  if constexpr (!kSoft) {
    const int64_t label = hard.at[r];
    if (label != hard.ignored)
      result = label >= 0 && label < s.size ? (w.most - up(x[at + label * s.inner])) + log_sum
                                            : static_cast<A>(NAN);
  }
  for_pieces<G, N>(s.size, [&](int64_t i) {
    A v[N], e[N];
    load<N>(x + at + i * s.inner, v);
#pragma unroll
    for (int k = 0; k < N; ++k) e[k] = exp_of(v[k] - w.most) * factor;
    if constexpr (kSoft) {
      A label[N];
      load<N>(soft + at + i * s.inner, label);
#pragma unroll
      for (int k = 0; k < N; ++k) result += label[k] * ((w.most - v[k]) + log_sum);
    }
    store<N>(y + at + i * s.inner, e);
  });
  if constexpr (kSoft) result = group_reduce<G>(result, Plus{});
  if (threadIdx.x % G == 0) loss[r] = down<T>(result);
}

// dlogits = (softmax - label) dloss
template <int G, int N, bool kSoft, class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_grad_lines(const T* soft, Labels hard, const T* y, const T* dloss, T* dx,
                             Lines s) {
  using A = Acc<T>;
  const int64_t r = own_line<G>(s);
  if (r < 0) return;
  const int64_t at = s.begin(r);
  A slope = up(dloss[r]), whole = 1;
  int64_t label = -1;
  if constexpr (kSoft) {
    whole = 0;
    for_pieces<G, N>(s.size, [&](int64_t i) {
      A v[N];
      load<N>(soft + at + i * s.inner, v);
#pragma unroll
      for (int k = 0; k < N; ++k) whole += v[k];
    });
    whole = group_reduce<G>(whole, Plus{});
  } else {
    label = hard.at[r];
    if (label == hard.ignored) slope = 0, label = -1;
  }
  for_pieces<G, N>(s.size, [&](int64_t i) {
    A v[N], given[N];
    load<N>(y + at + i * s.inner, v);
    if constexpr (kSoft) load<N>(soft + at + i * s.inner, given);
#pragma unroll
    for (int k = 0; k < N; ++k)
      v[k] = (v[k] * whole - (kSoft ? given[k] : i + k == label ? A(1) : A(0))) * slope;
    store<N>(dx + at + i * s.inner, v);
  });
}

// Of half logits: the softmax stays unwritten, log_sum is what makes it again.
template <int G, int N, class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_half_lines(const T* x, Labels hard, float* loss, float* log_sum, Lines s,
                             int64_t classes) {
  const int64_t r = own_line<G>(s);
  if (r < 0) return;
  x += s.begin(r);
  const Whole<float> w = classes < s.size ? whole_of<G, N, true, true>(x, s, classes)
                                          : whole_of<G, N, false, true>(x, s);
  if (threadIdx.x % G != 0) return;
  const int64_t label = hard.at[r];
  const float log = log_of(w.sum);
  float result = 0;
  if (label != hard.ignored)
    result = label >= 0 && label < classes ? (w.most - up(x[label * s.inner])) + log : NAN;
  loss[r] = result;
  log_sum[r] = w.most + log;
}

// dx may be x.
template <int G, int N, class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_half_grad_lines(const T* x, Labels hard, const float* log_sum, const float* dloss,
                                  T* dx, Lines s, int64_t classes) {
  const int64_t r = own_line<G>(s);
  if (r < 0) return;
  const int64_t at = s.begin(r), own = hard.at[r];
  const bool skipped = own == hard.ignored;
  const float sum = log_sum[r], slope = skipped ? 0.f : dloss[r];
  const int64_t label = skipped ? -1 : own;
  for_pieces<G, N>(s.size, [&](int64_t i) {
    float v[N];
    load<N>(x + at + i * s.inner, v);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      v[k] = (__expf(v[k] - sum) - (i + k == label ? 1.f : 0.f)) * slope;
      if (i + k >= classes) v[k] = 0;
    }
    store<N>(dx + at + i * s.inner, v);
  });
}

// Loss and gradient at once: a block has a row, which it reads once and keeps in shared memory.
constexpr unsigned kRowThreads = 512;
template <int N, class T>
__global__ void __launch_bounds__(kRowThreads)
    cross_entropy_half_rows(const T* x, Labels hard, const float* dloss, T* dx,  // dx may be x
                            float* loss, int size, int classes) {
  extern __shared__ uint4 kept[];
  const int64_t r = blockIdx.x;
  x += r * size, dx += r * size;
  float most = lowest<float>(), sum = 0;
  for (int i = static_cast<int>(threadIdx.x) * N; i < size; i += kRowThreads * N) {
    kept[i / N] = *reinterpret_cast<const uint4*>(x + i);
    float v[N], peak = most;
    load<N>(reinterpret_cast<const T*>(kept + i / N), v);
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (i + k < classes) peak = Larger{}(peak, v[k]);
    sum *= __expf(most - peak);
    most = peak;
#pragma unroll
    for (int k = 0; k < N; ++k)
      if (i + k < classes) sum += __expf(v[k] - most);
  }
  const float peak = group_reduce<kThreads>(most, Larger{});
  sum = group_reduce<kThreads>(sum * __expf(most - peak), Plus{});
  const int64_t own = hard.at[r];
  const bool skipped = own == hard.ignored;
  const float log_sum = peak + log_of(sum), slope = skipped ? 0.f : dloss[r];
  if (threadIdx.x == 0) {
    const bool known = own >= 0 && own < classes;
    loss[r] = skipped ? 0.f
              : known ? log_sum - up(reinterpret_cast<const T*>(kept)[own])
                      : static_cast<float>(NAN);
  }
  for (int i = static_cast<int>(threadIdx.x) * N; i < size; i += kRowThreads * N) {
    float v[N];
    load<N>(reinterpret_cast<const T*>(kept + i / N), v);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      v[k] = (__expf(v[k] - log_sum) - (!skipped && i + k == own ? 1.f : 0.f)) * slope;
      if (i + k >= classes) v[k] = 0;
    }
    store<N>(dx + i, v);
  }
}

Lines lines_of(const Shape& x, int64_t axis) {
  const AxisSplit s = split_at(x, axis);
  return {s.outer * s.inner, s.size, s.inner};
}

template <class T> Kernel softmax_kernel(const Lines& s, bool log) {
  return {[=](const Launch& l) {
    choose_lines<T>(s, [&](auto g, auto n) {
      launch_next(softmax_lines<g(), n(), T>, dim3(blocks_for(s.count, kThreads / g())), kThreads,
                  stream_of(l), l.input<T>(0), l.output<T>(), s, log);
    });
  }};
}

Kernel softmax_of(const Prepare& p, bool log) {
  const Lines s = lines_of(p.in().shape, p.attrs<NormAttrs>().axis);
  if (s.count * s.size == 0) return nothing();
  return with_cuda_floating(*p.node.op, p.in().dtype,
                            [&]<class T>(Tag<T>) { return softmax_kernel<T>(s, log); });
}

template <class T> Kernel softmax_grad_kernel(const Lines& s) {
  return {[=](const Launch& l) {
    choose_lines<T>(s, [&](auto g, auto n) {
      softmax_grad_lines<g(), n(), T>
          <<<blocks_for(s.count, kThreads / g()), kThreads, 0, stream_of(l)>>>(
              l.input<T>(0), l.input<T>(1), l.output<T>(), s);
    });
    TRI_CUDA_LAUNCHED();
  }};
}

template <class T> Kernel cross_entropy_kernel(const Prepare& p, const Lines& s) {
  const auto a = p.attrs<CrossEntropyAttrs>();
  const bool wide = p.in(1).dtype == DType::kInt64;
  return {[=](const Launch& l) {
    const Labels labels{{l.in[1], wide}, a.ignore_index};
    choose_lines<T>(s, [&](auto g, auto n) {
      const unsigned blocks = blocks_for(s.count, kThreads / g());
      const auto run = [&](auto kernel) {
        kernel<<<blocks, kThreads, 0, stream_of(l)>>>(l.input<T>(0), l.input<T>(1), labels,
                                                      l.output<T>(0), l.output<T>(1), s);
      };
      if (a.soft_label) run(cross_entropy_lines<g(), n(), true, T>);
      else run(cross_entropy_lines<g(), n(), false, T>);
    });
    TRI_CUDA_LAUNCHED();
  }};
}

template <class T> Kernel cross_entropy_grad_kernel(const Prepare& p, const Lines& s) {
  const auto a = p.attrs<CrossEntropyAttrs>();
  const bool wide = p.in(0).dtype == DType::kInt64;
  return {[=](const Launch& l) {
    const Labels labels{{l.in[0], wide}, a.ignore_index};
    choose_lines<T>(s, [&](auto g, auto n) {
      const unsigned blocks = blocks_for(s.count, kThreads / g());
      const auto run = [&](auto kernel) {
        kernel<<<blocks, kThreads, 0, stream_of(l)>>>(l.input<T>(0), labels, l.input<T>(1),
                                                      l.input<T>(2), l.output<T>(), s);
      };
      if (a.soft_label) run(cross_entropy_grad_lines<g(), n(), true, T>);
      else run(cross_entropy_grad_lines<g(), n(), false, T>);
    });
    TRI_CUDA_LAUNCHED();
  }};
}

template <class T> Kernel cross_entropy_half_kernel(const Prepare& p, bool backward) {
  const auto a = p.attrs<CrossEntropyAttrs>();
  const Lines s = lines_of(p.in().shape, a.axis);
  const bool wide = p.in(1).dtype == DType::kInt64;
  const int64_t classes = a.classes ? a.classes : s.size;
  return {[=](const Launch& l) {
    const Labels labels{{l.in[1], wide}, a.ignore_index};
    choose_lines<T>(s, [&](auto g, auto n) {
      const unsigned blocks = blocks_for(s.count, kThreads / g());
      if (backward)
        cross_entropy_half_grad_lines<g(), n(), T><<<blocks, kThreads, 0, stream_of(l)>>>(
            l.input<T>(0), labels, l.input<float>(2), l.input<float>(3), l.output<T>(), s, classes);
      else
        cross_entropy_half_lines<g(), n(), T><<<blocks, kThreads, 0, stream_of(l)>>>(
            l.input<T>(0), labels, l.output<float>(0), l.output<float>(1), s, classes);
    });
    TRI_CUDA_LAUNCHED();
  }};
}

template <class T> Kernel cross_entropy_half_both_kernel(const Prepare& p) {
  constexpr size_t kMostShared = 160 << 10;
  constexpr int kN = kVector<T>;
  const auto a = p.attrs<CrossEntropyAttrs>();
  const Lines s = lines_of(p.in().shape, a.axis);
  const bool wide = p.in(1).dtype == DType::kInt64;
  const int64_t classes = a.classes ? a.classes : s.size;
  const size_t row = static_cast<size_t>(s.size) * sizeof(T);
  if (s.inner != 1 || !vectors_fit(sizeof(T), s.size) || s.size < 1024 || row > kMostShared ||
      s.count > 0x7fffffff) {
    return {[=](const Launch& l) {
              const Labels labels{{l.in[1], wide}, a.ignore_index};
              auto* log_sum = static_cast<float*>(l.scratch);
              choose_lines<T>(s, [&](auto g, auto n) {
                const unsigned blocks = blocks_for(s.count, kThreads / g());
                cross_entropy_half_lines<g(), n(), T><<<blocks, kThreads, 0, stream_of(l)>>>(
                    l.input<T>(0), labels, l.output<float>(1), log_sum, s, classes);
                cross_entropy_half_grad_lines<g(), n(), T><<<blocks, kThreads, 0, stream_of(l)>>>(
                    l.input<T>(0), labels, log_sum, l.input<float>(2), l.output<T>(), s, classes);
              });
              TRI_CUDA_LAUNCHED();
            },
            static_cast<size_t>(s.count) * sizeof(float)};
  }
  TRI_CUDA_CALL(cudaFuncSetAttribute(cross_entropy_half_rows<kN, T>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(kMostShared)));
  return {[=](const Launch& l) {
    const Labels labels{{l.in[1], wide}, a.ignore_index};
    cross_entropy_half_rows<kN, T>
        <<<static_cast<unsigned>(s.count), kRowThreads, row, stream_of(l)>>>(
            l.input<T>(0), labels, l.input<float>(2), l.output<T>(), l.output<float>(1),
            static_cast<int>(s.size), static_cast<int>(classes));
    TRI_CUDA_LAUNCHED();
  }};
}

Kernel of_half(const Prepare& p, bool backward) {
  if (p.in().shape.numel() == 0) return nothing();
  if (p.in().dtype == DType::kFloat16) return cross_entropy_half_kernel<__half>(p, backward);
  return cross_entropy_half_kernel<__nv_bfloat16>(p, backward);
}

}  // namespace
}  // namespace cuda

Kernel cuda_cross_entropy_half(const Prepare& p) { return cuda::of_half(p, false); }
Kernel cuda_cross_entropy_half_grad(const Prepare& p) { return cuda::of_half(p, true); }
Kernel cuda_cross_entropy_half_both(const Prepare& p) {
  if (p.in().shape.numel() == 0) return cuda::nothing();
  return p.in().dtype == DType::kFloat16 ? cuda::cross_entropy_half_both_kernel<__half>(p)
                                         : cuda::cross_entropy_half_both_kernel<__nv_bfloat16>(p);
}

Kernel cuda_softmax(const Prepare& p) { return cuda::softmax_of(p, false); }
Kernel cuda_log_softmax(const Prepare& p) { return cuda::softmax_of(p, true); }

Kernel cuda_softmax_grad(const Prepare& p) {
  const cuda::Lines s = cuda::lines_of(p.in().shape, p.attrs<NormAttrs>().axis);
  if (s.count * s.size == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype,
                                  [&]<class T>(Tag<T>) { return cuda::softmax_grad_kernel<T>(s); });
}

Kernel cuda_cross_entropy(const Prepare& p) {
  const cuda::Lines s = cuda::lines_of(p.in().shape, p.attrs<CrossEntropyAttrs>().axis);
  if (s.count == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return cuda::cross_entropy_kernel<T>(p, s);
  });
}

Kernel cuda_cross_entropy_grad(const Prepare& p) {
  const cuda::Lines s = cuda::lines_of(p.in(1).shape, p.attrs<CrossEntropyAttrs>().axis);
  if (s.count == 0) return cuda::nothing();
  return cuda::with_cuda_floating(*p.node.op, p.in(1).dtype, [&]<class T>(Tag<T>) {
    return cuda::cross_entropy_grad_kernel<T>(p, s);
  });
}

}  // namespace trireme
