// Products of few rows with a constant matrix: a warp makes a column of the result. The first 2048
// elements of its row of weights are on their way before the kernel in front has ended.
#include "ops/cuda_common.cuh"
#include "ops/matmul_few_rows.h"

namespace trireme::cuda {
namespace {

constexpr int kMostRows = 16;
constexpr int kHeld = 8;  // vectors of weights in a thread's registers
constexpr int kWarps = kThreads / 32;

template <class T> __device__ __forceinline__ void unpack(const uint4& from, float (&to)[8]) {
  const unsigned words[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
  for (int i = 0; i < 8; ++i)
    to[i] = up(as<T>(static_cast<unsigned short>(words[i / 2] >> 16 * (i % 2))));
}

template <class T>
__device__ __forceinline__ float add_products(const uint4& a, const uint4& b, float sum) {
  float x[8], y[8];
  unpack<T>(a, x);
  unpack<T>(b, y);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = fmaf(x[i], y[i], sum);
  return sum;
}

template <class T, int kRows>
__global__ void __launch_bounds__(kThreads, 2)
    few_rows(FewRows p, const T* x, const T* __restrict__ weight, const T* __restrict__ bias,
             T* y) {
  // (x is not __restrict__: what is read of it must not move in front of the wait.)
  const int lane = threadIdx.x % 32, vectors = static_cast<int>(p.terms / 8);
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (column >= p.columns) return;
  const uint4* const from = reinterpret_cast<const uint4*>(weight + column * p.terms);
  uint4 held[kHeld];
  const auto fetch = [&](int first) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int v = first + i * 32 + lane;
      held[i] = v < vectors ? from[v] : uint4{};
    }
  };
  fetch(0);
  const float offset = bias != nullptr ? up(bias[column]) : 0.0f;
  wait_for_previous();

  float sums[kRows] = {};
  for (int first = 0; first < vectors; first += kHeld * 32) {
    if (first > 0) fetch(first);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= p.rows) break;
      const uint4* const row = reinterpret_cast<const uint4*>(x + r * p.ld);
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const int v = first + i * 32 + lane;
        if (v < vectors) sums[r] = add_products<T>(row[v], held[i], sums[r]);
      }
    }
  }
  let_next_begin();
  float mine = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float whole = group_reduce<32>(sums[r], Plus{});
    if (lane == r) mine = whole + offset;
  }
  if (p.relu) mine = mine < 0 ? 0 : mine;
  if (lane < p.rows) y[lane * p.columns + column] = down<T>(mine);
}

template <class T> void run(const FewRows& p, const FewRowsArgs& a, cudaStream_t stream) {
  const auto kernel = p.rows == 1   ? few_rows<T, 1>
                      : p.rows <= 4 ? few_rows<T, 4>
                                    : few_rows<T, kMostRows>;
  launch_next(kernel, dim3(blocks_for(p.columns, kWarps)), kThreads, stream, p,
              static_cast<const T*>(a.x), static_cast<const T*>(a.weight),
              static_cast<const T*>(a.bias), static_cast<T*>(a.y));
}

}  // namespace

bool FewRows::serves() const {
  const bool half = dtype == DType::kFloat16 || dtype == DType::kBFloat16;
  return half && rows >= 1 && rows <= kMostRows && columns >= 1 && terms >= 8 && terms % 8 == 0 &&
         terms <= (1 << 24) && (rows == 1 || ld % 8 == 0);
}

void run_few_rows(const FewRows& p, const FewRowsArgs& a, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  p.dtype == DType::kBFloat16 ? run<__nv_bfloat16>(p, a, s) : run<__half>(p, a, s);
}

}  // namespace trireme::cuda
