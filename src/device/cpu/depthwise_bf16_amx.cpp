// Depthwise convolution: 32 channels by several output columns in registers.
#include "device/cpu/depthwise_bf16_amx.h"

#include "device/cpu/bf16_math_amx.h"

namespace trireme::cpu::bf16 {

// Neighbouring output columns of one row, 32 channels.
struct Depthwise::Block {
  const ConvSpec* spec;
  const Bf16* x;  // the image's first pixel, first channel of the block
  const float* weight;
  __mmask32 mask;  // which channels there are
  int64_t y0, x0;  // input position of the first column's first tap
  int64_t ky_begin, ky_end;
};

namespace {

constexpr int kColumns = 8, kNarrow = 4;
constexpr int64_t kChannels = 32;

alignas(64) const Bf16 kZeros[kChannels] = {};

template <int kI> struct Index { static constexpr int value = kI; };
template <int kFrom, int kTo, class F> [[gnu::always_inline]] inline void unroll(F f) {
  if constexpr (kFrom < kTo) {
    f(Index<kFrom>{});
    unroll<kFrom + 1, kTo>(f);
  }
}

// 32 channels as two registers, the even and the odd ones, or 16 channels as one.
template <bool kHalf> struct Lanes {
  static constexpr int64_t kFloats = kHalf ? 16 : 32;
  __m512 even, odd;

  [[gnu::always_inline]] void clear() { even = odd = _mm512_setzero_ps(); }
  [[gnu::always_inline]] void load(const float* p) {
    even = _mm512_loadu_ps(p);
    if constexpr (!kHalf) odd = _mm512_loadu_ps(p + 16);
  }
  [[gnu::always_inline]] void load(const Bf16* p, __mmask32 mask) {
    if constexpr (kHalf) {
      even = widen(_mm256_maskz_loadu_epi16(static_cast<__mmask16>(mask), p));
    } else {
      const __m512i v = _mm512_maskz_loadu_epi16(mask, p);
      even = even_lanes(v), odd = odd_lanes(v);
    }
  }
  [[gnu::always_inline]] void add(const Lanes& x, const Lanes& w) {
    even = _mm512_fmadd_ps(x.even, w.even, even);
    if constexpr (!kHalf) odd = _mm512_fmadd_ps(x.odd, w.odd, odd);
  }
  [[gnu::always_inline]] void store(float* p) const {
    _mm512_store_ps(p, even);
    if constexpr (!kHalf) _mm512_store_ps(p + 16, odd);
  }
};

// Each input pixel is widened once and used by all the output columns that see it.
template <int kWidth, int kStride, int kCols, bool kChecked, bool kHalf>
void block(const Depthwise::Block& b, float* acc) {
  using L = Lanes<kHalf>;
  const ConvSpec& s = *b.spec;
  L sum[kCols];
  unroll<0, kCols>([&](auto i) { sum[i.value].clear(); });
  const int64_t ldx = s.ldx;
  for (int64_t ky = b.ky_begin; ky < b.ky_end; ++ky) {
    const Bf16* row = b.x + ((b.y0 + ky * s.dh) * s.w + b.x0) * ldx;
    const float* w = b.weight + ky * kWidth * L::kFloats;
    L tap[kWidth];
    unroll<0, kWidth>([&](auto i) { tap[i.value].load(w + i.value * L::kFloats); });
    unroll<0, (kCols - 1) * kStride + kWidth>([&](auto ix) __attribute__((always_inline)) {
      constexpr int kX = ix.value;
      const Bf16* in = row + kX * ldx;
      if constexpr (kChecked) {
        const int64_t at = b.x0 + kX;
        if (at < 0 || at >= s.w) in = kZeros;
      }
      L x;
      x.load(in, b.mask);
      unroll<0, kCols>([&](auto column) __attribute__((always_inline)) {
        constexpr int kC = column.value, kTap = kX - kC * kStride;
        if constexpr (kTap >= 0 && kTap < kWidth) sum[kC].add(x, tap[kTap]);
      });
    });
  }
  unroll<0, kCols>([&](auto i) { sum[i.value].store(acc + i.value * L::kFloats); });
}

// Any kernel width, stride and dilation; kCols columns, one after another.
template <int kCols, bool kHalf> void any_block(const Depthwise::Block& b, float* acc) {
  using L = Lanes<kHalf>;
  const ConvSpec& s = *b.spec;
  for (int64_t i = 0; i < kCols; ++i) {
    L sum, x, tap;
    sum.clear();
    for (int64_t ky = b.ky_begin; ky < b.ky_end; ++ky) {
      const Bf16* row = b.x + (b.y0 + ky * s.dh) * s.w * s.ldx;
      const float* w = b.weight + ky * s.kw * L::kFloats;
      for (int64_t kx = 0; kx < s.kw; ++kx, w += L::kFloats) {
        const int64_t ix = b.x0 + i * s.sw + kx * s.dw;
        if (ix < 0 || ix >= s.w) continue;
        x.load(row + ix * s.ldx, b.mask);
        tap.load(w);
        sum.add(x, tap);
      }
    }
    sum.store(acc + i * L::kFloats);
  }
}

template <int kCols, bool kChecked, bool kHalf> Depthwise::BlockFn find_block(const ConvSpec& s) {
  if (s.dw == 1 && s.kw == 3 && s.sw == 1) return block<3, 1, kCols, kChecked, kHalf>;
  if (s.dw == 1 && s.kw == 3 && s.sw == 2) return block<3, 2, kCols, kChecked, kHalf>;
  if (s.dw == 1 && s.kw == 5 && s.sw == 1) return block<5, 1, kCols, kChecked, kHalf>;
  if (s.dw == 1 && s.kw == 5 && s.sw == 2) return block<5, 2, kCols, kChecked, kHalf>;
  return any_block<kCols, kHalf>;
}
template <int kCols> void find_blocks(const ConvSpec& s, Depthwise::BlockFn (&found)[2][2]) {
  found[0][0] = find_block<kCols, false, false>(s);
  found[0][1] = find_block<kCols, false, true>(s);
  found[1][0] = find_block<kCols, true, false>(s);
  found[1][1] = find_block<kCols, true, true>(s);
}

}  // namespace

size_t packed_depthwise_bytes(const ConvSpec& s) {
  return static_cast<size_t>(round_up(s.oc, 16) * s.kh * s.kw) * sizeof(float);
}

void pack_depthwise(const ConvSpec& s, const float* weight, void* packed) {
  auto* out = static_cast<float*>(packed);
  const int64_t taps = s.kh * s.kw;
  for (int64_t c0 = 0; c0 < s.oc; c0 += kChannels) {
    const bool half = s.oc - c0 <= 16;
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t i = 0; i < (half ? 16 : kChannels); ++i) {
        const int64_t c = c0 + (half ? i : i < 16 ? 2 * i : 2 * (i - 16) + 1);
        *out++ = c < s.oc ? weight[c * taps + t] : 0.f;
      }
    }
  }
}

