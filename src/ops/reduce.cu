// Reductions on the GPU. [outer, n, inner] is reduced over n: rows by warps or blocks, columns by a
// thread each (16 bytes of them at once); where that gives too few threads, n is cut into parts,
// whose results a second kernel joins in their order.
#include "ops/cuda_common.cuh"
#include "ops/reduce.h"
#include "ops/reduce_form.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace cuda {
namespace {

// Ways to reduce; A is the accumulator.
struct Sum {
  template <class A> __device__ static A neutral() { return A(0); }
  template <class A> __device__ A operator()(A a, A b) const { return a + b; }
};
struct Product {
  template <class A> __device__ static A neutral() { return A(1); }
  template <class A> __device__ A operator()(A a, A b) const { return a * b; }
};
template <class A> __device__ A smallest() {
  if constexpr (std::is_integral_v<A>) return INT64_MIN;
  else return -static_cast<A>(INFINITY);
}
struct Max {
  template <class A> __device__ static A neutral() { return smallest<A>(); }
  template <class A> __device__ A operator()(A a, A b) const { return a > b || a != a ? a : b; }
};
struct Min {
  template <class A> __device__ static A neutral() {
    if constexpr (std::is_integral_v<A>) return INT64_MAX;
    else return static_cast<A>(INFINITY);
  }
  template <class A> __device__ A operator()(A a, A b) const { return a < b || a != a ? a : b; }
};
struct Any {
  template <class A> __device__ static A neutral() { return A(0); }
  template <class A> __device__ A operator()(A a, A b) const {
    return a != A(0) || b != A(0) ? A(1) : A(0);
  }
};
struct All {
  template <class A> __device__ static A neutral() { return A(1); }
  template <class A> __device__ A operator()(A a, A b) const {
    return a != A(0) && b != A(0) ? A(1) : A(0);
  }
};

struct Sizes {
  int64_t outer, n, inner, parts;
};

template <class Out, class A> __device__ __forceinline__ Out finish(A v, double factor) {
  if constexpr (std::is_same_v<A, int64_t>) return static_cast<Out>(v);
  else return down<Out>(v * static_cast<A>(factor));
}

// Rows: group (row, part). `partial` gets the sums when there are parts, else y the results.
template <class R, int G, int N, class T, class Out>
__global__ void __launch_bounds__(kThreads)
    reduce_rows(const T* x, Acc<T>* partial, Out* y, Sizes s, double factor) {
  using A = Acc<T>;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * (kThreads / G) + threadIdx.x / G;
  if (item >= s.outer * s.parts) return;
  const int64_t row = item / s.parts, part = item % s.parts, vectors = s.n / N;
  const int64_t first = part * vectors / s.parts, last = (part + 1) * vectors / s.parts;
  A sum[N];
#pragma unroll
  for (int k = 0; k < N; ++k) sum[k] = R::template neutral<A>();
#pragma unroll 4
  for (int64_t i = first + threadIdx.x % G; i < last; i += G) {
    A v[N];
    load<N>(x + row * s.n + i * N, v);
#pragma unroll
    for (int k = 0; k < N; ++k) sum[k] = R{}(sum[k], v[k]);
  }
#pragma unroll
  for (int k = 1; k < N; ++k) sum[0] = R{}(sum[0], sum[k]);
  const A all = group_reduce<G>(sum[0], R{});
  if (threadIdx.x % G != 0) return;
  if (s.parts > 1) partial[item] = all;
  else y[row] = finish<Out>(all, factor);
}

// Columns: 32 vectors of columns by 8 rows a block; blockIdx = (columns, part, outer).
template <class R, int N, class T, class Out>
__global__ void __launch_bounds__(kThreads)
    reduce_columns(const T* x, Acc<T>* partial, Out* y, Sizes s, double factor) {
  using A = Acc<T>;
  __shared__ A sums[8][32 * N + 1];
  const int tx = threadIdx.x % 32, ty = threadIdx.x / 32;
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * 32 + tx) * N, o = blockIdx.z;
  const int64_t first = blockIdx.y * s.n / s.parts, last = (blockIdx.y + 1) * s.n / s.parts;
  A sum[N];
#pragma unroll
  for (int k = 0; k < N; ++k) sum[k] = R::template neutral<A>();
  if (c < s.inner) {
#pragma unroll 4
    for (int64_t r = first + ty; r < last; r += 8) {
      A v[N];
      load<N>(x + (o * s.n + r) * s.inner + c, v);
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] = R{}(sum[k], v[k]);
    }
  }
