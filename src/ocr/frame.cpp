// The limits are RapidOCR's, so that both see the same pixels.
#include "ocr/frame.h"

#include <cmath>
#include <opencv2/imgproc.hpp>

namespace trireme::ocr {
namespace {

constexpr int kMaxSide = 2000, kMinSide = 30, kMinHeight = 30, kMaxAspect = 8;

void scale(Frame& frame, double ratio) {
  const auto round = [&](int side) {
    return std::max(32, static_cast<int>(std::nearbyint(std::floor(side * ratio) / 32)) * 32);
  };
  const cv::Size from = frame.picture.size(), to(round(from.width), round(from.height));
  cv::Mat scaled;
  cv::resize(frame.picture, scaled, to);
  frame.picture = scaled;
  frame.scale_x *= static_cast<double>(from.width) / to.width;
  frame.scale_y *= static_cast<double>(from.height) / to.height;
}

}  // namespace

Frame frame_of(const Image& image) {
  const auto bytes = static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3;
  TRI_CHECK(image.width > 0 && image.height > 0 && image.bgr.size() == bytes,
            "[ocr] the pixels do not fill " + std::to_string(image.width) + " x " +
                std::to_string(image.height));
  Frame frame;
  frame.width = image.width;
  frame.height = image.height;
  frame.picture =
      cv::Mat(image.height, image.width, CV_8UC3, const_cast<uint8_t*>(image.bgr.data()));
  const int longest = std::max(image.width, image.height);
  if (longest > kMaxSide) scale(frame, static_cast<double>(kMaxSide) / longest);
  const int shortest = std::min(frame.picture.cols, frame.picture.rows);
  const int longer = std::max(frame.picture.cols, frame.picture.rows);
  if (shortest < kMinSide)  // but a hair of 1 x 2000 must not become 60,000 pixels long
    scale(frame, std::min(static_cast<double>(kMinSide) / shortest,
                          std::max(1.0, 1.0 * kMaxSide / longer)));

  const int width = frame.picture.cols, height = frame.picture.rows;
  if (height > kMinHeight && width <= kMaxAspect * height) return frame;
  frame.margin = std::abs(std::max(width / kMaxAspect, kMinHeight) * 2 - height) / 2;
  cv::Mat padded;
  cv::copyMakeBorder(frame.picture, padded, frame.margin, frame.margin, 0, 0, cv::BORDER_CONSTANT);
  frame.picture = padded;
  return frame;
}

Box Frame::to_original(const Box& box) const {
  Box result = box;
  for (Point& p : result) {
    p.x = std::clamp(static_cast<float>(p.x * scale_x), 0.0f, static_cast<float>(width));
    p.y = std::clamp(static_cast<float>((p.y - static_cast<float>(margin)) * scale_y), 0.0f,
                     static_cast<float>(height));
  }
  return result;
}

}  // namespace trireme::ocr
