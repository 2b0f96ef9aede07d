// Tiles of pixels and panels of weights, for the gemm_*_avx512.cpp files only (all in an unnamed
// namespace): up to 14 pixels by 1..3 vectors.
#pragma once

#include "device/cpu/f32_kernels.h"
#include "device/cpu/f32_math_avx512.h"
#include "device/cpu/immintrin_quiet.h"

namespace trireme::cpu::f32 {
namespace {

// One tile: kRows pixels in two groups, each with evenly spaced pixels (so that a tile may lie on
// two picture rows). Group 0 has (kRows + 1) / 2 pixels.
struct Tile {
  const float* a[2];
  float* y[2];
  const float* r[2];
  const char* ahead;  // to fetch meanwhile, or null
};

struct Panel {
  const float* w;
  const float* bias;
  __mmask16 last_mask;  // of the panel's last vector
  int64_t column;
  int64_t tap_begin, tap_end, c_begin, c_end;
  bool first, last;  // K block: start from the bias; apply the epilogue
  // To fetch meanwhile: the panel after this one, or what the run asks for.
  GemmRun::Ahead *next, *next_end;
};

constexpr int kMaxRows[4] = {0, 14, 14, 9};
constexpr int64_t kLargeWeights = 192 * 1024;  // floats that do not stay in L2 beside the input
constexpr int kAheadBytes = 128;               // fetched every four steps of K

template <int kRows, int kVectors> struct Accumulators { __m512 v[kRows][kVectors]; };

template <int kRows> TRI_INLINE constexpr int group_of(int m) { return m >= (kRows + 1) / 2; }
template <int kRows> TRI_INLINE constexpr int index_of(int m) {
  return group_of<kRows>(m) ? m - (kRows + 1) / 2 : m;
}

template <int kVectors> TRI_INLINE __mmask16 mask_of(int v, const Panel& panel) {
  return v == kVectors - 1 ? panel.last_mask : static_cast<__mmask16>(0xffff);
}

// The inner loop is spelled out in assembly where the compiler does worse: it gives every row an
// address register of its own and spills them, and rotates accumulators through other registers.
// Pixel kIndex of a group, at base + kIndex * stride + kOffset bytes: two bases and three multiples
// of the stride (s1, s3, s5) reach all fourteen.
template <int kIndex, int kOffset>
TRI_INLINE __m512 broadcast(const char* base, int64_t s1, int64_t s3, int64_t s5) {
  __m512 x;
#define TRI_BROADCAST(address, stride) \
  asm("vbroadcastss %c1" address ", %0" : "=v"(x) : "i"(kOffset), "r"(base), "r"(stride))
  if constexpr (kIndex == 0) TRI_BROADCAST("(%2)", s1);
  if constexpr (kIndex == 1) TRI_BROADCAST("(%2,%3)", s1);
  if constexpr (kIndex == 2) TRI_BROADCAST("(%2,%3,2)", s1);
  if constexpr (kIndex == 3) TRI_BROADCAST("(%2,%3)", s3);
  if constexpr (kIndex == 4) TRI_BROADCAST("(%2,%3,4)", s1);
  if constexpr (kIndex == 5) TRI_BROADCAST("(%2,%3)", s5);
  if constexpr (kIndex == 6) TRI_BROADCAST("(%2,%3,2)", s3);
#undef TRI_BROADCAST
  return x;
}

// Step kStep of K from pixel kRow on: kVectors weights, a broadcast for every pixel. kHalf: of 32
// float16 each; a pixel's element is the same float16 twice.
template <bool kHalf, int kRow, int kStep, int kRows, int kVectors>
TRI_INLINE void step_rows(Accumulators<kRows, kVectors>& acc, const char* a0, const char* a1,
                          int64_t s1, int64_t s3, int64_t s5, const __m512 (&b)[kVectors]) {
  if constexpr (kRow < kRows) {
    const char* base = group_of<kRows>(kRow) ? a1 : a0;
    const __m512 x = broadcast<index_of<kRows>(kRow), 4 * kStep>(base, s1, s3, s5);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kHalf) asm("vfmadd231ph %2, %1, %0" : "+v"(acc.v[kRow][v]) : "v"(x), "v"(b[v]));
      else asm("vfmadd231ps %2, %1, %0" : "+v"(acc.v[kRow][v]) : "v"(x), "v"(b[v]));
    }
    step_rows<kHalf, kRow + 1, kStep>(acc, a0, a1, s1, s3, s5, b);
  }
}

template <bool kHalf, int kStep, int kRows, int kVectors>
TRI_INLINE void step(Accumulators<kRows, kVectors>& acc, const char* a0, const char* a1, int64_t s1,
                     int64_t s3, int64_t s5, const float* w) {
  __m512 b[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) b[v] = _mm512_loadu_ps(w + (kStep * kVectors + v) * kLanes);
  step_rows<kHalf, 0, kStep>(acc, a0, a1, s1, s3, s5, b);
}

