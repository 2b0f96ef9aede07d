// Copies of small pictures with zeros around them.
#include "device/cpu/padded_bf16_amx.h"

#include <cstring>

#include "device/cpu/bf16_math_amx.h"

namespace trireme::cpu::bf16 {

bool worth_padding(const ConvSpec& s, const KLayout& k, int64_t threads) {
  const bool same = s.kh == 3 && s.kw == 3 && s.sh == 1 && s.sw == 1 && s.dh == 1 && s.dw == 1 &&
                    s.top == 1 && s.left == 1 && s.oh == s.h && s.ow == s.w && s.groups == 1;
  const bool small = s.h >= 5 && s.w >= 5 && s.w <= 28 && padded_bytes(s, 1) <= 1 << 20;
  // Threads share out the pictures, or else the columns.
  const int64_t tiles = ceil_div(s.oc, kTile);
  const bool shared = s.n % threads == 0 || tiles >= 2 * threads;
  return same && small && shared && k.step == kMaxStep && s.ic >= 64 && tiles >= 4;
}

int64_t padded_pixels(const ConvSpec& s, int64_t images) {
  return (images * (s.h + 1) - 1) * (s.w + 1) - 1;
}

int64_t padded_bytes(const ConvSpec& s, int64_t images) {
  const int64_t around = 2 * (s.w + 2) + 1;  // a line and a pixel on either side
  return (round_up(padded_pixels(s, images), kTile) + around) * s.ic * 2;
}

void pad_pictures(const ConvSpec& s, const uint16_t* x, int64_t images, uint16_t* out) {
  const int64_t line = (s.w + 1) * s.ic;
  const auto pixel = static_cast<size_t>(s.ic) * sizeof(Bf16);
  const auto zeros = static_cast<size_t>(line) * sizeof(Bf16);
  std::memset(out, 0, zeros + pixel);
  out += line + s.ic;
  for (int64_t i = 0; i < images; ++i) {
    for (int64_t y = 0; y < s.h; ++y) {
      for (int64_t c = 0; c < s.w; ++c, x += s.ldx, out += s.ic) std::memcpy(out, x, pixel);
      std::memset(out, 0, pixel);
      out += s.ic;
    }
    std::memset(out, 0, zeros);
    out += line;
  }
}

int64_t padded_segments(const ConvSpec& s, const uint16_t* padded, int64_t at, int64_t tiles,
                        int64_t k_begin, int64_t k_end, Segment* segments) {
  const int64_t steps = s.ic / kMaxStep;  // of one tap
  int64_t count = 0;
  for (int64_t k = k_begin; k < k_end; ++count) {
    const int64_t tap = k / steps, step = k % steps;
    Segment& g = segments[count];
    g.b = k * kMaxStep * kTile * 2;
    g.steps = smaller(steps - step, k_end - k);
    const int64_t pixel = at + tap / 3 * (s.w + 1) + tap % 3;
    for (int64_t i = 0; i < tiles; ++i) {
      const Bf16* a = padded + (pixel + i * kTile) * s.ic + step * kMaxStep;
      g.a[i] = reinterpret_cast<const char*>(a);
      g.stride[i] = s.ic * 2;
    }
    k += g.steps;
  }
  return count;
}

}  // namespace trireme::cpu::bf16
