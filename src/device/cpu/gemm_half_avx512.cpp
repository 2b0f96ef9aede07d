// Matrix products of float16 for AVX512-FP16: twice the multiplications of float32 in a cycle.
#include <utility>

#include "device/cpu/gemm_tiles_avx512.h"

namespace trireme::cpu::f32 {
namespace {

// Terms that are summed in float16. As many products of pixels below 2^9 and weights of at most 1
// stay below float16's 65504, and the roundings of their sums are about those of bfloat16 factors.
constexpr int64_t kMostTerms = 64;
constexpr int kLargestExponent = 8;  // of pixels

// A tile's sums in float32, two vectors for each of float16.
template <int kRows, int kVectors> struct Sums { alignas(64) float v[kVectors][kRows][2][kLanes]; };

template <int kRows, int kVectors>
TRI_INLINE void move_on(const Accumulators<kRows, kVectors>& acc, Sums<kRows, kVectors>& sums,
                        bool first) {
#pragma GCC unroll 3
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 14
    for (int m = 0; m < kRows; ++m) {
      const __m512i bits = _mm512_castps_si512(acc.v[m][v]);
      __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(bits));
      __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(bits, 1));
      if (!first) {
        low = _mm512_add_ps(low, _mm512_load_ps(sums.v[v][m][0]));
        high = _mm512_add_ps(high, _mm512_load_ps(sums.v[v][m][1]));
      }
      _mm512_store_ps(sums.v[v][m][0], low);
      _mm512_store_ps(sums.v[v][m][1], high);
    }
  }
}

template <int kRows, int kVectors>
TRI_INLINE void sum_up(const GemmRun& run, Tile tile, const Panel& panel,
                       Sums<kRows, kVectors>& sums) {
  const int64_t parts = (run.ic + kMostTerms - 1) / kMostTerms;
  for (int64_t t = 0; t < run.taps; ++t) {
    for (int64_t i = 0; i < parts; ++i) {
      Panel part = panel;
      part.tap_begin = t, part.tap_end = t + 1;
      part.c_begin = run.ic * i / parts, part.c_end = run.ic * (i + 1) / parts;
      Accumulators<kRows, kVectors> acc;
      for_all(acc, [](__m512) { return _mm512_setzero_ps(); });
      accumulate<true>(acc, run, tile, part);
      move_on(acc, sums, t == 0 && i == 0);
      if (tile.ahead) tile.ahead += (part.c_end - part.c_begin) / 4 * kAheadBytes;
    }
  }
}

// Vector kVector of the tile's sums, or its first half.
template <int kVector, int kHalves, int kRows, int kVectors>
TRI_INLINE void finish_vector(const GemmRun& run, const HalfScales& scales, const Tile& tile,
                              const Panel& panel, const Sums<kRows, kVectors>& sums) {
  constexpr int kFirst = kVector * kHalfLanes;
  Panel part = panel;
  part.column += kFirst;
  part.last_mask = mask_of_first(run.oc - part.column - (kHalves - 1) * kLanes);
  Tile at = tile;
  for (int g = 0; g < 2; ++g) {
    at.y[g] += kFirst;
    if (at.r[g]) at.r[g] += kFirst;
  }
  Accumulators<kRows, kHalves> acc;
#pragma GCC unroll 2
  for (int h = 0; h < kHalves; ++h) {
    const int64_t column = part.column + h * kLanes;
    const __mmask16 mask = mask_of<kHalves>(h, part);
    const __m512 scale =
        _mm512_mul_ps(_mm512_loadu_ps(scales.columns + column), set1(scales.pixels));
    const __m512 bias =
        run.bias ? _mm512_maskz_loadu_ps(mask, run.bias + column) : _mm512_setzero_ps();
#pragma GCC unroll 14
    for (int m = 0; m < kRows; ++m)
      acc.v[m][h] = _mm512_fmadd_ps(_mm512_load_ps(sums.v[kVector][m][h]), scale, bias);
  }
  finish(acc, run, at, part);
  store(acc, run, at, part);
}

template <int kVector, int kRows, int kVectors>
TRI_INLINE void finish_vectors(const GemmRun& run, const HalfScales& scales, const Tile& tile,
                               const Panel& panel, const Sums<kRows, kVectors>& sums) {
  if constexpr (kVector < kVectors) {
    const bool whole = run.oc - panel.column - kVector * kHalfLanes > kLanes;
    if (whole) finish_vector<kVector, 2>(run, scales, tile, panel, sums);
    else finish_vector<kVector, 1>(run, scales, tile, panel, sums);
    finish_vectors<kVector + 1>(run, scales, tile, panel, sums);
  }
}