template <bool kHalf, int kRows, int kVectors>
TRI_INLINE void accumulate(Accumulators<kRows, kVectors>& acc, const GemmRun& run, const Tile& tile,
                           const Panel& panel) {
  constexpr int kStep = kVectors * kLanes;
  asm volatile("" : : : "memory");  // broadcast() reads what the compiler does not see
  const int64_t s1 = run.a_pixel * 4, s3 = 3 * s1, s5 = 5 * s1;
  const int64_t count = panel.c_end - panel.c_begin;
  const float* w = panel.w + (panel.tap_begin * run.ic + panel.c_begin) * kStep;
  const char* ahead = tile.ahead ? tile.ahead : reinterpret_cast<const char*>(w + 16 * kStep);
  const int64_t ahead_step = tile.ahead ? kAheadBytes : 16 * kStep;
  for (int64_t t = panel.tap_begin; t < panel.tap_end; ++t) {
    const int64_t shift = run.tap[t] + panel.c_begin;
    const char* a0 = reinterpret_cast<const char*>(tile.a[0] + shift);
    const char* a1 = reinterpret_cast<const char*>(tile.a[1] + shift);
    int64_t k = count;
    for (; k >= 4; k -= 4) {
      _mm_prefetch(ahead, _MM_HINT_T1);
      _mm_prefetch(ahead + 64, _MM_HINT_T1);
      ahead += ahead_step;
      step<kHalf, 0>(acc, a0, a1, s1, s3, s5, w);
      step<kHalf, 1>(acc, a0, a1, s1, s3, s5, w);
      step<kHalf, 2>(acc, a0, a1, s1, s3, s5, w);
      step<kHalf, 3>(acc, a0, a1, s1, s3, s5, w);
      a0 += 16, a1 += 16, w += 4 * kStep;
    }
    for (; k > 0; --k) {
      step<kHalf, 0>(acc, a0, a1, s1, s3, s5, w);
      a0 += 4, a1 += 4, w += kStep;
    }
  }
}

template <int kRows, int kVectors>
TRI_INLINE float* row_y(const GemmRun& run, const Tile& tile, int m) {
  return tile.y[group_of<kRows>(m)] + index_of<kRows>(m) * run.ldy;
}

template <int kRows, int kVectors>
TRI_INLINE void add_residual(Accumulators<kRows, kVectors>& acc, const GemmRun& run,
                             const Tile& tile, const Panel& panel) {
#pragma GCC unroll 14
  for (int m = 0; m < kRows; ++m) {
    const float* r = tile.r[group_of<kRows>(m)] + index_of<kRows>(m) * run.ldr;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      acc.v[m][v] = _mm512_add_ps(
          acc.v[m][v], _mm512_maskz_loadu_ps(mask_of<kVectors>(v, panel), r + v * kLanes));
    }
  }
}

template <int kRows, int kVectors>
TRI_INLINE void store(const Accumulators<kRows, kVectors>& acc, const GemmRun& run,
                      const Tile& tile, const Panel& panel) {
#pragma GCC unroll 14
  for (int m = 0; m < kRows; ++m) {
    float* y = row_y<kRows, kVectors>(run, tile, m);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      _mm512_mask_storeu_ps(y + v * kLanes, mask_of<kVectors>(v, panel), acc.v[m][v]);
    }
  }
}

template <int kRows, int kVectors, class F>
TRI_INLINE void for_all(Accumulators<kRows, kVectors>& acc, F&& f) {
#pragma GCC unroll 14
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc.v[m][v] = f(acc.v[m][v]);
  }
}

template <int kRows, int kVectors>
TRI_INLINE void activate_long(Accumulators<kRows, kVectors>& acc, const Epilogue& e) {
  alignas(64) float buffer[kRows * kVectors * kLanes];
#pragma GCC unroll 14
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      _mm512_store_ps(buffer + (m * kVectors + v) * kLanes, acc.v[m][v]);
    }
  }
  activate_buffer(buffer, kRows * kVectors, e);
#pragma GCC unroll 14
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      acc.v[m][v] = _mm512_load_ps(buffer + (m * kVectors + v) * kLanes);
    }
  }
}

void __attribute__((noinline)) slope_buffer(float* buffer, int vectors) {
  for (int i = 0; i < 16 * vectors; i += 16)
    _mm512_store_ps(buffer + i, gelu_slope_ps(_mm512_load_ps(buffer + i)));
}

