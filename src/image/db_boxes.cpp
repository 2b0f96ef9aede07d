// DB post-processing; steps, rounding and order are PaddleOCR's, so that boxes agree to the pixel.
#include "image/db_boxes.h"

#include <algorithm>
#include <clipper.hpp>
#include <cmath>
#include <opencv2/imgproc.hpp>

namespace trireme::ocr {
namespace {

constexpr size_t kMaxCandidates = 1000;
constexpr float kMinSide = 3;  // of a box, in pixels of the map
constexpr int kMinPictureSide = 3;
constexpr float kSameLine = 10;

float mean_inside(const cv::Mat& map, const Box& box) {
  float left = box[0].x, right = left, top = box[0].y, bottom = top;
  for (const Point& p : box) {
    left = std::min(left, p.x);
    right = std::max(right, p.x);
    top = std::min(top, p.y);
    bottom = std::max(bottom, p.y);
  }
  const auto column = [&](float x) { return std::clamp(static_cast<int>(x), 0, map.cols - 1); };
  const auto row = [&](float y) { return std::clamp(static_cast<int>(y), 0, map.rows - 1); };
  const int x0 = column(std::floor(left)), x1 = column(std::ceil(right));
  const int y0 = row(std::floor(top)), y1 = row(std::ceil(bottom));
  std::array<cv::Point, 4> corners;
  for (size_t i = 0; i < 4; ++i)
    corners[i] = {static_cast<int>(box[i].x - static_cast<float>(x0)),
                  static_cast<int>(box[i].y - static_cast<float>(y0))};
  cv::Mat mask = cv::Mat::zeros(y1 - y0 + 1, x1 - x0 + 1, CV_8U);
  cv::fillPoly(mask, std::vector<std::vector<cv::Point>>{{corners.begin(), corners.end()}},
               cv::Scalar(1));
  return static_cast<float>(cv::mean(map(cv::Rect(x0, y0, mask.cols, mask.rows)), mask)[0]);
}

// From pixels of the map to whole pixels of the picture.
Box to_picture(Box box, const cv::Mat& map, int width, int height) {
  const auto fit = [](float value, float from, int to) {
    return std::clamp(std::nearbyint(value / from * static_cast<float>(to)), 0.0f,
                      static_cast<float>(to));
  };
  for (Point& p : box) {
    p.x = fit(p.x, static_cast<float>(map.cols), width);
    p.y = fit(p.y, static_cast<float>(map.rows), height);
  }
  return box;
}

Box clockwise(Box box) {
  std::stable_sort(box.begin(), box.end(),
                   [](const Point& a, const Point& b) { return a.x < b.x; });
  const auto higher = [](const Point& a, const Point& b) { return a.y < b.y; };
  std::stable_sort(box.begin(), box.begin() + 2, higher);
  std::stable_sort(box.begin() + 2, box.end(), higher);
  return {box[0], box[2], box[3], box[1]};
}

// Finishes a box: corners in order and inside the picture. False when too little of it is left.
bool finish(Box& box, int width, int height) {
  box = clockwise(box);
  for (Point& p : box) {
    p.x = std::clamp(p.x, 0.0f, static_cast<float>(width - 1));
    p.y = std::clamp(p.y, 0.0f, static_cast<float>(height - 1));
  }
  return static_cast<int>(distance(box[0], box[1])) > kMinPictureSide &&
         static_cast<int>(distance(box[0], box[3])) > kMinPictureSide;
}

}  // namespace

float distance(const Point& a, const Point& b) { return std::hypot(a.x - b.x, a.y - b.y); }

Rectangle rectangle_around(const std::vector<cv::Point>& points) {
  const cv::RotatedRect around = cv::minAreaRect(points);
  std::array<cv::Point2f, 4> corner;
  around.points(corner.data());
  std::stable_sort(corner.begin(), corner.end(),
                   [](const auto& a, const auto& b) { return a.x < b.x; });
  if (!(corner[1].y > corner[0].y)) std::swap(corner[0], corner[1]);  // left: top, bottom
  if (!(corner[3].y > corner[2].y)) std::swap(corner[2], corner[3]);  // right: top, bottom
  const auto point = [](const cv::Point2f& p) { return Point{p.x, p.y}; };
  return {{point(corner[0]), point(corner[2]), point(corner[3]), point(corner[1])},
          std::min(around.size.width, around.size.height)};
}

std::vector<cv::Point> unclip(const Box& box, float ratio) {
  double twice_area = 0, perimeter = 0;
  ClipperLib::Path path;
  for (size_t i = 0; i < 4; ++i) {
    const Point &a = box[i], &b = box[(i + 1) % 4];
    twice_area += static_cast<double>(a.x) * b.y - static_cast<double>(b.x) * a.y;
    perimeter += std::hypot(static_cast<double>(a.x) - b.x, static_cast<double>(a.y) - b.y);
    path.emplace_back(static_cast<ClipperLib::cInt>(a.x), static_cast<ClipperLib::cInt>(a.y));
  }
  if (perimeter <= 0) return {};
  ClipperLib::ClipperOffset offset;
  offset.AddPath(path, ClipperLib::jtRound, ClipperLib::etClosedPolygon);
  ClipperLib::Paths pieces;
  offset.Execute(pieces, std::abs(twice_area) / 2 * ratio / perimeter);
  if (pieces.size() != 1) return {};
  std::vector<cv::Point> outline;
  for (const auto& p : pieces[0])
    outline.emplace_back(static_cast<int>(p.X), static_cast<int>(p.Y));
  return outline;
}

std::vector<Candidate> boxes_from_map(const cv::Mat& map, int width, int height,
                                      const BoxRules& rules) {
  cv::Mat mask;
  cv::compare(map, rules.threshold, mask, cv::CMP_GT);
  if (rules.dilate) cv::dilate(mask, mask, cv::Mat::ones(2, 2, CV_8U));
  std::vector<std::vector<cv::Point>> contours;
  cv::findContours(mask, contours, cv::RETR_LIST, cv::CHAIN_APPROX_SIMPLE);

  std::vector<Candidate> found;
  for (size_t i = 0; i < std::min(contours.size(), kMaxCandidates); ++i) {
    const Rectangle core = rectangle_around(contours[i]);
    if (core.short_side < kMinSide) continue;
    const float score = mean_inside(map, core.corners);
    if (rules.box_threshold > score) continue;
    const std::vector<cv::Point> outline = unclip(core.corners, rules.unclip_ratio);
    if (outline.empty()) continue;
    const Rectangle grown = rectangle_around(outline);
    if (grown.short_side < kMinSide + 2) continue;
    Candidate candidate{to_picture(grown.corners, map, width, height), score};
    if (finish(candidate.box, width, height)) found.push_back(candidate);
  }
  return found;
}

void sort_in_reading_order(std::vector<Candidate>& boxes) {
  const auto top_left = [](const Candidate& c) { return c.box[0]; };
  std::stable_sort(boxes.begin(), boxes.end(), [&](const Candidate& a, const Candidate& b) {
    return top_left(a).y != top_left(b).y ? top_left(a).y < top_left(b).y
                                          : top_left(a).x < top_left(b).x;
  });
  for (size_t i = 1; i < boxes.size(); ++i) {
    for (size_t j = i; j > 0; --j) {
      const Point before = top_left(boxes[j - 1]), here = top_left(boxes[j]);
      if (std::abs(here.y - before.y) >= kSameLine || here.x >= before.x) break;
      std::swap(boxes[j - 1], boxes[j]);
    }
  }
}

}  // namespace trireme::ocr
