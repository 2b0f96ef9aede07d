// argmax, topk, cumsum, cumprod and its gradient, take_along_axis, put_along_axis, searchsorted on
// the GPU.
#include "ops/cuda_common.cuh"
#include "ops/index.h"

namespace trireme {
namespace cuda {
namespace {

template <class A> struct Best {
  A value;
  int64_t at;
};

// The first of the largest (smallest); a NaN is passed over unless it comes first.
template <bool kMin> struct Choose {
  template <class A> __device__ Best<A> operator()(Best<A> a, Best<A> b) const {
    const bool better = kMin ? b.value < a.value : b.value > a.value;
    return better || (b.value == a.value && b.at < a.at) ? b : a;
  }
};

template <class A> __device__ __forceinline__ Best<A> shuffled(Best<A> b, int o) {
  return {__shfl_xor_sync(~0u, b.value, o), __shfl_xor_sync(~0u, b.at, o)};
}
template <int G, class A, class F> __device__ Best<A> best_of(Best<A> b, F choose) {
  if constexpr (G > 1) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) b = choose(b, shuffled(b, o));
  }
  if constexpr (G > 32) {
    __shared__ Best<A> parts[G / 32];
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = b;
    __syncthreads();
    b = parts[0];
    for (int w = 1; w < G / 32; ++w) b = choose(b, parts[w]);
  }
  return b;
}

template <int G, bool kMin, class T, class I>
__global__ void __launch_bounds__(kThreads) arg_lines(const T* x, I* y, Lines s) {
  using A = Acc<T>;
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (kThreads / G) + threadIdx.x / G;
  if (r >= s.count) return;
  x += s.begin(r);
  Best<A> best{up(x[0]), 0};
  for (int64_t i = threadIdx.x % G; i < s.size; i += G)
    best = Choose<kMin>{}(best, Best<A>{up(x[i * s.inner]), i});
  best = best_of<G>(best, Choose<kMin>{});
  if (threadIdx.x % G == 0) y[r] = static_cast<I>(best.at);
}

// ---- topk: k times the first one behind the last in the order (value, place); NaN is largest

template <bool kLargest, class A> __device__ __forceinline__ bool precedes(A a, A b) {
  if (a != a || b != b) return kLargest ? a != a && b == b : b != b && a == a;
  return kLargest ? a > b : a < b;
}
template <bool kLargest, class A>
__device__ __forceinline__ bool comes_first(Best<A> a, Best<A> b) {
  if (b.at < 0) return true;
  if (a.at < 0) return false;
  return precedes<kLargest>(a.value, b.value) ||
         (!precedes<kLargest>(b.value, a.value) && a.at < b.at);
}
template <bool kLargest> struct First {
  template <class A> __device__ Best<A> operator()(Best<A> a, Best<A> b) const {
    return comes_first<kLargest>(a, b) ? a : b;
  }
};

template <int G, bool kLargest, class T>
__global__ void __launch_bounds__(kThreads)
    topk_lines(const T* x, T* values, int64_t* places, Lines s, int64_t k) {
  using A = Acc<T>;
  const int64_t r = static_cast<int64_t>(blockIdx.x) * (kThreads / G) + threadIdx.x / G;
  if (r >= s.count) return;
  x += s.begin(r);
  const int64_t to = r / s.inner * k * s.inner + r % s.inner;
  Best<A> last{A(0), -1};
  for (int64_t round = 0; round < k; ++round) {
    Best<A> best{A(0), -1};
    for (int64_t i = threadIdx.x % G; i < s.size; i += G) {
      const Best<A> own{up(x[i * s.inner]), i};
      const bool behind = last.at < 0 || (own.at != last.at && comes_first<kLargest>(last, own));
      if (behind && comes_first<kLargest>(own, best)) best = own;
    }
    last = best_of<G>(best, First<kLargest>{});
    if (threadIdx.x % G == 0) {
      values[to + round * s.inner] = x[last.at * s.inner];
      places[to + round * s.inner] = last.at;
    }
  }
}

// ---- running sums and products

template <bool kProduct, class T>
__global__ void __launch_bounds__(kThreads)
    run_lines(const T* x, T* y, Lines s, bool exclusive, bool reverse) {
  using A = Acc<T>;
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (r >= s.count) return;
  const int64_t step = reverse ? -s.inner : s.inner;
  int64_t at = s.begin(r) + (reverse ? (s.size - 1) * s.inner : 0);
  A all = kProduct ? A(1) : A(0);
  for (int64_t i = 0; i < s.size; ++i, at += step) {
    const A v = up(x[at]), next = kProduct ? all * v : all + v;
    y[at] = down<T>(exclusive ? all : next);
    all = next;
  }
}

// As the CPU's: from both sides, without a division.
template <class T>
__global__ void __launch_bounds__(kThreads)
    product_grad_lines(const T* x, const T* dout, T* dx, Lines s, bool exclusive, bool reverse) {
  using A = Acc<T>;
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (r >= s.count) return;
  const int64_t step = reverse ? -s.inner : s.inner;
  const int64_t at = s.begin(r) + (reverse ? (s.size - 1) * s.inner : 0);
  x += at, dout += at, dx += at;
  A behind = 0, before = 1;
  for (int64_t i = s.size; i-- > 0;) {
    const bool last = i + 1 == s.size;
    const A next = last ? A(0) : up(x[(i + 1) * step]);
    if (exclusive) behind = last ? A(0) : up(dout[(i + 1) * step]) + next * behind;
    else behind = up(dout[i * step]) + next * behind;
    dx[i * step] = down<T>(behind);
  }
  for (int64_t i = 0; i < s.size; ++i) {
    dx[i * step] = down<T>(up(dx[i * step]) * before);
    before *= up(x[i * step]);
  }
}

// The first place of a sorted line that is not below the value, or (right) that is above it.
template <class T>
__global__ void __launch_bounds__(kThreads)
    search(const T* sorted, const T* values, int64_t* y, int64_t n, int64_t line, int64_t count,
           bool right) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const T* from = sorted + i / line * n;
  const auto v = up(values[i]);
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    const auto there = up(from[middle]);
    if (right ? !(v < there) : there < v) low = middle + 1;
    else high = middle;
  }
  y[i] = low;
}

