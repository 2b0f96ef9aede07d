// Matrix products of channels-last pixels for AVX-512: up to 14 pixels by 1..3 vectors a tile.
#include <utility>

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
constexpr int kAheadBytes = 128;               // fetched every four steps of K
constexpr int64_t kLargeWeights = 192 * 1024;  // floats that do not stay in L2 beside the input

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

// Step kStep of K from pixel kRow on: kVectors weights, a broadcast for every pixel.
template <int kRow, int kStep, int kRows, int kVectors>
TRI_INLINE void step_rows(Accumulators<kRows, kVectors>& acc, const char* a0, const char* a1,
                          int64_t s1, int64_t s3, int64_t s5, const __m512 (&b)[kVectors]) {
  if constexpr (kRow < kRows) {
    const char* base = group_of<kRows>(kRow) ? a1 : a0;
    const __m512 x = broadcast<index_of<kRows>(kRow), 4 * kStep>(base, s1, s3, s5);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      asm("vfmadd231ps %2, %1, %0" : "+v"(acc.v[kRow][v]) : "v"(x), "v"(b[v]));
    }
    step_rows<kRow + 1, kStep>(acc, a0, a1, s1, s3, s5, b);
  }
}

template <int kStep, int kRows, int kVectors>
TRI_INLINE void step(Accumulators<kRows, kVectors>& acc, const char* a0, const char* a1, int64_t s1,
                     int64_t s3, int64_t s5, const float* w) {
  __m512 b[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) b[v] = _mm512_loadu_ps(w + (kStep * kVectors + v) * kLanes);
  step_rows<0, kStep>(acc, a0, a1, s1, s3, s5, b);
}

template <int kRows, int kVectors>
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
      step<0>(acc, a0, a1, s1, s3, s5, w);
      step<1>(acc, a0, a1, s1, s3, s5, w);
      step<2>(acc, a0, a1, s1, s3, s5, w);
      step<3>(acc, a0, a1, s1, s3, s5, w);
      a0 += 16, a1 += 16, w += 4 * kStep;
    }
    for (; k > 0; --k) {
      step<0>(acc, a0, a1, s1, s3, s5, w);
      a0 += 4, a1 += 4, w += kStep;
    }
  }
}

// A step of K of a tile whose pixels lie side by side.
template <int kRow, int kRows, int kVectors>
TRI_INLINE void step_tile(Accumulators<kRows, kVectors>& acc, const char* a,
                          const __m512 (&b)[kVectors]) {
  if constexpr (kRow < kRows) {
    const __m512 x = broadcast<0, 4 * kRow>(a, 0, 0, 0);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      asm("vfmadd231ps %2, %1, %0" : "+v"(acc.v[kRow][v]) : "v"(x), "v"(b[v]));
    step_tile<kRow + 1>(acc, a, b);
  }
}

template <int kStep, int kRows, int kVectors>
TRI_INLINE void step_tile(Accumulators<kRows, kVectors>& acc, const char*& a, int64_t a_step,
                          const float* w) {
  __m512 b[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) b[v] = _mm512_loadu_ps(w + (kStep * kVectors + v) * kLanes);
  step_tile<0>(acc, a, b);
  a += a_step;
}

template <int kRows, int kVectors>
TRI_INLINE void accumulate_tile(Accumulators<kRows, kVectors>& acc, const GemmRun& run,
                                const Tile& tile, const Panel& panel) {
  constexpr int kStep = kVectors * kLanes;
  asm volatile("" : : : "memory");
  const float* w = panel.w + panel.c_begin * kStep;
  const int64_t a_step = run.a_step * 4;
  const char* a = reinterpret_cast<const char*>(tile.a[0]) + panel.c_begin * a_step;
  const char* ahead = tile.ahead ? tile.ahead : reinterpret_cast<const char*>(w + 16 * kStep);
  const int64_t ahead_step = tile.ahead ? kAheadBytes : 16 * kStep;
  int64_t k = panel.c_end - panel.c_begin;
  for (; k >= 4; k -= 4) {
    _mm_prefetch(ahead, _MM_HINT_T1);
    _mm_prefetch(ahead + 64, _MM_HINT_T1);
    ahead += ahead_step;
    step_tile<0>(acc, a, a_step, w);
    step_tile<1>(acc, a, a_step, w);
    step_tile<2>(acc, a, a_step, w);
    step_tile<3>(acc, a, a_step, w);
    w += 4 * kStep;
  }
  for (; k > 0; --k, w += kStep) step_tile<0>(acc, a, a_step, w);
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

// The bias, or what the K blocks before this one left in y.
template <int kRows, int kVectors>
TRI_INLINE void begin(Accumulators<kRows, kVectors>& acc, const GemmRun& run, const Tile& tile,
                      const Panel& panel) {
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 mask = mask_of<kVectors>(v, panel);
    if (panel.first) {
      const __m512 b =
          panel.bias ? _mm512_maskz_loadu_ps(mask, panel.bias + v * kLanes) : _mm512_setzero_ps();
#pragma GCC unroll 14
      for (int m = 0; m < kRows; ++m) acc.v[m][v] = b;
    } else {
#pragma GCC unroll 14
      for (int m = 0; m < kRows; ++m) {
        acc.v[m][v] =
            _mm512_maskz_loadu_ps(mask, row_y<kRows, kVectors>(run, tile, m) + v * kLanes);
      }
    }
  }
}

