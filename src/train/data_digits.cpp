// DrawnDigits: ten digits as strokes, each drawn in its own hand.
#include <array>
#include <cmath>
#include <numbers>
#include <opencv2/imgproc.hpp>

#include "image/pixels.h"
#include "train/data_files.h"

namespace trireme::vision::datasets {
namespace {

using Point = cv::Point2d;
using Stroke = std::vector<Point>;

// Part of an ellipse, in degrees clockwise from the right.
Stroke arc(Point centre, double rx, double ry, double from, double to) {
  Stroke points;
  constexpr int kSteps = 14;
  for (int i = 0; i <= kSteps; ++i) {
    const double a = (from + (to - from) * i / kSteps) * std::numbers::pi / 180;
    points.emplace_back(centre.x + rx * std::cos(a), centre.y + ry * std::sin(a));
  }
  return points;
}

// In a square from (-1, -1) to (1, 1), y downwards.
std::vector<Stroke> strokes_of(int64_t digit, RandomStream& random) {
  switch (digit) {
    case 0: return {arc({0, 0}, random.uniform(0.45, 0.65), 0.95, 0, 360)};
    case 1:
      if (random.chance(0.5)) return {{{0, -0.95}, {0, 0.95}}};
      return {{{-0.4, -0.55}, {0.05, -0.95}, {0.05, 0.95}}};
    case 2: {
      Stroke top = arc({0, -0.45}, 0.55, 0.5, 185, 400);
      top.emplace_back(-0.6, 0.9);
      top.emplace_back(0.65, 0.9);
      return {top};
    }
    case 3:
      return {arc({-0.05, -0.48}, 0.52, 0.46, 205, 450), arc({-0.05, 0.45}, 0.6, 0.5, 270, 515)};
    case 4:
      if (random.chance(0.5)) return {{{0.3, 0.95}, {0.3, -0.95}, {-0.65, 0.35}, {0.7, 0.35}}};
      return {{{-0.5, -0.9}, {-0.55, 0.1}, {0.6, 0.1}}, {{0.4, -0.9}, {0.35, 0.95}}};
    case 5: {
      Stroke belly{{0.5, -0.9}, {-0.4, -0.9}, {-0.48, -0.1}};
      for (const Point& p : arc({0, 0.35}, 0.58, 0.55, 215, 500)) belly.push_back(p);
      return {belly};
    }
    case 6: {
      Stroke tail{{0.35, -0.95}, {-0.2, -0.45}, {-0.52, 0.25}};
      for (const Point& p : arc({0, 0.42}, 0.52, 0.5, 185, 545)) tail.push_back(p);
      return {tail};
    }
    case 7:
      if (random.chance(0.3))
        return {{{-0.6, -0.9}, {0.6, -0.9}, {-0.1, 0.95}}, {{-0.3, 0}, {0.5, 0}}};
      return {{{-0.6, -0.9}, {0.6, -0.9}, {-0.1, 0.95}}};
    case 8: return {arc({0, -0.47}, 0.45, 0.46, 90, 450), arc({0, 0.46}, 0.55, 0.48, -90, 270)};
    default: {
      Stroke head = arc({0, -0.42}, 0.5, 0.5, 0, 360);
      head.emplace_back(0.48, -0.1);
      head.emplace_back(random.uniform(0.05, 0.45), 0.95);
      return {head};
    }
  }
}

// Turned, sheared, scaled, shifted; and a wave through it, as a hand makes.
struct Hand {
  double a, b, c, d, x, y, wave, phase;
  explicit Hand(RandomStream& random) {
    const double angle = random.uniform(-0.25, 0.25), shear = random.uniform(-0.3, 0.3);
    const double sx = random.uniform(6.5, 10), sy = random.uniform(7.5, 10.5);
    a = std::cos(angle) * sx;
    b = (std::cos(angle) * shear - std::sin(angle)) * sy;
    c = std::sin(angle) * sx;
    d = (std::sin(angle) * shear + std::cos(angle)) * sy;
    x = 14 + random.uniform(-1.8, 1.8);
    y = 14 + random.uniform(-1.8, 1.8);
    wave = random.uniform(0, 0.09);
    phase = random.uniform(0, 2 * std::numbers::pi);
  }
  Point operator()(Point p) const {
    p.x += wave * std::sin(4 * p.y + phase);
    p.y += wave * std::sin(4 * p.x + phase);
    return {x + a * p.x + b * p.y, y + c * p.x + d * p.y};
  }
};

}  // namespace

DrawnDigits::DrawnDigits(int64_t count, uint64_t seed) : count_(count), seed_(seed) {
  TRI_CHECK(count > 0, "[DrawnDigits] expected a number of digits, got " + std::to_string(count));
}

io::Sample DrawnDigits::get(int64_t index, RandomStream&) const {
  TRI_CHECK(index >= 0 && index < count_, "[DrawnDigits] no digit " + std::to_string(index));
  RandomStream random(seed_, 0, static_cast<uint64_t>(index));
  const int64_t digit = random.below(10);
  constexpr int kSide = 28, kFine = 4, kBits = 4;  // drawn at four times the size
  cv::Mat fine = cv::Mat::zeros(kSide * kFine, kSide * kFine, CV_8U);
  const Hand hand(random);
  const auto width = static_cast<int>(std::lround(random.uniform(1.3, 3.2) * kFine));
  for (const Stroke& stroke : strokes_of(digit, random)) {
    std::vector<cv::Point> points;
    for (const Point& p : stroke) {
      const Point at = hand(p) * (kFine * (1 << kBits));
      points.emplace_back(static_cast<int>(std::lround(at.x)), static_cast<int>(std::lround(at.y)));
    }
    cv::polylines(fine, std::vector<std::vector<cv::Point>>{points}, false, 255, width, cv::LINE_AA,
                  kBits);
  }
  cv::Mat small;
  cv::resize(fine, small, {kSide, kSide}, 0, 0, cv::INTER_AREA);
  const double ink = random.uniform(0.7, 1), noise = random.uniform(0, 0.08);
  Array picture(DType::kFloat32, {1, kSide, kSide});
  float* to = picture.as<float>();
  for (int i = 0; i < kSide * kSide; ++i) {
    const double value = small.data[i] / 255.0 * ink + noise * random.normal();
    to[i] = static_cast<float>(std::clamp(value, 0.0, 1.0));
  }
  return {picture, scalar(digit)};
}

}  // namespace trireme::vision::datasets
