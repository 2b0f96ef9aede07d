// Copying activations into A tiles.
#include "device/cpu/gather_bf16_amx.h"

#include <cstring>

#include "device/cpu/bf16_math_amx.h"

namespace trireme::cpu::bf16 {
namespace {

struct Pixel {
  int64_t n, y, x;  // of the output
  Pixel(const ConvSpec& s, int64_t index)
      : n(index / (s.oh * s.ow)), y(index / s.ow % s.oh), x(index % s.ow) {}
  void next(const ConvSpec& s) {
    if (++x < s.ow) return;
    x = 0;
    if (++y < s.oh) return;
    y = 0, ++n;
  }
};

// The input pixel under a tap, or null when it lies in the padding.
inline const Bf16* tap_at(const GatherJob& j, const Pixel& p, int64_t ky, int64_t kx) {
  const ConvSpec& s = *j.spec;
  const int64_t iy = p.y * s.sh - s.top + ky * s.dh, ix = p.x * s.sw - s.left + kx * s.dw;
  if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) return nullptr;
  return j.x + ((p.n * s.h + iy) * s.w + ix) * s.ldx;
}

inline __m512i times(__m512i v, const float* scale, __mmask32 mask) {
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), scale);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), scale + 16);
  return narrow(_mm512_mul_ps(widen(_mm512_castsi512_si256(v)), low),
                _mm512_mul_ps(widen(_mm512_extracti64x4_epi64(v, 1)), high));
}

// One pixel's channels at one tap into row `out` of consecutive tiles.
inline void copy_channels(const KLayout& l, const Bf16* in, const float* scale, int64_t channels,
                          Bf16* out) {
  for (int64_t k = 0; k < l.steps; ++k, out += kTileElements) {
    __m512i v = _mm512_setzero_si512();
    if (in) {
      const int64_t c = k * l.step;
      const __mmask32 mask = mask32(smaller(l.step, channels - c));
      v = _mm512_maskz_loadu_epi16(mask, in + c);
      if (scale) v = times(v, scale + c, mask);
    }
    _mm512_store_si512(out, v);
  }
}

void gather_taps(const GatherJob& j, Pixel p, int64_t count, Bf16* tiles) {
  const ConvSpec& s = *j.spec;
  const int64_t channels = s.ic / s.groups, base = j.group * channels;
  const int64_t down = j.layout->all_steps() * kTileElements;
  const int64_t taps_y = s.transposed ? 1 : s.kh, taps_x = s.transposed ? 1 : s.kw;
  for (int64_t i = 0; i < count; ++i, p.next(s)) {
    Bf16* out = tiles + i / kTile * down + i % kTile * kMaxStep;
    const float* scale = j.input_scale ? j.input_scale + p.n * s.ic + base : nullptr;
    for (int64_t ky = 0; ky < taps_y; ++ky) {
      for (int64_t kx = 0; kx < taps_x; ++kx, out += j.layout->steps * kTileElements) {
        const Bf16* in = tap_at(j, p, ky, kx);
        copy_channels(*j.layout, in ? in + base : nullptr, scale, channels, out);
      }
    }
  }
}

// Few channels: all taps of a pixel are lined up first, then cut into steps.
void gather_joined(const GatherJob& j, Pixel p, int64_t count, Bf16* tiles) {
  const ConvSpec& s = *j.spec;
  const KLayout& l = *j.layout;
  const int64_t channels = s.ic / s.groups, base = j.group * channels;
  const __mmask16 mask = mask16(channels);
  alignas(64) Bf16 row[kMaxJoined + 2 * kMaxStep];
  std::memset(row + s.kh * s.kw * channels, 0, 2 * kMaxStep * sizeof(Bf16));
  for (int64_t i = 0; i < count; ++i, p.next(s)) {
    Bf16* end = row;
    for (int64_t ky = 0; ky < s.kh; ++ky) {
      for (int64_t kx = 0; kx < s.kw; ++kx, end += channels) {
        const Bf16* in = tap_at(j, p, ky, kx);
        const __m256i v = _mm256_maskz_loadu_epi16(in ? mask : __mmask16{0}, in ? in + base : j.x);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(end), v);  // zeros beyond the channels
      }
    }
    Bf16* out = tiles + i / kTile * l.steps * kTileElements + i % kTile * kMaxStep;
    for (int64_t k = 0; k < l.steps; ++k, out += kTileElements) {
      _mm512_store_si512(out, _mm512_loadu_si512(row + k * l.step));
    }
  }
}

