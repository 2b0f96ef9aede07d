// WebP, lossy and lossless, with libwebp.
#include <cstring>

#include <webp/decode.h>

#include "image/decode.h"

namespace trireme::vision {
namespace {

uint32_t little32(Bytes file, size_t at) {
  return file[at] | file[at + 1] << 8 | file[at + 2] << 16 |
         static_cast<uint32_t>(file[at + 3]) << 24;
}

int orientation_of(Bytes file) {
  for (size_t at = 12; at + 8 <= file.size();) {
    const size_t size = little32(file, at + 4);
    if (size > file.size() - at - 8) return 1;
    if (std::memcmp(file.data() + at, "EXIF", 4) == 0)
      return exif_orientation(file.subspan(at + 8, size));
    at += 8 + size + (size & 1);
  }
  return 1;
}

}  // namespace

Decoded decode_webp(Bytes file, int64_t max_pixels) {
  const char* kDamaged = "[image] damaged WebP: ";
  WebPBitstreamFeatures features{};
  TRI_CHECK(WebPGetFeatures(file.data(), file.size(), &features) == VP8_STATUS_OK,
            std::string(kDamaged) + "no readable header");
  TRI_CHECK(!features.has_animation, "[image] expected a still WebP picture, got an animation");
  const uint64_t declared = uint64_t{little32(file, 4)} + 8;
  TRI_CHECK(declared <= file.size(), std::string(kDamaged) + "it declares " +
                                         std::to_string(declared) + " bytes, the file has " +
                                         std::to_string(file.size()));
  const int64_t width = features.width, height = features.height;
  Decoded result{blank_image("WebP", width, height, max_pixels), orientation_of(file)};
  uint8_t* bgr = result.image.bgr.data();
  const auto pixels = static_cast<size_t>(width * height);
  bool done = false;
  if (!features.has_alpha) {
    done =
        WebPDecodeBGRInto(file.data(), file.size(), bgr, pixels * 3, features.width * 3) != nullptr;
  } else {
    std::vector<uint8_t> bgra(pixels * 4);
    done = WebPDecodeBGRAInto(file.data(), file.size(), bgra.data(), bgra.size(),
                              features.width * 4) != nullptr;
    if (done) blend_over_white(bgra.data(), bgr, width * height);
  }
  TRI_CHECK(done, std::string(kDamaged) + "its pixels cannot be decoded");
  return result;
}

}  // namespace trireme::vision
