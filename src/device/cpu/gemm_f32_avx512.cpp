// Matrix products of channels-last pixels for AVX-512: up to 14 pixels by 1..3 vectors a tile.
#include "device/cpu/f32_kernels.h"
#include "device/cpu/f32_math_avx512.h"
#include "device/cpu/immintrin_quiet.h"
#include "device/cpu/tile_f32_avx512.h"

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
  const char* next;  // to fetch meanwhile: the panel after this one, or what the run asks for
  const char* next_end;
};

constexpr int kMaxRows[4] = {0, 14, 14, 9};
constexpr int kAheadBytes = 128;  // of the next panel fetched every four steps of K
constexpr int64_t kLongestSum = 1152;
constexpr int64_t kLargeWeights = 192 * 1024;  // floats that do not stay in L2 beside the input

template <int kVectors> TRI_INLINE __mmask16 mask_of(int v, const Panel& panel) {
  return v == kVectors - 1 ? panel.last_mask : static_cast<__mmask16>(0xffff);
}

// What becomes of a tile's sums, pixel by pixel.
template <int kVectors> struct Finish {
  float* sums;
  int rows[2];  // pixels of the groups
  const GemmRun& run;
  const Tile& tile;
  const Panel& panel;

  // f(sums, outputs, residuals) for every pixel.
  template <class F> TRI_INLINE void for_pixels(F&& f) const {
    for (int g = 0; g < 2; ++g) {
      float* acc = sums + g * kSlots[kVectors] * kVectors * kLanes;
      float* y = tile.y[g];
      const float* r = tile.r[g];
      for (int i = 0; i < rows[g]; ++i) {
        f(acc, y, r);
        acc += kVectors * kLanes, y += run.ldy, r += run.ldr;
      }
    }
  }

  // Adds the bias, or what the K blocks before this one left in y, then the residual if asked;
  // f(v) is stored in y, or back into the sums.
  template <class F> TRI_INLINE void begin(bool residual, bool back, F&& f) const {
    __m512 bias[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      bias[v] = panel.first && panel.bias ? _mm512_maskz_loadu_ps(mask_of<kVectors>(v, panel),
                                                                  panel.bias + v * kLanes)
                                          : _mm512_setzero_ps();
    }
    for_pixels([&](float* acc, float* y, const float* r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const __mmask16 mask = mask_of<kVectors>(v, panel);
        __m512 x = _mm512_add_ps(_mm512_load_ps(acc + v * kLanes), bias[v]);
        if (!panel.first) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, y + v * kLanes));
        if (residual) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, r + v * kLanes));
        x = f(x);
        if (back) _mm512_store_ps(acc + v * kLanes, x);
        else _mm512_mask_storeu_ps(y + v * kLanes, mask, x);
      }
    });
  }

  // Scales and shifts the sums, adds the residual if asked, stores to y.
  TRI_INLINE void end(__m512 scale, __m512 shift, bool residual) const {
    for_pixels([&](float* acc, float* y, const float* r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const __mmask16 mask = mask_of<kVectors>(v, panel);
        __m512 x = _mm512_fmadd_ps(_mm512_load_ps(acc + v * kLanes), scale, shift);
        if (residual) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, r + v * kLanes));
        _mm512_mask_storeu_ps(y + v * kLanes, mask, x);
      }
    });
  }
};

template <int kVectors> void __attribute__((noinline)) finish(const Finish<kVectors>& f) {
  const Epilogue& e = *f.run.epilogue;
  const auto same = [](__m512 v) { return v; };
  if (!f.panel.last) return f.begin(false, false, same);
  const bool before = e.residual == Epilogue::kBeforeAct, after = e.residual == Epilogue::kAfter;
  if (e.scale == 1 && e.shift == 0 && !(after && e.act != Act::kNone)) {
    if (e.act == Act::kNone) return f.begin(before || after, false, same);
    if (e.act == Act::kRelu) {
      return f.begin(before, false, [&](__m512 v) { return apply_act<Act::kRelu>(v, e); });
    }
  }
  if (e.act == Act::kHardSwish) {
    const HardSwish swish(e.scale, e.shift);
    f.begin(before, after, swish);
    return after ? f.end(set1(1), set1(0), true) : void();
  }
  f.begin(before, true, same);
  for (int g = 0; g < 2; ++g) {
    activate_buffer(f.sums + g * kSlots[kVectors] * kVectors * kLanes, f.rows[g] * kVectors, e);
  }
  f.end(set1(e.scale), set1(e.shift), after);
}

template <int kRows, int kVectors>
void multiply(const GemmRun& run, const Tile& tile, const Panel& panel) {
  alignas(64) float sums[28 * kLanes];
  const int64_t count = panel.c_end - panel.c_begin;
  const float* w =
      panel.w + (panel.tap_begin * run.ic + panel.c_begin) * (kVectors * kLanes);
  TileLoop loop;
  for (int g = 0; g < 2; ++g) loop.a[g] = tile.a[g] + panel.c_begin;
  loop.tap = run.tap + panel.tap_begin, loop.tap_end = run.tap + panel.tap_end;
  loop.quads = count / 4, loop.rest = count % 4;
  loop.w = w;
  loop.stride = run.a_pixel * 4;
  loop.ahead = tile.ahead ? tile.ahead : reinterpret_cast<const char*>(w + 16 * kVectors * kLanes);
  loop.ahead_step = tile.ahead ? kAheadBytes : 16 * kVectors * kLanes;
  tile_loop<kRows, kVectors>(loop, sums);
  finish(Finish<kVectors>{sums, {(kRows + 1) / 2, kRows / 2}, run, tile, panel});
}

using Multiply = void (*)(const GemmRun&, const Tile&, const Panel&);