// 16 x 16 values of 32 bits.
inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    for (int h = 0; h < 2; ++h) {
      r[4 * i + 2 * h] = _mm512_unpacklo_epi64(t[4 * i + h], t[4 * i + 2 + h]);
      r[4 * i + 2 * h + 1] = _mm512_unpackhi_epi64(t[4 * i + h], t[4 * i + 2 + h]);
    }
  }
  // r[4 i + c] now holds columns c, c + 4, c + 8, c + 12 of rows 4 i .. 4 i + 3.
  for (int c = 0; c < 4; ++c) {
    const __m512i a = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);
    const __m512i d = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
    const __m512i e = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
    t[c] = _mm512_shuffle_i32x4(a, d, 0x88), t[8 + c] = _mm512_shuffle_i32x4(a, d, 0xdd);
    t[4 + c] = _mm512_shuffle_i32x4(b, e, 0x88), t[12 + c] = _mm512_shuffle_i32x4(b, e, 0xdd);
  }
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}

int64_t line_length(const ConvSpec& s, int64_t pixels) {
  return round_up(round_up(pixels, kTile) * s.sw + s.kw * s.dw + 2 * kMaxStep, kMaxStep);
}

// The input rows under `pixels` output pixels of one row, zero-padded: line [ky][channel].
void fill_lines(const GatherJob& j, const Pixel& p, int64_t pixels, int64_t length) {
  const ConvSpec& s = *j.spec;
  const int64_t x0 = p.x * s.sw - s.left;
  const int64_t used = smaller(length, (pixels - 1) * s.sw + (s.kw - 1) * s.dw + 1);
  const int64_t begin = smaller(larger<int64_t>(-x0, 0), used);
  const int64_t end = larger(smaller(used, s.w - x0), begin);
  for (int64_t ky = 0; ky < s.kh; ++ky) {
    const int64_t iy = p.y * s.sh - s.top + ky * s.dh;
    for (int64_t c = 0; c < s.ic; ++c) {
      Bf16* line = j.lines + (ky * s.ic + c) * length;
      const bool inside = iy >= 0 && iy < s.h;
      const int64_t from = inside ? begin : used, to = inside ? end : used;
      std::memset(line, 0, static_cast<size_t>(from) * sizeof(Bf16));
      if (to > from) {
        const Bf16* in = j.x + ((p.n * s.ic + c) * s.h + iy) * s.w + x0;
        std::memcpy(line + from, in + from, static_cast<size_t>(to - from) * sizeof(Bf16));
      }
      std::memset(line + to, 0, static_cast<size_t>(used - to) * sizeof(Bf16));
    }
  }
}

// 16 values `stride` apart in the low halves of 32-bit lanes; kStride 0: any stride.
template <int kStride> inline __m512i spread(const Bf16* p, int64_t stride) {
  if constexpr (kStride == 1) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  __m512i v;
  if constexpr (kStride == 2) {
    v = _mm512_loadu_si512(p);
  } else {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i step = _mm512_set1_epi32(static_cast<int>(stride));
    v = _mm512_i32gather_epi32(_mm512_mullo_epi32(lane, step), p, 2);
  }
  return _mm512_and_si512(v, _mm512_set1_epi32(0xffff));
}

