// The maps of a DB detector: steps and rounding are PaddleOCR's.
#include "train/db_maps.h"

#include <algorithm>
#include <clipper.hpp>
#include <cmath>
#include <opencv2/imgproc.hpp>

namespace trireme::train {
namespace {

using Pixels = std::vector<cv::Point>;

struct Measures {
  double area = 0, perimeter = 0;
};

Measures measure(const Outline& outline) {
  Measures m;
  for (size_t i = 0; i < outline.size(); ++i) {
    const cv::Point2f &a = outline[i], &b = outline[(i + 1) % outline.size()];
    m.area += (static_cast<double>(a.x) * b.y - static_cast<double>(b.x) * a.y) / 2;
    m.perimeter += std::hypot(static_cast<double>(a.x) - b.x, static_cast<double>(a.y) - b.y);
  }
  m.area = std::abs(m.area);
  return m;
}

double distance_of(const Measures& m, double ratio) {
  return m.perimeter > 0 ? m.area * (1 - ratio * ratio) / m.perimeter : 0;
}

// The outline moved outwards by `distance` (inwards: negative).
std::vector<Pixels> moved(const Outline& outline, double distance) {
  ClipperLib::Path path;
  for (const cv::Point2f& p : outline)
    path.emplace_back(static_cast<ClipperLib::cInt>(p.x), static_cast<ClipperLib::cInt>(p.y));
  ClipperLib::ClipperOffset offset;
  offset.AddPath(path, ClipperLib::jtRound, ClipperLib::etClosedPolygon);
  ClipperLib::Paths pieces;
  offset.Execute(pieces, distance);
  std::vector<Pixels> all;
  for (const ClipperLib::Path& piece : pieces) {
    Pixels& pixels = all.emplace_back();
    for (const auto& p : piece) pixels.emplace_back(static_cast<int>(p.X), static_cast<int>(p.Y));
  }
  return all;
}

// Less is cut off, step by step, until one piece is left.
Pixels core_of(const Outline& outline, double shrink_ratio) {
  const Measures m = measure(outline);
  for (double ratio = shrink_ratio; m.area > 0; ratio = std::min(1.0, ratio + shrink_ratio)) {
    std::vector<Pixels> pieces = moved(outline, -distance_of(m, ratio));
    if (pieces.size() == 1) return std::move(pieces[0]);
    if (ratio >= 1) break;
  }
  return {};
}

Pixels rounded_down(const Outline& outline) {
  Pixels pixels;
  for (const cv::Point2f& p : outline)
    pixels.emplace_back(static_cast<int>(p.x), static_cast<int>(p.y));
  return pixels;
}

void fill(cv::Mat& map, const Pixels& outline, float value) {
  cv::fillPoly(map, std::vector<Pixels>{outline}, cv::Scalar(value));
}

// From the line through a and b; of the nearer of both for points outside of the circle over them.
double edge_distance(double x, double y, const cv::Point2f& a, const cv::Point2f& b) {
  const double to_a = (x - a.x) * (x - a.x) + (y - a.y) * (y - a.y);
  const double to_b = (x - b.x) * (x - b.x) + (y - b.y) * (y - b.y);
  const double between = (static_cast<double>(a.x) - b.x) * (static_cast<double>(a.x) - b.x) +
                         (static_cast<double>(a.y) - b.y) * (static_cast<double>(a.y) - b.y);
  if (to_a + to_b > between) return std::sqrt(std::min(to_a, to_b));
  const double twice_area = (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
  return between > 0 ? std::abs(twice_area) / std::sqrt(between) : std::sqrt(to_a);
}

// Raises the map to 1 at the outline's edge, to 0 at `distance` from it.
void draw_border(DbMaps& maps, const Outline& outline, double ratio) {
  const double distance = distance_of(measure(outline), ratio);
  const std::vector<Pixels> pieces = moved(outline, distance);
  if (distance <= 0 || pieces.empty()) return;
  fill(maps.threshold_mask, pieces[0], 1);
  const cv::Rect box =
      cv::boundingRect(pieces[0]) & cv::Rect(0, 0, maps.threshold.cols, maps.threshold.rows);
  for (int y = box.y; y < box.br().y; ++y) {
    float* row = maps.threshold.ptr<float>(y);
    for (int x = box.x; x < box.br().x; ++x) {
      double nearest = 1;
      for (size_t i = 0; i < outline.size(); ++i)
        nearest = std::min(
            nearest, edge_distance(x, y, outline[i], outline[(i + 1) % outline.size()]) / distance);
      row[x] = std::max(row[x], static_cast<float>(1 - nearest));
    }
  }
}

bool too_small(const Outline& outline, int least) {
  float left = outline[0].x, right = left, top = outline[0].y, low = top;
  for (const cv::Point2f& p : outline) {
    left = std::min(left, p.x);
    right = std::max(right, p.x);
    top = std::min(top, p.y);
    low = std::max(low, p.y);
  }
  return std::min(right - left, low - top) < static_cast<float>(least);
}

}  // namespace

DbMaps db_maps(const std::vector<Outline>& outlines, std::vector<uint8_t>& ignored, cv::Size size,
               const DbMapRules& rules) {
  DbMaps maps{cv::Mat::zeros(size, CV_32F), cv::Mat::ones(size, CV_32F),
              cv::Mat::zeros(size, CV_32F), cv::Mat::zeros(size, CV_32F)};
  for (size_t i = 0; i < outlines.size(); ++i) {
    const Outline& outline = outlines[i];
    Pixels core;
    if (ignored[i] == 0 && !too_small(outline, rules.min_text_size))
      core = core_of(outline, rules.shrink_ratio);
    if (core.empty()) {
      ignored[i] = 1;
      fill(maps.shrink_mask, rounded_down(outline), 0);
      continue;
    }
    fill(maps.shrink, core, 1);
    draw_border(maps, outline, rules.shrink_ratio);
  }
  maps.threshold =
      maps.threshold * (rules.max_threshold - rules.min_threshold) + rules.min_threshold;
  return maps;
}

}  // namespace trireme::train
