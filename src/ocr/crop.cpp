// Perspective crops. A box along the axes needs none: the warp would move whole pixels only.
#include "ocr/crop.h"

#include <cmath>
#include <opencv2/imgproc.hpp>

#include "image/db_boxes.h"

namespace trireme::ocr {
namespace {

constexpr double kColumn = 1.5;

bool along_axes(const Box& box) {
  return box[0].y == box[1].y && box[2].y == box[3].y && box[0].x == box[3].x &&
         box[1].x == box[2].x;
}

bool whole(const Box& box) {
  for (const Point& p : box)
    if (p.x != std::floor(p.x) || p.y != std::floor(p.y)) return false;
  return true;
}

cv::Mat warp(const cv::Mat& picture, const Box& box, cv::Size size) {
  std::array<cv::Point2f, 4> from;
  for (size_t i = 0; i < 4; ++i) from[i] = {box[i].x, box[i].y};
  const auto width = static_cast<float>(size.width), height = static_cast<float>(size.height);
  const std::array<cv::Point2f, 4> to{cv::Point2f{0, 0}, {width, 0}, {width, height}, {0, height}};
  const cv::Mat transform = cv::getPerspectiveTransform(from.data(), to.data());
  cv::Mat line;
  cv::warpPerspective(picture, line, transform, size, cv::INTER_CUBIC, cv::BORDER_REPLICATE);
  return line;
}

}  // namespace

cv::Mat crop(const cv::Mat& picture, const Box& box) {
  const cv::Size size(
      static_cast<int>(std::max(distance(box[0], box[1]), distance(box[2], box[3]))),
      static_cast<int>(std::max(distance(box[0], box[3]), distance(box[1], box[2]))));
  const cv::Rect area(cv::Point(static_cast<int>(box[0].x), static_cast<int>(box[0].y)), size);
  const bool inside = (area & cv::Rect({0, 0}, picture.size())) == area;
  cv::Mat line = along_axes(box) && whole(box) && inside ? picture(area) : warp(picture, box, size);
  if (line.rows < kColumn * line.cols) return line;
  cv::Mat turned;
  cv::rotate(line, turned, cv::ROTATE_90_COUNTERCLOCKWISE);
  return turned;
}

cv::Mat scale_line(const cv::Mat& line, int height, int max_width) {
  const double ratio = static_cast<double>(line.cols) / line.rows;
  const int width = std::clamp(static_cast<int>(std::ceil(height * ratio)), 1, max_width);
  cv::Mat scaled;
  cv::resize(line, scaled, {width, height});
  return scaled;
}

}  // namespace trireme::ocr