// While the sums are made; at the end they would wait for memory.
template <int kRows, int kVectors>
TRI_INLINE void fetch_residual(const GemmRun& run, const Tile& tile) {
#pragma GCC unroll 14
  for (int m = 0; m < kRows; ++m) {
    const float* r = tile.r[group_of<kRows>(m)] + index_of<kRows>(m) * run.ldr;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) _mm_prefetch(r + v * kLanes, _MM_HINT_T0);
  }
}

template <int kRows, int kVectors, bool kTiles>
void multiply(const GemmRun& run, const Tile& tile, const Panel& panel) {
  Accumulators<kRows, kVectors> acc;
  begin(acc, run, tile, panel);
  if (run.residual && panel.last) fetch_residual<kRows, kVectors>(run, tile);
  if constexpr (kTiles) accumulate_tile(acc, run, tile, panel);
  else accumulate(acc, run, tile, panel);
  if (panel.last) finish(acc, run, tile, panel);
  store(acc, run, tile, panel);
}

using Multiply = void (*)(const GemmRun&, const Tile&, const Panel&);

template <int kVectors, bool kTiles, size_t... kRows>
constexpr void fill(Multiply (&row)[15], std::index_sequence<kRows...>) {
  ((row[kRows + 1] = multiply<static_cast<int>(kRows) + 1, kVectors, kTiles>), ...);
}

struct Kernels {
  Multiply of[2][4][15] = {};  // [tiles][vectors][rows]
  constexpr Kernels() {
    fill<1, false>(of[0][1], std::make_index_sequence<kMaxRows[1]>());
    fill<2, false>(of[0][2], std::make_index_sequence<kMaxRows[2]>());
    fill<3, false>(of[0][3], std::make_index_sequence<kMaxRows[3]>());
    fill<1, true>(of[1][1], std::make_index_sequence<kMaxRows[1]>());
    fill<2, true>(of[1][2], std::make_index_sequence<kMaxRows[2]>());
    fill<3, true>(of[1][3], std::make_index_sequence<kMaxRows[3]>());
  }
};
constexpr Kernels kKernels;

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

// Pixels side by side: in tiles of their own, or as the columns of a matrix.
void sweep_columns(const GemmRun& run, const Panels& panels) {
  const float* a = run.a;
  const TileSizes sizes(run.width, run.tile_rows > 0 ? run.tile_rows : kMaxRows[panels.vectors]);
  int64_t i = 0;
  for (int k = 0; k < sizes.count(); ++k) {
    const int m = sizes.at(k);
    multiply_tile(run, panels, kKernels.of[1][panels.vectors][m], 0, i, m, false, a);
    a += run.tile_rows > 0 ? run.ic * kLanes : m;
    i += m;
  }
}

void sweep(const GemmRun& run, const Panels& panels) {
  if (run.a_step != 1) return sweep_columns(run, panels);
  const int most = kMaxRows[panels.vectors];
  int64_t row = 0;
  if (run.width <= most / 2) {
    const int m = static_cast<int>(2 * run.width);
    const Multiply f = kKernels.of[0][panels.vectors][m];
    for (; row + 2 <= run.rows; row += 2) multiply_tile(run, panels, f, row, 0, m, true, nullptr);
  }
  const TileSizes sizes(run.width, most);
  for (; row < run.rows; ++row) {
    int64_t i = 0;
    for (int k = 0; k < sizes.count(); ++k) {
      const int m = sizes.at(k);
      multiply_tile(run, panels, kKernels.of[0][panels.vectors][m], row, i, m, false, nullptr);
      i += m;
    }
  }
}