// What multiply() needs beside a run.
struct HalfRun : GemmRun {
  HalfScales scales;
};

template <int kRows, int kVectors>
void multiply(const GemmRun& run, const Tile& tile, const Panel& panel) {
  Sums<kRows, kVectors> sums;
  sum_up(run, tile, panel, sums);
  finish_vectors<0>(run, static_cast<const HalfRun&>(run).scales, tile, panel, sums);
}

template <int kVectors, size_t... kRows>
constexpr void fill(Multiply (&row)[15], std::index_sequence<kRows...>) {
  ((row[kRows + 1] = multiply<static_cast<int>(kRows) + 1, kVectors>), ...);
}

struct Kernels {
  Multiply of[4][15] = {};  // [vectors][rows]
  constexpr Kernels() {
    fill<1>(of[1], std::make_index_sequence<kMaxRows[1]>());
    fill<2>(of[2], std::make_index_sequence<kMaxRows[2]>());
    fill<3>(of[3], std::make_index_sequence<kMaxRows[3]>());
  }
};
constexpr Kernels kKernels;

}  // namespace

void gemm_half(const GemmRun& run, const HalfScales& scales) {
  HalfRun all{run, scales};
  const int64_t k_total = run.taps * run.ic;
  const auto first_of = [&](int64_t p) { return panel_vector(run.oc, p, kHalfLanes); };
  const int64_t weights = (first_of(run.panel_end) - first_of(run.panel_begin)) * kLanes * k_total;
  const bool far =
      run.weights == Weights::kCold || (run.weights == Weights::kBySize && weights > kLargeWeights);
  GemmRun::Ahead ahead[4] = {{}, run.ahead[0], run.ahead[1], run.ahead[2]};
  for (int64_t p = run.panel_begin; p < run.panel_end; ++p) {
    const int64_t v0 = first_of(p), v1 = first_of(p + 1);
    Panel panel{};
    panel.w = run.w + v0 * kLanes * k_total;
    panel.column = v0 * kHalfLanes;
    panel.tap_end = run.taps, panel.c_end = run.ic;
    if (far && p + 1 < run.panel_end)
      ahead[0] = ahead_of(run.w + v1 * kLanes * k_total, (first_of(p + 2) - v1) * kLanes * k_total);
    panel.next = ahead, panel.next_end = ahead + 4;
    sweep_rows(all, {&panel, 1, static_cast<int>(v1 - v0)}, kKernels.of);
  }
}

float halve_pixels(const HalveRun& run) {
  const auto for_vectors = [&](auto&& f) {
    for (int64_t r = 0; r < run.rows; ++r) {
      for (int64_t i = 0; i < run.width; ++i) {
        const float* x = run.x + r * run.x_row + i * run.x_pixel;
        float* out = run.out + r * run.out_row + i * run.out_pixel;
        for (int64_t c = 0; c < run.channels; c += kLanes) {
          const __mmask16 mask = mask_of_first(run.channels - c);
          f(_mm512_maskz_loadu_ps(mask, x + c), mask, out + c);
        }
      }
    }
  };
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i most = _mm512_setzero_si512();
  for_vectors([&](__m512 v, __mmask16, float*) {
    most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_castps_si512(v), magnitude));
  });
  // Nothing but zeros, or something that is not a number: as it is.
  const int exponent = static_cast<int>(_mm512_reduce_max_epu32(most) >> 23);
  int shift = exponent == 0 || exponent == 255 ? 0 : kLargestExponent - (exponent - 127);
  if (shift > 126) shift = 126;
  const auto power = [](int e) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((e + 127) << 23)));
  };
  const __m512 scale = set1(power(shift));
  for_vectors([&](__m512 v, __mmask16 mask, float* out) {
    const __m256i half = _mm512_cvtps_ph(_mm512_mul_ps(v, scale), _MM_FROUND_TO_NEAREST_INT);
    const __m512i wide = _mm512_cvtepu16_epi32(half);
    _mm512_mask_storeu_epi32(out, mask, _mm512_or_si512(wide, _mm512_slli_epi32(wide, 16)));
  });
  return power(-shift);
}

}  // namespace trireme::cpu::f32
