// What the operators' GPU kernels share: number types, 16-byte accesses, sums over warps and
// blocks.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "device/cuda/check.h"
#include "device/cuda/launch.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"

namespace trireme::cuda {

constexpr int kThreads = 256;

// ---- numbers

// The type that sums are taken in: float for the halves, 64 bits for integers.
template <class T> struct AccOf { using type = int64_t; };
template <> struct AccOf<__half> { using type = float; };
template <> struct AccOf<__nv_bfloat16> { using type = float; };
template <> struct AccOf<float> { using type = float; };
template <> struct AccOf<double> { using type = double; };
template <class T> using Acc = typename AccOf<T>::type;

template <class T> __device__ __forceinline__ Acc<T> up(T v) {
  if constexpr (std::is_same_v<T, __half>) return __half2float(v);
  else if constexpr (std::is_same_v<T, __nv_bfloat16>) return __bfloat162float(v);
  else return static_cast<Acc<T>>(v);
}
template <class T> __device__ __forceinline__ T down(Acc<T> v) {
  if constexpr (std::is_same_v<T, __half>) return __float2half_rn(v);
  else if constexpr (std::is_same_v<T, __nv_bfloat16>) return __float2bfloat16_rn(v);
  else return static_cast<T>(v);
}

__device__ __forceinline__ float exp_of(float v) { return expf(v); }
__device__ __forceinline__ double exp_of(double v) { return exp(v); }
__device__ __forceinline__ float log_of(float v) { return logf(v); }
__device__ __forceinline__ double log_of(double v) { return log(v); }
template <class A> __device__ __forceinline__ A inverse_root(A v) { return A(1) / sqrt(v); }
template <class A> __device__ __forceinline__ A lowest() {
  return std::is_same_v<A, double> ? A(-1.7976931348623157e308) : A(-3.402823466e38f);
}

template <class F> auto with_cuda_floating(const Op& op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32: return f(Tag<float>{});
    case DType::kBFloat16: return f(Tag<__nv_bfloat16>{});
    case DType::kFloat16: return f(Tag<__half>{});
    case DType::kFloat64: return f(Tag<double>{});
    default: fail(Code::kUnimplemented, message(op.name, "has no CUDA kernel for ", dtype));
  }
}
template <class F> auto with_cuda_number(const Op& op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::kBool:
    case DType::kUInt8: return f(Tag<uint8_t>{});
    case DType::kInt8: return f(Tag<int8_t>{});
    case DType::kInt16: return f(Tag<int16_t>{});
    case DType::kInt32: return f(Tag<int32_t>{});
    case DType::kInt64: return f(Tag<int64_t>{});
    default: return with_cuda_floating(op, dtype, f);
  }
}

// ---- memory

// Elements of T in 16 bytes.
template <class T> constexpr int kVector = 16 / static_cast<int>(sizeof(T));

// The same bits as another type (nvcc 13.0 fails on __builtin_bit_cast of halves).
template <class To, class From> __device__ __forceinline__ To as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

// N elements at once: one access of 16 or 8 bytes (a struct of halves would be read in pieces), or
// one element.
template <int N, class T> __device__ __forceinline__ void load(const T* p, Acc<T> (&v)[N]) {
  if constexpr (N == 1) {
    v[0] = up(*p);
  } else {
    unsigned w[N * sizeof(T) / 4];
    if constexpr (N * sizeof(T) == 8) {
      const uint2 u = *reinterpret_cast<const uint2*>(p);
      w[0] = u.x, w[1] = u.y;
    } else {
      const uint4 u = *reinterpret_cast<const uint4*>(p);
      w[0] = u.x, w[1] = u.y, w[2] = u.z, w[3] = u.w;
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if constexpr (sizeof(T) == 4) {
        v[i] = up(as<T>(w[i]));
      } else if constexpr (sizeof(T) == 8) {
        v[i] = up(as<T>(w[2 * i] | static_cast<unsigned long long>(w[2 * i + 1]) << 32));
      } else {
        v[i] = up(as<T>(static_cast<unsigned short>(w[i / 2] >> 16 * (i % 2))));
      }
    }
  }
}
template <int N, class T> __device__ __forceinline__ void store(T* p, const Acc<T> (&v)[N]) {
  if constexpr (N == 1) {
    *p = down<T>(v[0]);
  } else {
    constexpr int kWords = N * static_cast<int>(sizeof(T)) / 4;
    unsigned w[kWords];
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(T) == 4) {
        w[i] = as<unsigned>(down<T>(v[i]));
      } else if constexpr (sizeof(T) == 8) {
        const auto bits = as<unsigned long long>(down<T>(v[i / 2]));
        w[i] = static_cast<unsigned>(i % 2 ? bits >> 32 : bits);
      } else {
        w[i] = as<unsigned short>(down<T>(v[2 * i])) |
               static_cast<unsigned>(as<unsigned short>(down<T>(v[2 * i + 1]))) << 16;
      }
    }
    if constexpr (kWords == 2) *reinterpret_cast<uint2*>(p) = make_uint2(w[0], w[1]);
    else *reinterpret_cast<uint4*>(p) = make_uint4(w[0], w[1], w[2], w[3]);
  }
}

// A small floating input (scale, bias, mean) of any dtype, read element by element.
struct Small {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;

