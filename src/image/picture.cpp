// Picture: decodes what is wanted of a file, and makes floats in one pass.
#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "image/jpeg.h"
#include "image/pixels.h"

namespace trireme::vision {
namespace {

int reduction_for(const Region& region, const Size& smallest) {
  int reduction = 1;
  while (reduction < 8 && region.width / (reduction * 2) >= smallest.width &&
         region.height / (reduction * 2) >= smallest.height)
    reduction *= 2;
  return reduction;
}

// Colours of a file that only decode_image reads.
cv::Mat decode_whole(Bytes file, Colour colour, int64_t max_pixels) {
  Image image = decode_image(file, max_pixels);
  const cv::Mat bgr(image.height, image.width, CV_8UC3, image.bgr.data());
  return colour == Colour::kBgr ? bgr.clone() : convert(bgr, Colour::kBgr, colour);
}

float of_channel(std::span<const float> values, int channel) {
  return values[values.size() == 1 ? 0 : static_cast<size_t>(channel)];
}

}  // namespace

Picture::Picture(std::vector<uint8_t> file, Colour colour, int64_t max_pixels)
    : file_(std::move(file)), colour_(colour), max_pixels_(max_pixels) {
  if (is_jpeg(file_)) {
    const JpegHeader header = jpeg_header(file_, max_pixels);
    size_ = {header.width, header.height};
    if (header.orientation >= 5) std::swap(size_.width, size_.height);
    if (!header.inks) return;
  }
  set(array_of(decode_whole(file_, colour, max_pixels)));
}

Picture::Picture(Array pixels, Colour colour) : colour_(colour) { set(std::move(pixels)); }

void Picture::set(Array pixels) {
  const cv::Mat matrix = matrix_of(pixels);
  TRI_CHECK(!pending_, "[vision] these pixels are floats already");
  size_ = {matrix.cols, matrix.rows};
  if (matrix.channels() == 1) colour_ = Colour::kGray;
  else TRI_CHECK(colour_ != Colour::kGray, "[vision] expected grey pixels, got colours");
  pixels_ = std::move(pixels);
  file_ = {};
}

namespace {

cv::Mat decode_part(Bytes file, const Region& region, const Size& smallest, Colour colour,
                    int64_t max_pixels) {
  const JpegHeader header = jpeg_header(file, max_pixels);
  const Region stored = stored_region(region, header.orientation, header.width, header.height);
  const int reduction = reduction_for(region, smallest);
  return upright(decode_jpeg_part(file, stored, reduction, colour, max_pixels), header.orientation);
}

}  // namespace

Array& Picture::bytes_wanted() {
  TRI_CHECK(!is_float(), "[vision] expected 8-bit pixels: put this before ToTensor and Normalize");
  if (!file_.empty()) {
    const Region all{0, 0, size_.width, size_.height};
    set(array_of(decode_part(file_, all, size_, colour_, max_pixels_)));
  }
  TRI_CHECK(pixels_.defined(), "[vision] an empty picture");
  return pixels_;
}

void Picture::crop_and_resize(const Region& region, const Size& size, Interpolation interpolation) {
  TRI_CHECK(region.x >= 0 && region.y >= 0 && region.width > 0 && region.height > 0 &&
                region.x <= size_.width - region.width && region.y <= size_.height - region.height,
            "[crop] " + std::to_string(region.width) + " x " + std::to_string(region.height) +
                " at (" + std::to_string(region.x) + ", " + std::to_string(region.y) +
                ") reaches out of a picture of " + std::to_string(size_.width) + " x " +
                std::to_string(size_.height));
  const cv::Mat part =
      file_.empty()
          ? matrix_of(bytes_wanted())(cv::Rect(region.x, region.y, region.width, region.height))
          : decode_part(file_, region, size, colour_, max_pixels_);
  set(array_of(resize(part, size, interpolation)));
}

void Picture::to_float(float scale, std::span<const float> mean, std::span<const float> deviation,
                       bool channels_first) {
  const auto fits = [&](std::span<const float> values) {
    return values.size() == 1 || values.size() == static_cast<size_t>(channels());
  };
  TRI_CHECK(fits(mean) && fits(deviation), "[normalize] expected one mean and deviation, or " +
                                               std::to_string(channels()) + ", got " +
                                               std::to_string(mean.size()) + " and " +
                                               std::to_string(deviation.size()));
  for (const float d : deviation) TRI_CHECK(d != 0, "[normalize] a deviation is zero");
  if (is_float() && !pending_) {  // a later step has touched the floats
    float* values = pixels_.as<float>();
    const int64_t plane = static_cast<int64_t>(size_.width) * size_.height;
    for (int64_t i = 0; i < pixels_.numel(); ++i) {
      const int c = static_cast<int>(channels_first_ ? i / plane : i % channels());
      values[i] = (values[i] * scale - of_channel(mean, c)) / of_channel(deviation, c);
    }
    return;
  }
  if (!pending_) {
    bytes_wanted();
    std::fill_n(affine_.factor, 3, 1.0f);
    std::fill_n(affine_.offset, 3, 0.0f);
    channels_first_ = channels_first;
    pending_ = true;
  }
  for (int c = 0; c < channels(); ++c) {
    const float d = of_channel(deviation, c);
    affine_.factor[c] *= scale / d;
    affine_.offset[c] = (affine_.offset[c] * scale - of_channel(mean, c)) / d;
  }
}

void Picture::transpose(const std::array<int, 3>& order) {
  constexpr std::array<int, 3> kPlain{0, 1, 2};
  TRI_CHECK(std::is_permutation(order.begin(), order.end(), kPlain.begin()),
            "[transpose] order expects a permutation of 0, 1, 2");
  const bool planes = is_float() && channels_first_;
  const int channel = planes ? 0 : 2;
  TRI_CHECK(order[1] != channel, "[transpose] channels between rows and columns are not supported");
  const int rows = order[0] == channel ? order[1] : order[0];  // the axis that becomes them
  const bool turned = rows != (planes ? 1 : 0), first = order[0] == channel;
  if (!is_float()) {
    if (turned) {
      cv::Mat swapped;
      cv::transpose(matrix_of(bytes_wanted()), swapped);
      set(array_of(swapped));
    }
    const float zero = 0, one = 1;
    if (first) to_float(1, {&zero, 1}, {&one, 1});
    return;
  }
  const Array from = pixels();
  const Shape& old = from.shape();
  int64_t strides[3] = {old[1] * old[2], old[2], 1};
  Array to(DType::kFloat32, {old[order[0]], old[order[1]], old[order[2]]});
  float* next = to.as<float>();
  const auto axis = [&](size_t k) { return std::pair(old[order[k]], strides[order[k]]); };
  const auto [n0, s0] = axis(0);
  const auto [n1, s1] = axis(1);
  const auto [n2, s2] = axis(2);
  for (int64_t i = 0; i < n0; ++i)
    for (int64_t j = 0; j < n1; ++j)
      for (int64_t k = 0; k < n2; ++k) *next++ = from.as<float>()[i * s0 + j * s1 + k * s2];
  if (turned) std::swap(size_.width, size_.height);
  channels_first_ = first;
  pixels_ = std::move(to);
}

Array& Picture::pixels() {
  if (!pending_) return is_float() ? pixels_ : bytes_wanted();
  const int64_t count = static_cast<int64_t>(size_.width) * size_.height, n = channels();
  const uint8_t* from = pixels_.as<uint8_t>();
  Array floats(DType::kFloat32, channels_first_ ? Shape{n, size_.height, size_.width}
                                                : Shape{size_.height, size_.width, n});
  float* to = floats.as<float>();
  if (channels_first_) {
    planar_floats(from, count, channels(), affine_.factor, affine_.offset, to);
  } else {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < n; ++c)
        to[i * n + c] = static_cast<float>(from[i * n + c]) * affine_.factor[c] + affine_.offset[c];
  }
  pixels_ = std::move(floats);
  pending_ = false;
  return pixels_;
}

}  // namespace trireme::vision
