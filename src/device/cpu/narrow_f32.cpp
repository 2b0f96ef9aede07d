// Narrow transposed convolutions: geometry, weights, threads.
#include "device/cpu/narrow_f32.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"

namespace trireme::cpu::f32 {
namespace {

constexpr int64_t kWidest = 32;

int64_t padded(int64_t width) { return (width + 15) / 16 * 16; }

class Narrow final : public Conv {
 public:
  explicit Narrow(const ConvSpec& s)
      : spec_(s), image_{s.h, s.w, s.ic, s.ldx, s.oc, s.kh, s.kw * s.oc, s.ow * s.oc} {}

  size_t scratch_bytes() const override { return 0; }

  void run(const ConvArgs& args) const override {
    const int64_t out = spec_.oh * image_.row, in = spec_.h * spec_.w * spec_.ldx;
    const int64_t work = spec_.h * spec_.w * spec_.ic * spec_.kh * 2;
    parallel_for(spec_.n, std::max<int64_t>(1, 16384 / work), [&](int64_t begin, int64_t end, int) {
      for (int64_t n = begin; n < end; ++n) {
        float* y = static_cast<float*>(args.y) + n * out;
        if (args.bias == nullptr) std::memset(y, 0, static_cast<size_t>(out) * sizeof(float));
        else
          for (int64_t i = 0; i < out; i += spec_.oc) std::copy_n(args.bias, spec_.oc, y + i);
        narrow_image(image_, static_cast<const float*>(args.x) + n * in,
                     static_cast<const float*>(args.weight), y);
      }
    });
  }

 private:
  ConvSpec spec_;
  NarrowImage image_;
};

}  // namespace

bool is_narrow(const ConvSpec& s) {
  return s.dtype == DType::kFloat32 && s.transposed && s.groups == 1 && s.oc <= 8 &&
         s.kw * s.oc <= kWidest && s.kh * s.kw > 1 && s.sh == 1 && s.sw == 1 && s.dh == 1 &&
         s.dw == 1 && s.top == 0 && s.left == 0 && !s.x_planar;
}

std::unique_ptr<Conv> make_narrow(const ConvSpec& s, const Epilogue& e) {
  const bool plain =
      e.act == Act::kNone && e.residual == Epilogue::kNone && e.scale == 1 && e.shift == 0;
  if (!plain || s.ldy != s.oc || s.oh < s.h + s.kh - 1 || s.ow < s.w + s.kw - 1) return nullptr;
  return std::make_unique<Narrow>(s);
}

size_t narrow_packed_bytes(const ConvSpec& s) {
  return static_cast<size_t>(s.kh * s.ic * padded(s.kw * s.oc)) * sizeof(float);
}

void narrow_pack(const ConvSpec& s, const float* weight, void* packed) {
  float* to = static_cast<float*>(packed);
  const int64_t width = padded(s.kw * s.oc);
  std::memset(packed, 0, narrow_packed_bytes(s));
  for (int64_t c = 0; c < s.ic; ++c)
    for (int64_t o = 0; o < s.oc; ++o)
      for (int64_t ky = 0; ky < s.kh; ++ky)
        for (int64_t kx = 0; kx < s.kw; ++kx)
          to[(ky * s.ic + c) * width + kx * s.oc + o] =
              weight[((c * s.oc + o) * s.kh + ky) * s.kw + kx];
}

}  // namespace trireme::cpu::f32