// Long sums are cut, so that a panel's part of one stays in L2 while all pixels pass.
struct Blocks {
  int64_t k_total, count, size;  // size: of K
  bool large;                    // the weights, or not at hand

  explicit Blocks(const GemmRun& run) : k_total(run.taps * run.ic), count(1), size(k_total) {
    const int64_t v0 = panel_vector(run.oc, run.panel_begin);
    const int64_t v1 = panel_vector(run.oc, run.panel_end);
    large = run.weights == Weights::kCold ||
            (run.weights == Weights::kBySize && (v1 - v0) * kLanes * k_total > kLargeWeights);
    // Unfinished sums wait in y, where a residual added in place would be lost.
    if (run.rows * run.width <= kMaxRows[1] || run.residual == run.y) return;
    if (run.taps == 1) {
      count = (run.ic + kLongestSum - 1) / kLongestSum;
      size = ((run.ic + count - 1) / count + 3) / 4 * 4;
    } else {
      const int64_t taps = kLongestSum > run.ic ? kLongestSum / run.ic : 1;
      count = (run.taps + taps - 1) / taps;
      size = taps * run.ic;
    }
  }

  void limit(const GemmRun& run, int64_t block, Panel& panel) const {
    panel.tap_begin = 0, panel.tap_end = run.taps;
    panel.c_begin = 0, panel.c_end = run.ic;
    panel.first = block == 0 && !run.accumulate, panel.last = block == count - 1 && !run.more;
    int64_t& begin = run.taps == 1 ? panel.c_begin : panel.tap_begin;
    int64_t& end = run.taps == 1 ? panel.c_end : panel.tap_end;
    const int64_t all = end, step = run.taps == 1 ? size : size / run.ic;
    begin = block * step < all ? block * step : all;
    end = begin + step < all ? begin + step : all;
  }

  // The weights that come behind panel p of block b.
  GemmRun::Ahead next_panel(const GemmRun& run, int64_t b, int64_t p, const Panel& panel) const {
    const int64_t v0 = panel_vector(run.oc, p), v1 = panel_vector(run.oc, p + 1);
    const bool more = p + 1 < run.panel_end;
    if (!more && b + 1 == count) return {};
    const int64_t next = more ? v1 : panel_vector(run.oc, run.panel_begin);
    Panel other = panel;
    if (!more) limit(run, b + 1, other);
    const int64_t k0 = other.tap_begin * run.ic + other.c_begin;
    return ahead_of(run.w + next * kLanes * k_total + k0 * (v1 - v0) * kLanes,
                    (v1 - v0) * size * kLanes);
  }
};

Panel panel_at(const GemmRun& run, int64_t p) {
  const int64_t v0 = panel_vector(run.oc, p), v1 = panel_vector(run.oc, p + 1);
  Panel panel{};
  panel.w = run.w + v0 * kLanes * run.taps * run.ic;
  panel.column = v0 * kLanes;
  panel.bias = run.bias ? run.bias + panel.column : nullptr;
  panel.last_mask = mask_of_first(run.oc - (v1 - 1) * kLanes);
  return panel;
}

int vectors_in(int64_t oc, int64_t p) {
  return static_cast<int>(panel_vector(oc, p + 1) - panel_vector(oc, p));
}

// Few weights stay in the first-level cache: every pixel is then read once, by all panels.
constexpr int64_t kFewWeights = 5 * 1024;
constexpr int64_t kMostTogether = 8;
constexpr int kFetches = 4;  // a panel of weights, and what the run asks for

bool passes_together(const GemmRun& run) {
  const int64_t count = run.panel_end - run.panel_begin;
  const int64_t v0 = panel_vector(run.oc, run.panel_begin);
  const int64_t v1 = panel_vector(run.oc, run.panel_end);
  return count > 1 && count <= kMostTogether &&
         (v1 - v0) * kLanes * run.taps * run.ic <= kFewWeights &&
         vectors_in(run.oc, run.panel_begin) == vectors_in(run.oc, run.panel_end - 1);
}