// Times gelu's derivative at the residual.
template <int kRows, int kVectors>
TRI_INLINE void multiply_slope(Accumulators<kRows, kVectors>& acc, const GemmRun& run,
                               const Tile& tile, const Panel& panel) {
  alignas(64) float buffer[kRows * kVectors * kLanes];
#pragma GCC unroll 14
  for (int m = 0; m < kRows; ++m) {
    const float* r = tile.r[group_of<kRows>(m)] + index_of<kRows>(m) * run.ldr;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      _mm512_store_ps(buffer + (m * kVectors + v) * kLanes,
                      _mm512_maskz_loadu_ps(mask_of<kVectors>(v, panel), r + v * kLanes));
  }
  slope_buffer(buffer, kRows * kVectors);
#pragma GCC unroll 14
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      acc.v[m][v] =
          _mm512_mul_ps(acc.v[m][v], _mm512_load_ps(buffer + (m * kVectors + v) * kLanes));
  }
}

template <int kRows, int kVectors>
TRI_INLINE void finish(Accumulators<kRows, kVectors>& acc, const GemmRun& run, const Tile& tile,
                       const Panel& panel) {
  const Epilogue& e = *run.epilogue;
  if (e.residual == Epilogue::kGeluGrad) return multiply_slope(acc, run, tile, panel);
  if (e.residual == Epilogue::kBeforeAct) add_residual(acc, run, tile, panel);
  if (e.act == Act::kHardSwish) {
    const HardSwish f(e.scale, e.shift);
    for_all(acc, [&](__m512 v) { return f(v); });
  } else {
    if (e.act == Act::kRelu) for_all(acc, [&](__m512 v) { return apply_act<Act::kRelu>(v, e); });
    else if (e.act != Act::kNone) activate_long(acc, e);
    if (e.scale != 1 || e.shift != 0) {
      const __m512 scale = set1(e.scale), shift = set1(e.shift);
      for_all(acc, [&](__m512 v) { return _mm512_fmadd_ps(v, scale, shift); });
    }
  }
  if (e.residual == Epilogue::kAfter) add_residual(acc, run, tile, panel);
}

using Multiply = void (*)(const GemmRun&, const Tile&, const Panel&);

TRI_INLINE Tile tile_at(const GemmRun& run, Panel& panel, int64_t row, int64_t i, int rows,
                        bool two_rows) {
  Tile tile;
  while (panel.next < panel.next_end && panel.next->at >= panel.next->end) ++panel.next;
  tile.ahead = nullptr;
  if (panel.next < panel.next_end) {
    tile.ahead = panel.next->at;
    panel.next->at +=
        (panel.tap_end - panel.tap_begin) * ((panel.c_end - panel.c_begin) / 4) * kAheadBytes;
  }
  for (int g = 0; g < 2; ++g) {
    const int64_t r = two_rows ? row + g : row;
    const int64_t x = two_rows || g == 0 ? i : i + (rows + 1) / 2;
    tile.a[g] = run.a + r * run.a_row + x * run.a_pixel;
    tile.y[g] = run.y + r * run.y_row + x * run.ldy + panel.column;
    tile.r[g] = run.residual ? run.residual + r * run.r_row + x * run.ldr + panel.column : nullptr;
  }
  return tile;
}

// How n pixels are cut into tiles: as equal as can be, the larger ones first, of at most `most`.
// One of two pixels, left over, would have too few sums to hide the latency of an addition.
class TileSizes {
 public:
  TileSizes(int64_t n, int most)
      : count_((static_cast<int>(n) + most - 1) / most),
        small_(count_ > 0 ? static_cast<int>(n) / count_ : 0),
        large_(static_cast<int>(n) - count_ * small_) {}
  int count() const { return count_; }
  int at(int k) const { return small_ + (k < large_); }

 private:
  int count_, small_, large_;  // large_: how many have a pixel more
};

// Panels that pass over the pixels together.
struct Panels {
  Panel* first;
  int64_t count;
  int vectors;  // of each
};

TRI_INLINE void multiply_tile(const GemmRun& run, const Panels& panels, Multiply f, int64_t row,
                              int64_t i, int rows, bool two_rows, const float* a) {
  for (int64_t p = 0; p < panels.count; ++p) {
    Tile tile = tile_at(run, panels.first[p], row, i, rows, two_rows);
    if (a) tile.a[0] = a;
    f(run, tile, panels.first[p]);
  }
}

// All pixels of a run, by kernels[vectors][rows].
TRI_INLINE void sweep_rows(const GemmRun& run, const Panels& panels,
                           const Multiply (&kernels)[4][15]) {
  const int most = kMaxRows[panels.vectors];
  int64_t row = 0;
  if (run.width <= most / 2) {
    const int m = static_cast<int>(2 * run.width);
    const Multiply f = kernels[panels.vectors][m];
    for (; row + 2 <= run.rows; row += 2) multiply_tile(run, panels, f, row, 0, m, true, nullptr);
  }
  const TileSizes sizes(run.width, most);
  for (; row < run.rows; ++row) {
    int64_t i = 0;
    for (int k = 0; k < sizes.count(); ++k) {
      const int m = sizes.at(k);
      multiply_tile(run, panels, kernels[panels.vectors][m], row, i, m, false, nullptr);
      i += m;
    }
  }
}

}  // namespace
}  // namespace trireme::cpu::f32
