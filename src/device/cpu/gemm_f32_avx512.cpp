// Matrix products of channels-last pixels for AVX-512.
#include <utility>

#include "device/cpu/gemm_tiles_avx512.h"

namespace trireme::cpu::f32 {
namespace {

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
  else accumulate<false>(acc, run, tile, panel);
  if (panel.last) finish(acc, run, tile, panel);
  store(acc, run, tile, panel);
}

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
  if (run.a_step != 1) sweep_columns(run, panels);
  else sweep_rows(run, panels, kKernels.of[0]);
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

int vectors_in(int64_t oc, int64_t p) {
  return static_cast<int>(panel_vector(oc, p + 1) - panel_vector(oc, p));
}

Panel panel_at(const GemmRun& run, int64_t p) {
  const int64_t v0 = panel_vector(run.oc, p), v1 = panel_vector(run.oc, p + 1);
  Panel panel{};
  panel.w = run.w + v0 * kLanes * run.taps * run.ic;
  panel.column = v0 * kLanes;
  panel.bias = run.bias ? run.bias + panel.column : nullptr;
  panel.last_mask = mask_of_first(run.oc - (v1 - 1) * kLanes);
  return panel;
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