// A block a dense line: 256 elements at a time.
template <bool kProduct, class T>
__global__ void __launch_bounds__(kThreads)
    run_blocks(const T* x, T* y, Lines s, bool exclusive, bool reverse) {
  using A = Acc<T>;
  __shared__ A parts[kThreads];
  const int64_t base = static_cast<int64_t>(blockIdx.x) * s.size;
  const int t = threadIdx.x;
  A carry = kProduct ? A(1) : A(0);
  for (int64_t i = 0; i < s.size; i += kThreads) {
    const int64_t at = base + (reverse ? s.size - 1 - (i + t) : i + t);
    const bool inside = i + t < s.size;
    parts[t] = inside ? up(x[at]) : (kProduct ? A(1) : A(0));
    __syncthreads();
    for (int o = 1; o < kThreads; o *= 2) {
      const A v = t >= o ? parts[t - o] : (kProduct ? A(1) : A(0));
      __syncthreads();
      parts[t] = kProduct ? parts[t] * v : parts[t] + v;
      __syncthreads();
    }
    const A before = t > 0 ? parts[t - 1] : (kProduct ? A(1) : A(0)),
            own = exclusive ? before : parts[t];
    if (inside) y[at] = down<T>(kProduct ? carry * own : carry + own);
    const A all = parts[kThreads - 1];
    carry = kProduct ? carry * all : carry + all;
    __syncthreads();
  }
}

