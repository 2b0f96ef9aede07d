// Transposed 2x2 to one channel: the four taps are the columns of one narrow product, so that the
// activation sees full registers.
#include "device/cpu/upsample_bf16_amx.h"

#include <cstring>

#include "device/cpu/bf16_math_amx.h"
#include "device/cpu/gather_bf16_amx.h"

namespace trireme::cpu::bf16 {
namespace {

constexpr int64_t kTaps = 4, kMaxChannels = 256, kBlock = 4 * kTile;

struct State {
  alignas(64) uint32_t weight[kMaxChannels / 2 * kTaps];  // [pair of channels][tap]
  alignas(64) float acc[kBlock * kTaps];                  // [pixel][tap]
  alignas(64) Bf16 out[kBlock * kTaps];
  alignas(64) Bf16 last[kTile * kMaxChannels];  // a copy of the picture's last pixels
  alignas(64) float bias[32];
};

// Row r of tile i at a[i] + r * stride.
void multiply_narrow(const KLayout& k, const char* const (&a)[4], const int64_t (&stride)[4],
                     State& s) {
  asm volatile("" ::: "memory");
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const auto* b = reinterpret_cast<const char*>(s.weight);
  for (int64_t i = 0; i < k.steps; ++i) {
    const int64_t at = i * k.step * 2;
    _tile_loadd(6, b + at / 4 * kTaps * 4, kTaps * 4);
    _tile_loadd(4, a[0] + at, stride[0]);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, a[1] + at, stride[1]);
    _tile_dpbf16ps(1, 5, 6);
    _tile_loadd(4, a[2] + at, stride[2]);
    _tile_dpbf16ps(2, 4, 6);
    _tile_loadd(5, a[3] + at, stride[3]);
    _tile_dpbf16ps(3, 5, 6);
  }
  _tile_stored(0, s.acc, 16);
  _tile_stored(1, s.acc + 64, 16);
  _tile_stored(2, s.acc + 128, 16);
  _tile_stored(3, s.acc + 192, 16);
}

// out holds taps (0,0) (0,1) (1,0) (1,1) of each pixel: a pair for the upper row, then one for
// the lower.
void spread_rows(const Bf16* out, int64_t pixels, Bf16* upper, Bf16* lower) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  for (int64_t i = 0; i < pixels; i += kTile) {
    const __m512i a = _mm512_load_si512(out + i * kTaps);
    const __m512i b = _mm512_load_si512(out + i * kTaps + 32);
    const __mmask16 mask = mask16(pixels - i);
    _mm512_mask_storeu_epi32(upper + 2 * i, mask, _mm512_permutex2var_epi32(a, even, b));
    _mm512_mask_storeu_epi32(lower + 2 * i, mask, _mm512_permutex2var_epi32(a, odd, b));
  }
}

}  // namespace

bool serves_upsample(const ConvSpec& s, const Epilogue& e) {
  return s.transposed && s.kh == 2 && s.kw == 2 && s.oc == 1 && s.ldy == 1 && s.groups == 1 &&
         s.ic <= kMaxChannels && k_layout(s).exact && e.residual == Epilogue::kNone;
}

Upsample::Upsample(const ConvSpec& spec, const Epilogue& epilogue)
    : spec_(spec),
      epilogue_(epilogue),
      k_(k_layout(spec)),
      finish_(find_epilogue(epilogue.act, false)) {}

void Upsample::run(const ConvArgs& args, int64_t row_begin, int64_t row_end) const {
  const ConvSpec& s = spec_;
  State state;
  const auto* packed = static_cast<const uint32_t*>(args.weight);  // pairs; one column in 16 used
  for (int64_t i = 0; i < s.ic / 2 * kTaps; ++i) {
    state.weight[i] = packed[(i % kTaps * s.ic / 2 + i / kTaps) * kTile];
  }
  for (float& b : state.bias) b = args.bias ? args.bias[0] : 0.f;
  TileScope tiles;
  tiles.use_narrow(k_.step, kTaps);
  const auto* x = static_cast<const Bf16*>(args.x);
  auto* y = static_cast<Bf16*>(args.y);
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t ix = 0; ix < s.w; ix += kBlock) {
      const int64_t pixels = smaller(kBlock, s.w - ix);
      const char* a[4];
      int64_t stride[4];
      for (int64_t i = 0; i < 4; ++i) {
        // Tiles beyond the row repeat its last one; what they give is not stored.
        const int64_t at = smaller(ix + i * kTile, (s.w - 1) / kTile * kTile);
        const Bf16* in = x + (row * s.w + at) * s.ldx;
        stride[i] = s.ldx * 2;
        if (row * s.w + at + kTile > s.n * s.h * s.w) {
          copy_tap(s, x, 0, s.ic, {row / s.h, row % s.h, at}, s.w - at, state.last);
          in = state.last, stride[i] = s.ic * 2;
        }
        a[i] = reinterpret_cast<const char*>(in);
      }
      multiply_narrow(k_, a, stride, state);
      finish_(epilogue_, {state.acc, 32, kBlock / 8, 32, state.bias, nullptr, 0, state.out, 32});
      Bf16* upper = y + 2 * row * s.ow + 2 * ix;
      spread_rows(state.out, pixels, upper, upper + s.ow);
    }
  }
}

}  // namespace trireme::cpu::bf16
