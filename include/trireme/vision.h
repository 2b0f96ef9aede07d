// Pictures: reading, writing, and a Picture that decodes no more of a file than is wanted.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trireme/array.h"

namespace trireme::vision {

// An 8-bit picture, rows top to bottom, channels interleaved B, G, R (as OpenCV and PaddleOCR have
// it).
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> bgr;  // height * width * 3
};

constexpr int64_t kMaxPixels = 100'000'000;

// JPEG, PNG, WebP or BMP, by content. EXIF orientation is honoured, an alpha channel is laid over
// white, palettes and grey are expanded. Throws kInvalidArgument for damaged data,
// kResourceExhausted over `max_pixels`.
Image decode_image(std::span<const uint8_t> bytes, int64_t max_pixels = kMaxPixels);
Image read_image(const std::string& path, int64_t max_pixels = kMaxPixels);
void write_png(const std::string& path, const Image& image);

enum class Colour : uint8_t { kRgb, kBgr, kGray };

// `pixels` is uint8 [H, W, 3] in this order of colours, or [H, W, 1]. Quality 1 to 100.
std::vector<uint8_t> encode_jpeg(const Array& pixels, Colour colour, int quality = 90);
void write_jpeg(const std::string& path, const Image& image, int quality = 90);

struct Size {
  int width = 0, height = 0;
};
struct Region {  // in pixels from the top left
  int x = 0, y = 0, width = 0, height = 0;
};

// Paddle's names. Reductions by 2 and more with kBilinear and kBicubic first take means of 2^n x
// 2^n pixels, so that fine patterns do not turn into coarse ones.
enum class Interpolation : uint8_t { kNearest, kBilinear, kArea, kBicubic, kLanczos };

// A picture on its way through transforms: the bytes of a file until pixels are wanted, then uint8
// [H, W, C], at last perhaps float32 [C, H, W] or [H, W, C]. One thread at a time. Functions throw
// as decode_image does; those that need 8-bit pixels throw kInvalidArgument after to_float.
class Picture {
 public:
  Picture() = default;
  // Upright sizes are read from the header alone where the format allows (JPEG).
  Picture(std::vector<uint8_t> file, Colour colour, int64_t max_pixels = kMaxPixels);
  Picture(Array pixels, Colour colour);  // uint8 [H, W, C]; the memory is shared

  int width() const { return size_.width; }
  int height() const { return size_.height; }
  int channels() const { return colour_ == Colour::kGray ? 1 : 3; }
  Colour colour() const { return colour_; }
  bool channels_first() const { return channels_first_; }  // of floats
  bool is_float() const {
    return pending_ || (pixels_.defined() && pixels_.dtype() == DType::kFloat32);
  }

  // The pixels so far; decodes the file, and makes the floats that to_float asked for.
  Array& pixels();
  // uint8 [H, W, C] with 1 or 3 channels, in colour(), or grey.
  void set(Array pixels);

  // A part of the picture (inside it) scaled to `size`. Of a JPEG still in its file only the part
  // is decoded, at 1/2, 1/4 or 1/8 of its size where that is large enough.
  void crop_and_resize(const Region& region, const Size& size, Interpolation interpolation);

  // x -> (x * scale - mean) / deviation, 8-bit pixels (scale 1 or 1/255) or floats; one value for
  // all channels or one a channel. The result is float32: [C, H, W], or [H, W, C]. Calls in a row
  // are done in one pass, by pixels().
  void to_float(float scale, std::span<const float> mean, std::span<const float> deviation,
                bool channels_first = true);

  // Axis k of the result is axis order[k] of the pixels. With channels first the result is float32,
  // of the same values; channels in the middle are refused (kInvalidArgument), as is what is no
  // permutation of 0, 1, 2.
  void transpose(const std::array<int, 3>& order);

 private:
  struct Affine {
    float factor[3], offset[3];
  };
  Array& bytes_wanted();  // decoded, not yet float

  std::vector<uint8_t> file_;
  Array pixels_;
  Size size_;
  Colour colour_ = Colour::kRgb;
  int64_t max_pixels_ = kMaxPixels;
  bool pending_ = false;  // pixels_ are bytes that become floats by affine_
  bool channels_first_ = true;
  Affine affine_{};
};

// dst[c][i] = src[i][c] * factor[c] + offset[c]: 8-bit pixels of 1 or 3 channels to float planes.
void planar_floats(const uint8_t* pixels, int64_t count, int channels, const float* factor,
                   const float* offset, float* planes);

}  // namespace trireme::vision