template <bool kProduct, class T> Kernel running(const Lines& s, const CumsumAttrs& a) {
  return {[=, exclusive = a.exclusive, reverse = a.reverse](const Launch& l) {
    if (s.inner == 1 && s.size >= 256 && s.count < 4096)
      run_blocks<kProduct, T><<<blocks_for(s.count, 1), kThreads, 0, stream_of(l)>>>(
          l.input<T>(0), l.output<T>(), s, exclusive, reverse);
    else
      run_lines<kProduct, T><<<blocks_for(s.count), kThreads, 0, stream_of(l)>>>(
          l.input<T>(0), l.output<T>(), s, exclusive, reverse);
    TRI_CUDA_LAUNCHED();
  }};
}

// ---- along an axis

template <class W>
__global__ void __launch_bounds__(kThreads)
    take(const W* x, Index index, W* y, AxisSplit s, int64_t count) {
  const int64_t all = s.outer * count * s.inner;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const int64_t c = i % s.inner, o = i / s.inner / count;
    int64_t at = index[i];
    if (at < 0) at += s.size;
    y[i] = at >= 0 && at < s.size ? x[(o * s.size + at) * s.inner + c] : W{};
  }
}

// A thread a line, so that equal indices come one after the other.
template <class T>
__global__ void __launch_bounds__(kThreads)
    put_lines(Index index, const T* values, T* y, AxisSplit s, int64_t count, bool add) {
  const int64_t r = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (r >= s.outer * s.inner) return;
  const int64_t o = r / s.inner, c = r % s.inner;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = (o * count + k) * s.inner + c;
    int64_t at = index[i];
    if (at < 0) at += s.size;
    if (at < 0 || at >= s.size) continue;
    T& to = y[(o * s.size + at) * s.inner + c];
    to = add ? down<T>(up(to) + up(values[i])) : values[i];
  }
}

// launch(Width<G>) for scans that read element by element.
template <class F> void choose_groups(const Lines& s, F f) {
  if (s.inner > 1) f(Width<1>{});
  else if (s.size <= 1024) f(Width<32>{});
  else f(Width<kThreads>{});
}

Lines lines_at(const Shape& x, int64_t axis, bool flatten) {
  const AxisSplit s = flatten ? AxisSplit{1, x.numel(), 1} : split_at(x, axis);
  return {s.outer * s.inner, s.size, s.inner};
}

template <class T, class I> Kernel arg_kernel(const Lines& s, bool min) {
  return {[=](const Launch& l) {
    choose_groups(s, [&](auto g) {
      (min ? arg_lines<g(), true, T, I>
           : arg_lines<g(), false, T,
                       I>)<<<blocks_for(s.count, kThreads / g()), kThreads, 0, stream_of(l)>>>(
          l.input<T>(0), l.output<I>(), s);
    });
    TRI_CUDA_LAUNCHED();
  }};
}

template <class T> Kernel topk_kernel(const Lines& s, int64_t k, bool largest) {
  return {[=](const Launch& l) {
    choose_groups(s, [&](auto g) {
      (largest ? topk_lines<g(), true, T>
               : topk_lines<g(), false,
                            T>)<<<blocks_for(s.count, kThreads / g()), kThreads, 0, stream_of(l)>>>(
          l.input<T>(0), l.output<T>(0), l.output<int64_t>(1), s, k);
    });
    TRI_CUDA_LAUNCHED();
  }};
}

template <bool kProduct> Kernel running_of(const Prepare& p) {
  const auto& a = p.attrs<CumsumAttrs>();
  if (p.in().shape.numel() == 0) return nothing();
  const Lines s = lines_at(p.in().shape, a.axis, a.flatten);
  return with_cuda_number(*p.node.op, p.in().dtype,
                          [&]<class T>(Tag<T>) { return running<kProduct, T>(s, a); });
}

}  // namespace
}  // namespace cuda