  template <class A> __device__ __forceinline__ A at(int64_t i, A otherwise) const {
    if (data == nullptr) return otherwise;
    switch (dtype) {
      case DType::kFloat16: return static_cast<A>(up(static_cast<const __half*>(data)[i]));
      case DType::kBFloat16: return static_cast<A>(up(static_cast<const __nv_bfloat16*>(data)[i]));
      case DType::kFloat64: return static_cast<A>(static_cast<const double*>(data)[i]);
      default: return static_cast<A>(static_cast<const float*>(data)[i]);
    }
  }
};
// Of input i; absent ones give `otherwise` above.
class SmallInput {
 public:
  SmallInput(const Prepare& p, size_t i)
      : i_(i), present_(p.has(i)), dtype_(present_ ? p.in(i).dtype : DType::kFloat32) {}
  Small get(const Launch& l) const { return {present_ ? l.in[i_] : nullptr, dtype_}; }

 private:
  size_t i_;
  bool present_;
  DType dtype_;
};

// Indices of either width.
struct Index {
  const void* data;
  bool wide;
  __device__ __forceinline__ int64_t operator[](int64_t i) const {
    return wide ? static_cast<const int64_t*>(data)[i] : static_cast<const int32_t*>(data)[i];
  }
};

// ---- launches

inline cudaStream_t stream_of(const Launch& l) { return static_cast<cudaStream_t>(l.stream); }

// Blocks for n items of `per_block`, where each thread makes one of them.
inline unsigned blocks_for(int64_t n, int64_t per_block = kThreads) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  if (blocks > 0x7fffffff) fail(Code::kInvalidArgument, "[cuda] too many elements for one kernel");
  return static_cast<unsigned>(std::max<int64_t>(1, blocks));
}
// Blocks of a kernel whose threads walk on: enough to fill the largest GPU some times over.
inline unsigned walking_blocks(int64_t n, int64_t per_block = kThreads) {
  return static_cast<unsigned>(std::clamp<int64_t>((n + per_block - 1) / per_block, 1, 132 * 16));
}
// ---- a chain of kernels, each of which needs what the one before it wrote

// A kernel that is launched by launch_next() calls this before it touches memory.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// All blocks of a kernel have called this or ended: the next one's blocks may come to the SMs,
// where they wait.
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
struct LaunchShape {
  dim3 blocks;
  unsigned threads = kThreads;
  size_t shared = 0;         // bytes of dynamic shared memory
  dim3 cluster = {1, 1, 1};  // more than one block: from compute capability 9.0 on
};
// Launches a kernel that hides its launch behind the end of the one before it (from compute
// capability 9.0 on).
template <class... P, class... Args>
void launch_next(void (*kernel)(P...), const LaunchShape& shape, cudaStream_t stream,
                 Args... args) {
  cudaLaunchAttribute attributes[2]{};
  unsigned count = 0;
  if (launches_overlap()) attributes[count++] = overlap_attribute();
  if (shape.cluster.x * shape.cluster.y * shape.cluster.z > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {shape.cluster.x, shape.cluster.y, shape.cluster.z};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.blocks;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  TRI_CUDA_CALL(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...));
}
template <class... P, class... Args>
void launch_next(void (*kernel)(P...), dim3 blocks, unsigned threads, cudaStream_t stream,
                 Args... args) {
  launch_next(kernel, LaunchShape{.blocks = blocks, .threads = threads}, stream, args...);
}

inline Kernel nothing() {
  return {[](const Launch&) {}};
}
inline bool vectors_fit(size_t element, int64_t run) {
  return run > 0 && static_cast<size_t>(run) * element % 16 == 0;
}

// ---- reductions within a group of G threads (1, a warp, or the whole block), in a fixed order

struct Plus {
  template <class A> __device__ A operator()(A a, A b) const { return a + b; }
};
struct Larger {
  template <class A> __device__ A operator()(A a, A b) const { return a > b || a != a ? a : b; }
};

// Every thread gets the result. A block must be whole: all its threads come here.
template <int G, class A, class F> __device__ __forceinline__ A group_reduce(A v, F join) {
  if constexpr (G > 1) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v = join(v, __shfl_xor_sync(~0u, v, o));
  }
  if constexpr (G > 32) {
    __shared__ A parts[32];
    const int warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[warp] = v;
    __syncthreads();
    v = parts[0];
    for (int w = 1; w < warps; ++w) v = join(v, parts[w]);
  }
  return v;
}

// ---- lines: elements `stride` apart, worked on by groups of G threads

struct Lines {
  int64_t count, size, inner;  // line r begins at r / inner * size * inner + r % inner

  __device__ __forceinline__ int64_t begin(int64_t r) const {
    return inner == 1 ? r * size : r / inner * size * inner + r % inner;
  }
};

// f(first element, N) for the pieces of a line that this thread has; with N > 1 the line is dense.
template <int G, int N, class F> __device__ __forceinline__ void for_pieces(int64_t size, F f) {
  for (int64_t i = static_cast<int64_t>(threadIdx.x % G) * N; i < size; i += G * N) f(i);
}

// launch(Tag<int, G>, Tag<int, N>): how many threads a line gets, and how wide it is read.
template <int V> using Width = std::integral_constant<int, V>;
template <class T, class F> void choose_lines(const Lines& lines, F f) {
  const bool wide = lines.inner == 1 && vectors_fit(sizeof(T), lines.size);
  constexpr int kN = kVector<T>;
  if (lines.inner > 1) return f(Width<1>{}, Width<1>{});
  if (lines.size <= 1024 || (lines.size <= 4096 && lines.count > 4096))
    return wide ? f(Width<32>{}, Width<kN>{}) : f(Width<32>{}, Width<1>{});
  return wide ? f(Width<kThreads>{}, Width<kN>{}) : f(Width<kThreads>{}, Width<1>{});
}

}  // namespace trireme::cuda