// One step of 16 pixels: pairs of K as 32-bit lanes along the pixels, then transposed.
template <int kStride>
void planar_step(const Bf16* const* sources, int64_t offset, int64_t stride, __m512i (&rows)[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    const __m512i low = spread<kStride>(sources[2 * i] + offset, stride);
    const __m512i high = spread<kStride>(sources[2 * i + 1] + offset, stride);
    rows[i] = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
  transpose(rows);
}

void gather_planar(const GatherJob& j, Pixel p, int64_t count, Bf16* tiles) {
  const ConvSpec& s = *j.spec;
  const KLayout& l = *j.layout;
  const int64_t length = line_length(s, count), all_k = s.kh * s.kw * s.ic;
  const auto step = s.sw == 1 ? planar_step<1> : s.sw == 2 ? planar_step<2> : planar_step<0>;
  // Beyond the last tap lies a line of zeros.
  Bf16* zeros = j.lines + s.kh * s.ic * length;
  std::memset(zeros, 0, static_cast<size_t>(length) * sizeof(Bf16));
  const Bf16* sources[kMaxJoined + kMaxStep];
  for (int64_t k = all_k; k < l.steps * l.step + kMaxStep; ++k) sources[k] = zeros;
  for (int64_t k = 0; k < all_k; ++k) {
    const int64_t c = k % s.ic, kx = k / s.ic % s.kw, ky = k / s.ic / s.kw;
    sources[k] = j.lines + (ky * s.ic + c) * length + kx * s.dw;
  }
  for (int64_t done = 0; done < count;) {
    const int64_t run = smaller(s.ow - p.x, count - done);
    fill_lines(j, p, run, length);
    for (int64_t i = 0; i < run; i += kTile) {
      for (int64_t k = 0; k < l.steps; ++k) {
        __m512i rows[16];
        step(sources + k * l.step, i * s.sw, s.sw, rows);
        const int64_t n = smaller<int64_t>(kTile, run - i);
        for (int64_t r = 0; r < n; ++r) {
          const int64_t at = done + i + r;
          _mm512_store_si512(
              tiles + (at / kTile * l.steps + k) * kTileElements + at % kTile * kMaxStep, rows[r]);
        }
      }
    }
    done += run;
    p.x += run - 1;
    p.next(s);
  }
}

}  // namespace

int64_t line_bytes(const ConvSpec& spec, int64_t pixels) {
  if (!spec.x_planar) return 0;
  return round_up(line_length(spec, pixels) * (spec.kh * spec.ic + 1) * 2, 64);
}

void gather(const GatherJob& job, int64_t first, int64_t count, uint16_t* tiles) {
  const Pixel p(*job.spec, first);
  if (job.spec->x_planar) return gather_planar(job, p, count, tiles);
  if (job.layout->joined) return gather_joined(job, p, count, tiles);
  // A transposed convolution's pixels are those of its input.
  if (!job.spec->transposed) return gather_taps(job, p, count, tiles);
  ConvSpec s = *job.spec;
  s.oh = s.h, s.ow = s.w, s.sh = s.sw = 1;
  GatherJob j = job;
  j.spec = &s;
  gather_taps(j, Pixel(s, first), count, tiles);
}

void copy_tap(const ConvSpec& s, const uint16_t* x, int64_t first_channel, int64_t channels,
              const Place& place, int64_t pixels, uint16_t* out) {
  const Bf16* row = x + (place.image * s.h + place.y) * s.w * s.ldx + first_channel;
  for (int64_t i = 0; i < pixels; ++i, out += channels) {
    const int64_t ix = place.x + i * s.sw;
    const Bf16* in = ix >= 0 && ix < s.w ? row + ix * s.ldx : nullptr;
    int64_t c = 0;
    // Whole stores: the processor cannot forward masked ones to the tile loads that follow soon.
    for (; c + kMaxStep <= channels; c += kMaxStep) {
      _mm512_storeu_si512(out + c, in ? _mm512_loadu_si512(in + c) : _mm512_setzero_si512());
    }
    if (c == channels) continue;
    const __mmask32 mask = mask32(channels - c);
    _mm512_mask_storeu_epi16(out + c, mask,
                             in ? _mm512_maskz_loadu_epi16(mask, in + c) : _mm512_setzero_si512());
  }
}

}  // namespace trireme::cpu::bf16
