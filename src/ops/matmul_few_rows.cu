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

template <class T>
__global__ void __launch_bounds__(kThreads)
    few_rows(FewRows p, const T* x, const T* weight, const T* bias, T* y) {
  // (Nothing is __restrict__: such loads would be moved across the wait, either way.)
  const int lane = threadIdx.x % 32, vectors = static_cast<int>(p.terms / 8);
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (column >= p.columns) return;
  const uint4* const from = reinterpret_cast<const uint4*>(weight + column * p.terms);
  uint4 held[kHeld], of_row[kHeld];
  const auto fetch = [&](const uint4* row, int first, uint4(&to)[kHeld]) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int v = first + i * 32 + lane;
      to[i] = v < vectors ? row[v] : uint4{};
    }
  };
  fetch(from, 0, held);
  const float offset = bias != nullptr ? up(bias[column]) : 0.0f;
  wait_for_previous();

  float mine = 0;  // lane r has the sum of row r
  for (int first = 0; first < vectors; first += kHeld * 32) {
    if (first > 0) fetch(from, first, held);
#pragma unroll 1
    for (int r = 0; r < p.rows; ++r) {
      fetch(reinterpret_cast<const uint4*>(x + r * p.ld), first, of_row);
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kHeld; ++i) sum = add_products<T>(of_row[i], held[i], sum);
      sum = group_reduce<32>(sum, Plus{});
      if (lane == r) mine += sum;
    }
  }
  let_next_begin();
  mine += offset;
  if (p.relu) mine = mine < 0 ? 0 : mine;
  if (lane < p.rows) y[lane * p.columns + column] = down<T>(mine);
}

template <class T> void run(const FewRows& p, const FewRowsArgs& a, cudaStream_t stream) {
  launch_next(few_rows<T>, dim3(blocks_for(p.columns, kWarps)), kThreads, stream, p,
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
