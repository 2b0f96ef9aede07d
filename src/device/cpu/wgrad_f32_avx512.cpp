// What the gradients of weights need beside the matrix kernel: pixels turned so that they lie along
// a channel, and the depthwise case.
#include "device/cpu/f32_kernels.h"
#include "device/cpu/f32_math_avx512.h"
#include "device/cpu/immintrin_quiet.h"

namespace trireme::cpu::f32 {
namespace {

TRI_INLINE __m512i load_bits(const float* p, __mmask16 m) { return _mm512_maskz_loadu_epi32(m, p); }
TRI_INLINE __m512i load_bits(const uint16_t* p, __mmask16 m) {
  return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16);
}

// Sixteen columns (rows of the source, null for zero) by sixteen channels.
template <class T>
TRI_INLINE void turn_square(const T* const (&column)[16], __mmask16 channels, int64_t rows,
                            __mmask16 columns, float* out, int64_t pitch) {
  __m512i v[4][4];
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    __m512i r[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const T* p = column[4 * g + i];
      r[i] = p ? load_bits(p, channels) : _mm512_setzero_si512();
    }
    const __m512i p = _mm512_unpacklo_epi32(r[0], r[1]), q = _mm512_unpackhi_epi32(r[0], r[1]);
    const __m512i s = _mm512_unpacklo_epi32(r[2], r[3]), t = _mm512_unpackhi_epi32(r[2], r[3]);
    v[g][0] = _mm512_unpacklo_epi64(p, s);
    v[g][1] = _mm512_unpackhi_epi64(p, s);
    v[g][2] = _mm512_unpacklo_epi64(q, t);
    v[g][3] = _mm512_unpackhi_epi64(q, t);
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const __m512i a = _mm512_shuffle_i32x4(v[0][k], v[1][k], 0x44),
                  b = _mm512_shuffle_i32x4(v[0][k], v[1][k], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(v[2][k], v[3][k], 0x44),
                  d = _mm512_shuffle_i32x4(v[2][k], v[3][k], 0xee);
    const __m512i channel[4] = {_mm512_shuffle_i32x4(a, c, 0x88), _mm512_shuffle_i32x4(a, c, 0xdd),
                                _mm512_shuffle_i32x4(b, d, 0x88), _mm512_shuffle_i32x4(b, d, 0xdd)};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      if (4 * j + k < rows)
        _mm512_mask_storeu_epi32(out + (4 * j + k) * pitch, columns, channel[j]);
  }
}

template <class T> void turn(const T* x, const TurnRun& run, float* out) {
  for (int64_t j = 0; j < run.count; j += 16) {
    const T* column[16];
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t at = run.first + (j + i) * run.step;
      column[i] = j + i < run.count && at >= 0 && at < run.width ? x + at * run.ldx : nullptr;
    }
    const __mmask16 columns = mask_of_first(run.count - j);
    for (int64_t c = 0; c < run.channels; c += 16) {
      turn_square(column, mask_of_first(run.channels - c), run.channels - c, columns,
                  out + c * run.pitch + j, run.pitch);
      for (auto& p : column)
        if (p) p += 16;
    }
  }
}

template <class T>
void pack(const T* x, int64_t ldx, int64_t n, int64_t oc, int64_t at, int64_t n_total, float* out) {
  for (int64_t p = 0; p < panels_of(oc); ++p) {
    const int64_t v0 = panel_vector(oc, p), v1 = panel_vector(oc, p + 1), width = (v1 - v0) * 16;
    float* to = out + v0 * 16 * n_total + at * width;
    for (int64_t i = 0; i < n; ++i, to += width)
      for (int64_t v = v0; v < v1; ++v)
        _mm512_storeu_si512(to + (v - v0) * 16,
                            load_bits(x + i * ldx + v * 16, mask_of_first(oc - v * 16)));
  }
}

template <int kVectors>
TRI_INLINE void copy_rows(const float* from, int64_t ldx, int64_t rows, __mmask16 last, float* to) {
  for (int64_t r = 0; r < rows; ++r, from += ldx, to += kVectors * 16) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors - 1; ++v)
      _mm512_storeu_ps(to + 16 * v, _mm512_loadu_ps(from + 16 * v));
    _mm512_storeu_ps(to + 16 * (kVectors - 1),
                     _mm512_maskz_loadu_ps(last, from + 16 * (kVectors - 1)));
  }
}

// The taps kx = 0 .. kW - 1 of one window row for sixteen channels; columns [begin, end) have all
// their taps inside the picture.
template <int kW>
TRI_INLINE void tap_row(const ConvSpec& s, const float* x, const float* dy, int64_t begin,
                        int64_t end, float* dw, int64_t tap_pitch, __mmask16 mask) {
  __m512 acc[kW];
#pragma GCC unroll 8
  for (int k = 0; k < kW; ++k) acc[k] = _mm512_loadu_ps(dw + k * tap_pitch);
  const int64_t step = s.sw * s.ldx, tap = s.dw * s.ldx;
  const float* px = x + (begin * s.sw - s.left) * s.ldx;
  for (int64_t ox = begin; ox < end; ++ox, px += step) {
    const __m512 d = _mm512_maskz_loadu_ps(mask, dy + ox * s.ldy);
#pragma GCC unroll 8
    for (int k = 0; k < kW; ++k)
      acc[k] = _mm512_fmadd_ps(d, _mm512_maskz_loadu_ps(mask, px + k * tap), acc[k]);
  }
#pragma GCC unroll 8
  for (int k = 0; k < kW; ++k) _mm512_storeu_ps(dw + k * tap_pitch, acc[k]);
}

