// 8-bit pixels to float planes, the last step of every picture.
#include <algorithm>

#include "trireme/vision.h"

namespace trireme::vision {

void planar_floats(const uint8_t* pixels, int64_t count, int channels, const float* factor,
                   const float* offset, float* planes) {
  if (channels == 1) {
    const float a = factor[0], b = offset[0];
    for (int64_t i = 0; i < count; ++i) planes[i] = static_cast<float>(pixels[i]) * a + b;
    return;
  }
  // Deinterleaved in blocks that stay in the first cache: the compiler makes vector code of both
  // loops, which it does not of one.
  constexpr int64_t kBlock = 256;
  alignas(64) uint8_t parted[3][kBlock];
  for (int64_t start = 0; start < count; start += kBlock) {
    const int64_t n = std::min(kBlock, count - start);
    const uint8_t* from = pixels + start * 3;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = 0; c < 3; ++c) parted[c][i] = from[3 * i + c];
    for (int64_t c = 0; c < 3; ++c) {
      float* to = planes + c * count + start;
      const float a = factor[c], b = offset[c];
      for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(parted[c][i]) * a + b;
    }
  }
}

}  // namespace trireme::vision