Kernel cuda_argmax(const Prepare& p) {
  const auto& a = p.attrs<ArgAttrs>();
  if (p.out().shape.numel() == 0) return cuda::nothing();
  const cuda::Lines s = cuda::lines_at(p.in().shape, a.axis, a.flatten);
  return cuda::with_cuda_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return a.dtype == DType::kInt32 ? cuda::arg_kernel<T, int32_t>(s, a.min)
                                    : cuda::arg_kernel<T, int64_t>(s, a.min);
  });
}
Kernel cuda_topk(const Prepare& p) {
  const auto& a = p.attrs<TopkAttrs>();
  if (p.out().shape.numel() == 0) return cuda::nothing();
  const cuda::Lines s = cuda::lines_at(p.in().shape, a.axis, false);
  return cuda::with_cuda_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return cuda::topk_kernel<T>(s, a.k, a.largest);
  });
}
Kernel cuda_cumsum(const Prepare& p) { return cuda::running_of<false>(p); }
Kernel cuda_cumprod(const Prepare& p) { return cuda::running_of<true>(p); }

Kernel cuda_cumprod_grad(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  const auto a = p.attrs<CumsumAttrs>();
  const AxisSplit x =
      a.flatten ? AxisSplit{1, p.in().shape.numel(), 1} : split_at(p.in().shape, a.axis);
  const cuda::Lines s{x.outer * x.inner, x.size, x.inner};
  return cuda::with_cuda_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[=](const Launch& l) {
      cuda::product_grad_lines<T>
          <<<cuda::blocks_for(s.count), cuda::kThreads, 0, cuda::stream_of(l)>>>(
              l.input<T>(0), l.input<T>(1), l.output<T>(), s, a.exclusive, a.reverse);
      TRI_CUDA_LAUNCHED();
    }};
  });
}

Kernel cuda_searchsorted(const Prepare& p) {
  const Shape& sorted = p.in().shape;
  const int64_t n = sorted.back(), count = p.in(1).shape.numel();
  if (count == 0) return cuda::nothing();
  const int64_t line = sorted.rank() == 1 ? count : p.in(1).shape.back();
  const bool right = p.attrs<AxisAttrs>().axis == 1;
  return cuda::with_cuda_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[=](const Launch& l) {
      cuda::search<T><<<cuda::blocks_for(count), cuda::kThreads, 0, cuda::stream_of(l)>>>(
          l.input<T>(0), l.input<T>(1), l.output<int64_t>(), n, line, count, right);
      TRI_CUDA_LAUNCHED();
    }};
  });
}

Kernel cuda_take_along_axis(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  const int64_t axis = p.attrs<AxisAttrs>().axis, count = p.in(1).shape[static_cast<int>(axis)];
  const AxisSplit s = split_at(p.in().shape, axis);
  const bool wide = p.in(1).dtype == DType::kInt64;
  return with_size(size_of(p.in().dtype), [&]<class W>(Tag<W>) -> Kernel {
    return {[=](const Launch& l) {
      cuda::take<W><<<cuda::walking_blocks(s.outer * count * s.inner), cuda::kThreads, 0,
                      cuda::stream_of(l)>>>(l.input<W>(0), cuda::Index{l.in[1], wide},
                                            l.output<W>(), s, count);
      TRI_CUDA_LAUNCHED();
    }};
  });
}
Kernel cuda_put_along_axis(const Prepare& p) {
  if (p.out().shape.numel() == 0) return cuda::nothing();
  const auto a = p.attrs<PutAttrs>();
  const int64_t count = p.in(1).shape[static_cast<int>(a.axis)];
  const AxisSplit s = split_at(p.in().shape, a.axis);
  const bool wide = p.in(1).dtype == DType::kInt64;
  return cuda::with_cuda_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[=, bytes = p.out().bytes()](const Launch& l) {
      if (l.out[0] != l.in[0])
        TRI_CUDA_CALL(cudaMemcpyAsync(l.out[0], l.in[0], bytes, cudaMemcpyDeviceToDevice,
                                      cuda::stream_of(l)));
      cuda::put_lines<T>
          <<<cuda::blocks_for(s.outer * s.inner), cuda::kThreads, 0, cuda::stream_of(l)>>>(
              cuda::Index{l.in[1], wide}, l.input<T>(2), l.output<T>(), s, count, a.add);
      TRI_CUDA_LAUNCHED();
    }};
  });
}

}  // namespace trireme