using TapRow = void (*)(const ConvSpec&, const float*, const float*, int64_t, int64_t, float*,
                        int64_t, __mmask16);
constexpr TapRow kTapRow[8] = {nullptr,    tap_row<1>, tap_row<2>, tap_row<3>,
                               tap_row<4>, tap_row<5>, tap_row<6>, tap_row<7>};

}  // namespace

void turn_pixels(const float* x, const TurnRun& run, float* out) { turn(x, run, out); }
void turn_pixels(const uint16_t* x, const TurnRun& run, float* out) { turn(x, run, out); }
void pack_rows(const float* x, int64_t ldx, int64_t n, int64_t oc, int64_t at, int64_t n_total,
               float* out) {
  pack(x, ldx, n, oc, at, n_total, out);
}
void pack_rows(const uint16_t* x, int64_t ldx, int64_t n, int64_t oc, int64_t at, int64_t n_total,
               float* out) {
  pack(x, ldx, n, oc, at, n_total, out);
}

void add_rows(const float* x, int64_t ldx, int64_t n, int64_t columns, float* y, int64_t ldy) {
  for (int64_t i = 0; i < n; ++i, x += ldx, y += ldy) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      const __mmask16 mask = mask_of_first(columns - c);
      const __m512 v = _mm512_maskz_loadu_ps(mask, x + c);
      _mm512_mask_storeu_ps(y + c, mask, _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, y + c)));
    }
  }
}

// Some rows at a time, whose lines are at hand for the next panel.
void pack_panels(const float* x, const PackRun& run, float* out) {
  const int64_t first = panel_vector(run.oc, run.panel_begin);
  const int64_t step = run.panel_end - run.panel_begin > 1 ? 8 : run.n;
  for (int64_t i = 0; i < run.n; i += step) {
    const int64_t rows = run.n - i < step ? run.n - i : step;
    for (int64_t p = run.panel_begin; p < run.panel_end; ++p) {
      const int64_t v0 = panel_vector(run.oc, p), v1 = panel_vector(run.oc, p + 1);
      float* to = out + ((v0 - first) * run.n_total + (run.at + i) * (v1 - v0)) * kLanes;
      const float* from = x + i * run.ldx + v0 * kLanes;
      const __mmask16 mask = mask_of_first(run.oc - (v1 - 1) * kLanes);
      if (v1 - v0 == 1) copy_rows<1>(from, run.ldx, rows, mask, to);
      else if (v1 - v0 == 2) copy_rows<2>(from, run.ldx, rows, mask, to);
      else copy_rows<3>(from, run.ldx, rows, mask, to);
    }
  }
}

void depthwise_wgrad_row(const ConvSpec& s, const float* x, const float* dy, int64_t oy,
                         float* dw) {
  const int64_t tap_pitch = vectors_of(s.oc) * kLanes;
  // Columns where all taps are inside: ox sw - left >= 0, ox sw - left + (kw - 1) dw < w.
  int64_t begin = (s.left + s.sw - 1) / s.sw;
  const int64_t room = s.w + s.left - (s.kw - 1) * s.dw - 1;
  int64_t end = room < 0 ? 0 : room / s.sw + 1;
  end = end < s.ow ? end : s.ow;
  if (begin > end || s.kw > 7) begin = end = 0;
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    const int64_t iy = oy * s.sh - s.top + ky * s.dh;
    if (iy < 0 || iy >= s.h) continue;
    const float* row = x + iy * s.w * s.ldx;
    for (int64_t c = 0; c < s.oc; c += kLanes) {
      const __mmask16 mask = mask_of_first(s.oc - c);
      float* to = dw + ky * s.kw * tap_pitch + c;
      if (begin < end) kTapRow[s.kw](s, row + c, dy + c, begin, end, to, tap_pitch, mask);
      for (int64_t ox = 0; ox < s.ow; ++ox) {
        if (ox == begin && begin < end) ox = end;
        if (ox >= s.ow) break;
        const __m512 d = _mm512_maskz_loadu_ps(mask, dy + ox * s.ldy + c);
        for (int64_t kx = 0; kx < s.kw; ++kx) {
          const int64_t ix = ox * s.sw - s.left + kx * s.dw;
          if (ix < 0 || ix >= s.w) continue;
          float* tap = to + kx * tap_pitch;
          const __m512 v = _mm512_maskz_loadu_ps(mask, row + ix * s.ldx + c);
          _mm512_storeu_ps(tap, _mm512_fmadd_ps(d, v, _mm512_loadu_ps(tap)));
        }
      }
    }
  }
}

}  // namespace trireme::cpu::f32