void sweep_together(const GemmRun& run, const Blocks& blocks, GemmRun::Ahead* ahead) {
  Panel panels[kMostTogether];
  const int64_t count = run.panel_end - run.panel_begin;
  for (int64_t p = 0; p < count; ++p) {
    panels[p] = panel_at(run, run.panel_begin + p);
    blocks.limit(run, 0, panels[p]);
    panels[p].next = ahead, panels[p].next_end = ahead + kFetches;
  }
  sweep(run, {panels, count, vectors_in(run.oc, run.panel_begin)});
}

}  // namespace

void gemm(const GemmRun& run) {
  const Blocks blocks(run);
  GemmRun::Ahead ahead[kFetches] = {
      {}, run.ahead[0], run.ahead[1], run.ahead[2]};  // the first: weights
  if (passes_together(run)) return sweep_together(run, blocks, ahead);
  for (int64_t b = 0; b < blocks.count; ++b) {
    for (int64_t p = run.panel_begin; p < run.panel_end; ++p) {
      Panel panel = panel_at(run, p);
      blocks.limit(run, b, panel);
      if (blocks.large) ahead[0] = blocks.next_panel(run, b, p, panel);
      panel.next = ahead, panel.next_end = ahead + kFetches;
      sweep(run, {&panel, 1, vectors_in(run.oc, p)});
    }
  }
}

void pack_tiles(const float* x, int64_t ldx, int64_t n, int64_t width, int most, float* out) {
  constexpr int64_t kRows = 16;  // at a time, still in the first-level cache for the next tile
  for (int64_t k0 = 0; k0 < n; k0 += kRows, x += kRows * ldx) {
    const int64_t rows = n - k0 < kRows ? n - k0 : kRows;
    float* tile = out + k0 * kLanes;
    const TileSizes sizes(width, most);
    int64_t i = 0;
    for (int t = 0; t < sizes.count(); ++t, tile += n * kLanes) {
      const int m = sizes.at(t);
      const __mmask16 mask = mask_of_first(m);
      for (int64_t k = 0; k < rows; ++k)
        _mm512_store_ps(tile + k * kLanes, _mm512_maskz_loadu_ps(mask, x + k * ldx + i));
      i += m;
    }
  }
}

void scale_pixels(const float* x, int64_t ldx, const float* scale, int64_t n, int64_t channels,
                  float* y, int64_t ldy) {
  for (int64_t i = 0; i < n; ++i, x += ldx, y += ldy) {
    for (int64_t c = 0; c < channels; c += kLanes) {
      const __mmask16 mask = mask_of_first(channels - c);
      const __m512 v = _mm512_maskz_loadu_ps(mask, x + c);
      const __m512 s = scale ? _mm512_maskz_loadu_ps(mask, scale + c) : set1(1);
      _mm512_mask_storeu_ps(y + c, mask, _mm512_mul_ps(v, s));
    }
  }
}

void spread_quads(const float* q, int64_t w, float bias, const Epilogue& e, float* row0,
                  float* row1, int64_t ldy) {
  const __m512i spread =
      _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0),
                         _mm512_set1_epi32(static_cast<int>(ldy)));
  const auto put = [&](float* to, __mmask16 mask, __m512i bits) {
    if (ldy == 1) _mm512_mask_storeu_epi32(to, mask, bits);
    else _mm512_mask_i32scatter_epi32(to, mask, spread, bits, 4);
  };
  const __m512i low = _mm512_setr_epi64(0, 2, 4, 6, 0, 0, 0, 0);
  const __m512i high = _mm512_setr_epi64(1, 3, 5, 7, 0, 0, 0, 0);
  with_act(e.act, [&](auto tag) {
    for (int64_t i = 0; i < w; i += 4) {
      const int64_t left = w - i < 4 ? w - i : 4;
      const auto in = static_cast<__mmask16>((1u << (4 * left)) - 1);
      const auto out = static_cast<__mmask16>((1u << (2 * left)) - 1);
      __m512 v = _mm512_add_ps(_mm512_maskz_loadu_ps(in, q + 4 * i), set1(bias));
      v = apply_act<decltype(tag)::value>(v, e);
      v = _mm512_fmadd_ps(v, set1(e.scale), set1(e.shift));
      const __m512i bits = _mm512_castps_si512(v);
      put(row0 + 2 * i * ldy, out, _mm512_permutexvar_epi64(low, bits));
      put(row1 + 2 * i * ldy, out, _mm512_permutexvar_epi64(high, bits));
    }
  });
}

}  // namespace trireme::cpu::f32
