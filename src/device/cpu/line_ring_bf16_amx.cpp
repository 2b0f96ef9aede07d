// Input rows as lines of pixels with four channels.
#include "device/cpu/line_ring_bf16_amx.h"

#include "device/cpu/bf16_math_amx.h"

namespace trireme::cpu::bf16 {
namespace {

// As many as the tiles of an output row read.
int64_t line_pixels(const ConvSpec& s) {
  return round_up(round_up(s.ow, kTile) * s.sw + kMaxStep / kLineChannels, kTile);
}

// 16 values of a channel from input column ix on, in the low halves of 32-bit lanes; zeros outside.
inline __m512i column_values(const ConvSpec& s, const Bf16* plane, int64_t ix) {
  const int64_t before = ix < 0 ? smaller<int64_t>(-ix, kTile) : 0;
  const auto mask = static_cast<__mmask16>(mask16(s.w - ix) & ~mask16(before));
  return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, plane + ix));
}

void fill_planar(const ConvSpec& s, const Bf16* row, Bf16* line) {
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  const __m512i zero = _mm512_setzero_si512();
  const int64_t plane = s.h * s.w, pixels = line_pixels(s);
  for (int64_t i = 0; i < pixels; i += kTile, line += kTile * kLineChannels) {
    __m512i c[kLineChannels] = {zero, zero, zero, zero};
    for (int64_t k = 0; k < s.ic; ++k) c[k] = column_values(s, row + k * plane, i - s.left);
    const __m512i low = _mm512_or_si512(c[0], _mm512_slli_epi32(c[1], 16));
    const __m512i high = _mm512_or_si512(c[2], _mm512_slli_epi32(c[3], 16));
    _mm512_store_si512(line, _mm512_permutex2var_epi32(low, first, high));
    _mm512_store_si512(line + 32, _mm512_permutex2var_epi32(low, second, high));
  }
}

void fill_pixels(const ConvSpec& s, const Bf16* row, Bf16* line) {
  const auto mask = static_cast<__mmask8>(mask16(s.ic));
  const int64_t pixels = line_pixels(s);
  for (int64_t i = 0; i < pixels; ++i, line += kLineChannels) {
    const int64_t ix = i - s.left;
    const bool inside = ix >= 0 && ix < s.w;
    const __m128i v = _mm_maskz_loadu_epi16(inside ? mask : __mmask8{0}, row + ix * s.ldx);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(line), v);
  }
}

}  // namespace

bool serves_lines(const ConvSpec& s) {
  return s.groups == 1 && !s.transposed && s.ic <= kLineChannels && s.dh == 1 && s.dw == 1 &&
         s.kw >= 5 && s.kw * kLineChannels <= kMaxStep && s.kh <= kMostLines;
}

int64_t ring_bytes(const ConvSpec& s) { return s.kh * line_pixels(s) * kLineChannels * 2; }

const uint16_t* line_of(const ConvSpec& s, const uint16_t* x, int64_t image, int64_t y,
                        LineRing& ring) {
  const int64_t at = y % s.kh, row = image * s.h + y;
  Bf16* line = ring.memory + at * line_pixels(s) * kLineChannels;
  if (ring.held[at] == row + 1) return line;
  ring.held[at] = row + 1;
  if (s.x_planar) fill_planar(s, x + (image * s.ic * s.h + y) * s.w, line);
  else fill_pixels(s, x + row * s.w * s.ldx, line);
  return line;
}

}  // namespace trireme::cpu::bf16
