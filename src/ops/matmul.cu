// Kernels around cuBLASLt's products: a plain one for what it does not have, copies that line rows
// up, casts.
#include "ops/cuda_common.cuh"
#include "ops/matmul.h"
#include "ops/matmul_cuda.h"

namespace trireme::cuda {
namespace {

using Act = ProductSpec::Act;

template <class A> __device__ __forceinline__ A activated(A v, Act act) {
  if (act == Act::kRelu) return v > A(0) ? v : v != v ? v : A(0);
  if (act == Act::kGeluTanh) {
    if constexpr (!std::is_same_v<A, int64_t>)
      return A(0.5) * v * (A(1) + tanh(A(0.79788456080286536) * (v + A(0.044715) * v * v * v)));
  }
  return v;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    plain_product(PlainProduct p, const T* a, const T* b, const T* bias, const T* residual, T* c,
                  int64_t count) {
  const cpu::BatchMatmulSpec& s = p.spec;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const int64_t column = i % s.n, row = i / s.n % s.m, inner = i / s.n / s.m % s.inner,
                  outer = i / s.n / s.m / s.inner;
    const int64_t at = outer * s.c.outer + inner * s.c.inner + row * s.c.row + column * s.c.column;
    Acc<T> sum = p.sums ? Acc<T>(0) : up(c[at]);
    if (p.sums) {
      const T* x = a + outer * s.a.outer + inner * s.a.inner + row * s.a.row;
      const T* y = b + outer * s.b.outer + inner * s.b.inner + column * s.b.column;
      for (int64_t k = 0; k < s.k; ++k) sum += up(x[k * s.a.column]) * up(y[k * s.b.row]);
    }
    if (bias != nullptr) sum += up(bias[column]);
    if (residual != nullptr) sum += up(residual[at]);
    c[at] = down<T>(activated(sum, p.act));
  }
}

// Eight elements a thread: 16 bytes on the side whose rows are lined up, words W on the other.
template <class W> union Eight {
  uint4 whole;
  W words[16 / sizeof(W)];
  uint16_t elements[8];
};

template <class W>
__global__ void __launch_bounds__(kThreads)
    line_up_rows(const uint16_t* from, int64_t from_ld, RowBox box, uint16_t* to, int64_t to_ld,
                 int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t pieces = to_ld / 8, r = i / pieces, c = i % pieces * 8;
  const uint16_t* x = from + r * from_ld + c;
  Eight<W> v;
  v.whole = make_uint4(0, 0, 0, 0);
  if (r < box.rows && c + 8 <= box.columns) {
#pragma unroll
    for (int k = 0; k < 16 / static_cast<int>(sizeof(W)); ++k)
      v.words[k] = reinterpret_cast<const W*>(x)[k];
  } else if (r < box.rows) {
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (c + k < box.columns) v.elements[k] = x[k];
  }
  *reinterpret_cast<uint4*>(to + r * to_ld + c) = v.whole;
}

template <class W>
__global__ void __launch_bounds__(kThreads)
    set_back_rows(const uint16_t* from, int64_t from_ld, RowBox box, uint16_t* to, int64_t to_ld,
                  int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t pieces = (box.columns + 7) / 8, r = i / pieces, c = i % pieces * 8;
  uint16_t* y = to + r * to_ld + c;
  Eight<W> v;
  v.whole = *reinterpret_cast<const uint4*>(from + r * from_ld + c);
  if (c + 8 <= box.columns) {
#pragma unroll
    for (int k = 0; k < 16 / static_cast<int>(sizeof(W)); ++k)
      reinterpret_cast<W*>(y)[k] = v.words[k];
  } else {
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (c + k < box.columns) y[k] = v.elements[k];
  }
}

template <class From, class To>
__global__ void __launch_bounds__(kThreads) cast_numbers(const From* from, To* to, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) to[i] = down<To>(static_cast<Acc<To>>(up(from[i])));
}

}  // namespace

void run_plain_product(const PlainProduct& p, const ProductArgs& args, void* stream) {
  const int64_t count = p.spec.outer * p.spec.inner * p.spec.m * p.spec.n;
  if (count == 0) return;
  with_cuda_number(ops::matmul_op, p.spec.dtype, [&]<class T>(Tag<T>) {
    const auto of = [](const void* v) { return static_cast<const T*>(v); };
    plain_product<T><<<walking_blocks(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        p, of(args.a), of(args.b), of(args.bias), of(args.residual), static_cast<T*>(args.c),
        count);
    TRI_CUDA_LAUNCHED();
  });
}

void run_line_up_rows(const void* from, int64_t from_ld, RowBox box, void* to, int64_t to_ld,
                      int64_t to_rows, void* stream) {
  const int64_t count = to_rows * (to_ld / 8);
  const auto run = [&](auto kernel) {
    kernel<<<blocks_for(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        static_cast<const uint16_t*>(from), from_ld, box, static_cast<uint16_t*>(to), to_ld, count);
    TRI_CUDA_LAUNCHED();
  };
  from_ld % 8 == 0   ? run(line_up_rows<uint4>)
  : from_ld % 2 == 0 ? run(line_up_rows<uint32_t>)
                     : run(line_up_rows<uint16_t>);
}

void run_set_back_rows(const void* from, int64_t from_ld, RowBox box, void* to, int64_t to_ld,
                       void* stream) {
  const int64_t count = box.rows * ((box.columns + 7) / 8);
  const auto run = [&](auto kernel) {
    kernel<<<blocks_for(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
        static_cast<const uint16_t*>(from), from_ld, box, static_cast<uint16_t*>(to), to_ld, count);
    TRI_CUDA_LAUNCHED();
  };
  to_ld % 8 == 0   ? run(set_back_rows<uint4>)
  : to_ld % 2 == 0 ? run(set_back_rows<uint32_t>)
                   : run(set_back_rows<uint16_t>);
}

void run_cast(const void* from, DType from_type, void* to, DType to_type, int64_t n, void* stream) {
  with_cuda_floating(ops::matmul_op, from_type, [&]<class From>(Tag<From>) {
    with_cuda_floating(ops::matmul_op, to_type, [&]<class To>(Tag<To>) {
      cast_numbers<<<blocks_for(n), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
          static_cast<const From*>(from), static_cast<To*>(to), n);
      TRI_CUDA_LAUNCHED();
    });
  });
}

}  // namespace trireme::cuda