#define TRI_ROWS(V)                                                                          \
  {                                                                                          \
    nullptr, multiply<1, V>, multiply<2, V>, multiply<3, V>, multiply<4, V>, multiply<5, V>, \
        multiply<6, V>, multiply<7, V>, multiply<8, V>, multiply<9, V>
constexpr Multiply kMultiply[4][15] = {{},
                                       TRI_ROWS(1),
                                       multiply<10, 1>,
                                       multiply<11, 1>,
                                       multiply<12, 1>,
                                       multiply<13, 1>,
                                       multiply<14, 1>},
                   TRI_ROWS(2), multiply<10, 2>, multiply<11, 2>, multiply<12, 2>, multiply<13, 2>,
                   multiply<14, 2>
}
, TRI_ROWS(3)
}
,
}
;
#undef TRI_ROWS

TRI_INLINE Tile tile_at(const GemmRun& run, Panel& panel, int64_t row, int64_t i, int rows,
                        bool two_rows) {
  Tile tile;
  tile.ahead = panel.next < panel.next_end ? panel.next : nullptr;
  panel.next +=
      (panel.tap_end - panel.tap_begin) * ((panel.c_end - panel.c_begin) / 4) * kAheadBytes;
  for (int g = 0; g < 2; ++g) {
    const int64_t r = two_rows ? row + g : row;
    const int64_t x = two_rows || g == 0 ? i : i + (rows + 1) / 2;
    tile.a[g] = run.a + r * run.a_row + x * run.a_pixel;
    tile.y[g] = run.y + r * run.y_row + x * run.ldy + panel.column;
    tile.r[g] = run.residual ? run.residual + r * run.r_row + x * run.ldr + panel.column : nullptr;
  }
  return tile;
}

// Cuts `n` pixels into equal tiles of at most `most`.
TRI_INLINE int64_t tile_size(int64_t n, int64_t most) {
  const int64_t tiles = (n + most - 1) / most;
  return (n + tiles - 1) / tiles;
}

void sweep(const GemmRun& run, Panel& panel, int vectors) {
  const int most = kMaxRows[vectors];
  int64_t row = 0;
  if (run.width <= most / 2) {
    const Multiply f = kMultiply[vectors][2 * run.width];
    for (; row + 2 <= run.rows; row += 2) {
      f(run, tile_at(run, panel, row, 0, static_cast<int>(2 * run.width), true), panel);
    }
  }
  for (; row < run.rows; ++row) {
    const int64_t size = tile_size(run.width, most);
    for (int64_t i = 0; i < run.width; i += size) {
      const int m = static_cast<int>(run.width - i < size ? run.width - i : size);
      kMultiply[vectors][m](run, tile_at(run, panel, row, i, m, false), panel);
    }
  }
}

// Long sums are cut, so that a panel's part of one stays in L2 while all pixels pass.
struct Blocks {
  int64_t k_total, count, size;  // size: of K
  bool large;                    // the weights

  explicit Blocks(const GemmRun& run) : k_total(run.taps * run.ic), count(1), size(k_total) {
    const int64_t v0 = panel_vector(run.oc, run.panel_begin);
    const int64_t v1 = panel_vector(run.oc, run.panel_end);
    large = (v1 - v0) * kLanes * k_total > kLargeWeights;
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
    panel.first = block == 0, panel.last = block == count - 1;
    int64_t& begin = run.taps == 1 ? panel.c_begin : panel.tap_begin;
    int64_t& end = run.taps == 1 ? panel.c_end : panel.tap_end;
    const int64_t all = end, step = run.taps == 1 ? size : size / run.ic;
    begin = block * step < all ? block * step : all;
    end = begin + step < all ? begin + step : all;
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

}  // namespace

void gemm(const GemmRun& run) {
  const Blocks blocks(run);
  const char* ahead = run.ahead;
  for (int64_t b = 0; b < blocks.count; ++b) {
    for (int64_t p = run.panel_begin; p < run.panel_end; ++p) {
      Panel panel = panel_at(run, p);
      blocks.limit(run, b, panel);
      const int64_t v0 = panel_vector(run.oc, p), v1 = panel_vector(run.oc, p + 1);
      if (blocks.large) {
        const bool more = p + 1 < run.panel_end;
        const int64_t next = more ? v1 : panel_vector(run.oc, run.panel_begin);
        Panel other = panel;
        if (!more) blocks.limit(run, b + 1, other);
        const int64_t k0 = other.tap_begin * run.ic + other.c_begin;
        const int64_t bytes = (v1 - v0) * blocks.size * kLanes * 4;
        panel.next = reinterpret_cast<const char*>(run.w + next * kLanes * blocks.k_total +
                                                   k0 * (v1 - v0) * kLanes);
        panel.next_end = panel.next + (more || b + 1 < blocks.count ? bytes : 0);
      }
      if (!blocks.large) panel.next = ahead, panel.next_end = run.ahead_end;
      sweep(run, panel, static_cast<int>(v1 - v0));
      if (!blocks.large) ahead = panel.next;
    }
  }
}

void scale_pixels(const float* x, int64_t ldx, const float* scale, int64_t n, int64_t channels,
                  float* y, int64_t ldy) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const int64_t left = channels - c;
    const auto mask = static_cast<__mmask16>(left >= kLanes ? 0xffff : (1u << left) - 1);
    const __m512 s = scale ? _mm512_maskz_loadu_ps(mask, scale + c) : set1(1);
    for (int64_t i = 0; i < n; ++i) {
      const __m512 v = _mm512_maskz_loadu_ps(mask, x + i * ldx + c);
      _mm512_mask_storeu_ps(y + i * ldy + c, mask, _mm512_mul_ps(v, s));
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
