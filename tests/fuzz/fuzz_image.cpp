// Fuzzes decode_image and parts of pictures: any bytes give a picture or an Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "trireme/error.h"
#include "trireme/vision.h"

namespace {

// A part of the same file, scaled down, as the augmentations take it.
void cut(const uint8_t* data, size_t size, int64_t max_pixels) {
  namespace vision = trireme::vision;
  vision::Picture picture({data, data + size}, vision::Colour::kRgb, max_pixels);
  const int width = picture.width(), height = picture.height();
  const vision::Region region{width / 3, height / 4, (width + 1) / 2, (height + 1) / 2};
  picture.crop_and_resize(region, {7, 5}, vision::Interpolation::kBilinear);
  if (picture.pixels().numel() != 7 * 5 * 3) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kMaxPixels = 1 << 20;
  try {
    const trireme::vision::Image image = trireme::vision::decode_image({data, size}, kMaxPixels);
    const auto pixels = static_cast<size_t>(image.width) * static_cast<size_t>(image.height);
    if (pixels == 0 || image.bgr.size() != pixels * 3) std::abort();
    cut(data, size, kMaxPixels);
  } catch (const trireme::Error& e) {
    if (e.code() == trireme::Code::kInternal) std::abort();
  }
  return 0;
}