#pragma unroll
  for (int k = 0; k < N; ++k) sums[ty][tx * N + k] = sum[k];
  __syncthreads();
  for (int i = threadIdx.x; i < 32 * N; i += kThreads) {
    const int64_t column = static_cast<int64_t>(blockIdx.x) * 32 * N + i;
    if (column >= s.inner) break;
    A all = sums[0][i];
    for (int k = 1; k < 8; ++k) all = R{}(all, sums[k][i]);
    if (s.parts > 1) partial[(o * s.parts + blockIdx.y) * s.inner + column] = all;
    else y[o * s.inner + column] = finish<Out>(all, factor);
  }
}

// partial [outer, parts, inner] -> y [outer, inner]; a warp a result when inner is 1, else 32
// columns by 32 parts a block.
template <class R, class A, class Out>
__global__ void __launch_bounds__(kThreads)
    join_rows(const A* partial, Out* y, Sizes s, double factor) {
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= s.outer) return;
  A all = R::template neutral<A>();
  for (int64_t k = threadIdx.x % 32; k < s.parts; k += 32)
    all = R{}(all, partial[row * s.parts + k]);
  all = group_reduce<32>(all, R{});
  if (threadIdx.x % 32 == 0) y[row] = finish<Out>(all, factor);
}
template <class R, class A, class Out>
__global__ void __launch_bounds__(1024)
    join_columns(const A* partial, Out* y, Sizes s, double factor) {
  __shared__ A sums[32][33];
  const int tx = threadIdx.x % 32, ty = threadIdx.x / 32;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * 32 + tx;
  A all = R::template neutral<A>();
  if (i < s.outer * s.inner) {
    const A* own = partial + i / s.inner * s.parts * s.inner + i % s.inner;
#pragma unroll 4
    for (int64_t k = ty; k < s.parts; k += 32) all = R{}(all, own[k * s.inner]);
  }
  sums[ty][tx] = all;
  __syncthreads();
  if (ty > 0 || i >= s.outer * s.inner) return;
  for (int k = 1; k < 32; ++k) all = R{}(all, sums[k][tx]);
  y[i] = finish<Out>(all, factor);
}

constexpr int64_t kBlocks = 132 * 4;  // that fill the largest GPU

// How many parts n is cut into, given the blocks there are without.
int64_t parts_of(int64_t blocks, int64_t most) {
  return std::clamp<int64_t>(kBlocks / std::max<int64_t>(1, blocks), 1, std::max<int64_t>(1, most));
}