Depthwise::Depthwise(const ConvSpec& spec, const Epilogue& epilogue)
    : spec_(spec),
      epilogue_(epilogue),
      finish_(find_epilogue(epilogue.act, true)),
      finish_half_(find_epilogue(epilogue.act, false)) {
  find_blocks<kColumns>(spec, block_[0]);
  find_blocks<kNarrow>(spec, block_[1]);
}

void Depthwise::run(const DepthwiseArgs& args, int64_t begin, int64_t end, uint16_t* y,
                    int64_t ldy) const {
  const ConvSpec& s = spec_;
  alignas(64) float acc[kColumns * kChannels];
  for (int64_t p = begin; p < end;) {
    const int64_t ox = p % s.ow, oy = p / s.ow % s.oh, n = p / s.ow / s.oh;
    const int64_t left = smaller(end - p, s.ow - ox);
    const bool wide = left > kNarrow;
    const int64_t columns = smaller<int64_t>(left, wide ? kColumns : kNarrow);
    Block b{&s, nullptr, nullptr, 0, oy * s.sh - s.top, ox * s.sw - s.left, 0, s.kh};
    while (b.ky_begin < s.kh && b.y0 + b.ky_begin * s.dh < 0) ++b.ky_begin;
    while (b.ky_end > b.ky_begin && b.y0 + (b.ky_end - 1) * s.dh >= s.h) --b.ky_end;
    const int64_t span = ((wide ? kColumns : kNarrow) - 1) * s.sw + s.kw;
    const bool checked = b.x0 < 0 || b.x0 + span > s.w;
    const BlockFn* const fn = block_[!wide][checked];
    EpilogueBlock e{acc, kChannels, columns, 0, nullptr, nullptr, args.ldr, nullptr, ldy};
    for (int64_t c = 0; c < s.oc; c += kChannels) {
      b.x = args.x + n * s.h * s.w * s.ldx + c;
      b.weight = args.weight + c * s.kh * s.kw;
      e.cols = smaller(s.oc - c, kChannels);
      b.mask = mask32(e.cols);
      const bool half = e.cols <= 16;
      fn[half](b, acc);
      e.acc_ld = half ? 16 : kChannels;
      if (args.bias) e.bias = args.bias + c;
      if (args.residual) e.residual = args.residual + p * args.ldr + c;
      e.y = y + (p - begin) * ldy + c;
      (half ? finish_half_ : finish_)(epilogue_, e);
    }
    p += columns;
  }
}

}  // namespace trireme::cpu::bf16