template <class R, class T, class Out> class Reduction {
 public:
  Reduction(const AxisSplit& f, double factor) : s_{f.outer, f.size, f.inner, 1}, factor_(factor) {
    wide_ = is_float_ && vectors_fit(sizeof(T), s_.inner == 1 ? s_.n : s_.inner);
    if (s_.inner == 1) {
      warps_ = s_.n <= 1024 || (s_.n <= 8192 && s_.outer >= kBlocks * 8);
      if (!warps_) s_.parts = parts_of(s_.outer, s_.n / 8192);
    } else {
      s_.parts = parts_of(column_blocks() * s_.outer, s_.n / 64);
    }
  }
  size_t scratch() const {
    return s_.parts == 1 ? 0 : static_cast<size_t>(s_.outer * s_.parts * s_.inner) * sizeof(Acc<T>);
  }
  void run(const T* x, Out* y, void* scratch, cudaStream_t stream) const {
    auto* partial = static_cast<Acc<T>*>(scratch);
    if constexpr (is_float_) {
      if (wide_) launch<kVector<T>>(x, partial, y, stream);
      else launch<1>(x, partial, y, stream);
    } else {
      launch<1>(x, partial, y, stream);
    }
    TRI_CUDA_LAUNCHED();
    if (s_.parts == 1) return;
    if (s_.inner == 1)
      join_rows<R, Acc<T>, Out>
          <<<blocks_for(s_.outer * 32), kThreads, 0, stream>>>(partial, y, s_, factor_);
    else
      join_columns<R, Acc<T>, Out>
          <<<blocks_for(s_.outer * s_.inner, 32), 1024, 0, stream>>>(partial, y, s_, factor_);
    TRI_CUDA_LAUNCHED();
  }

 private:
  static constexpr bool is_float_ = !std::is_same_v<Acc<T>, int64_t>;

  int64_t column_blocks() const {
    const int64_t width = 32 * (wide_ ? kVector<T> : 1);
    return (s_.inner + width - 1) / width;
  }
  template <int N> void launch(const T* x, Acc<T>* partial, Out* y, cudaStream_t stream) const {
    if (s_.inner > 1) {
      // The grid's third dimension is short: rows of `outer` beyond it come in further launches.
      constexpr int64_t kMostOuter = 65535;
      for (int64_t o = 0; o < s_.outer; o += kMostOuter) {
        Sizes s = s_;
        s.outer = std::min(kMostOuter, s_.outer - o);
        reduce_columns<R, N, T, Out>
            <<<dim3(static_cast<unsigned>(column_blocks()), static_cast<unsigned>(s.parts),
                    static_cast<unsigned>(s.outer)),
               kThreads, 0, stream>>>(x + o * s.n * s.inner, partial + o * s.parts * s.inner,
                                      y + o * s.inner, s, factor_);
      }
    } else if (warps_) {
      reduce_rows<R, 32, N, T, Out><<<blocks_for(s_.outer, kThreads / 32), kThreads, 0, stream>>>(
          x, partial, y, s_, factor_);
    } else {
      reduce_rows<R, kThreads, N, T, Out>
          <<<blocks_for(s_.outer * s_.parts, 1), kThreads, 0, stream>>>(x, partial, y, s_, factor_);
    }
  }

  Sizes s_;
  double factor_;
  bool wide_ = false, warps_ = false;
};

template <class R, class T, class Out> Kernel kernel_of(const Prepare& p, double factor) {
  const ReduceForm form = reduce_form(p);
  const Reduction<R, T, Out> reduction(form.split, factor);
  if (form.split.outer * form.split.inner == 0) return nothing();
  const size_t partial = (reduction.scratch() + 255) / 256 * 256;
  Kernel copy;
  if (!form.direct())
    copy = cuda_copy_boxes({{form.dims, form.strides, dense_strides(form.dims)}}, sizeof(T));
  return {[=](const Launch& l) {
            const T* x = l.input<T>(0);
            if (copy) {
              void* moved = static_cast<char*>(l.scratch) + partial;
              copy.run(Launch{l.in, &moved, nullptr, l.stream});
              x = static_cast<const T*>(moved);
            }
            reduction.run(x, l.output<Out>(), l.scratch, stream_of(l));
          },
          partial + (copy ? p.in().bytes() : 0)};
}

template <class R> Kernel kernel_for(const Prepare& p, double factor) {
  return with_cuda_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    if constexpr (std::is_same_v<R, Sum> && std::is_integral_v<T>)
      return kernel_of<R, T, int64_t>(p, factor);
    else return kernel_of<R, T, T>(p, factor);
  });
}

}  // namespace
}  // namespace cuda

Kernel cuda_reduce(const Prepare& p) {
  const Op* op = p.node.op;
  if (op == &ops::mean_op) {
    const int64_t n = reduce_form(p).split.size;
    return cuda::with_cuda_floating(*op, p.in().dtype, [&]<class T>(Tag<T>) {
      return cuda::kernel_of<cuda::Sum, T, T>(p, 1.0 / static_cast<double>(n));
    });
  }
  if (op == &ops::any_op) return cuda::kernel_of<cuda::Any, uint8_t, uint8_t>(p, 1);
  if (op == &ops::all_op) return cuda::kernel_of<cuda::All, uint8_t, uint8_t>(p, 1);
  if (op == &ops::sum_op) return cuda::kernel_for<cuda::Sum>(p, 1);
  if (op == &ops::prod_op) return cuda::kernel_for<cuda::Product>(p, 1);
  return op == &ops::max_op ? cuda::kernel_for<cuda::Max>(p, 1) : cuda::kernel_for<cuda::Min>(p, 1);
}

}  // namespace trireme
