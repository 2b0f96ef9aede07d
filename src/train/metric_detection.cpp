// DetMetric: what two outlines share is found with Clipper, in sixteenths of a pixel.
#include <clipper.hpp>
#include <cmath>

#include "trireme/error.h"
#include "trireme/metric.h"

namespace trireme::metric {
namespace {

using ClipperLib::Path;
constexpr double kSteps = 16;

struct Area {
  Path path;
  double size = 0;
};

Area area_of(const DetMetric::Outline& outline) {
  Area area;
  for (const auto& [x, y] : outline)
    area.path.emplace_back(std::llround(x * kSteps), std::llround(y * kSteps));
  area.size = std::abs(ClipperLib::Area(area.path));
  return area;
}

std::vector<Area> areas_of(const std::vector<DetMetric::Outline>& outlines) {
  std::vector<Area> all;
  for (const auto& outline : outlines) all.push_back(area_of(outline));
  return all;
}

double shared(const Area& a, const Area& b) {
  ClipperLib::Clipper clipper;
  clipper.AddPath(a.path, ClipperLib::ptSubject, true);
  clipper.AddPath(b.path, ClipperLib::ptClip, true);
  ClipperLib::Paths pieces;
  clipper.Execute(ClipperLib::ctIntersection, pieces, ClipperLib::pftNonZero,
                  ClipperLib::pftNonZero);
  double size = 0;
  for (const Path& piece : pieces) size += ClipperLib::Area(piece);
  return std::abs(size);
}

}  // namespace

void DetMetric::update(const std::vector<Outline>& found, const std::vector<Outline>& drawn,
                       const std::vector<bool>& ignored) {
  TRI_CHECK(drawn.size() == ignored.size(), "[DetMetric] ignored expects " +
                                                std::to_string(drawn.size()) + " values, got " +
                                                std::to_string(ignored.size()));
  const std::vector<Area> truth = areas_of(drawn);
  std::vector<bool> taken = ignored;
  for (size_t i = 0; i < ignored.size(); ++i) drawn_ += ignored[i] ? 0 : 1;
  for (const Area& box : areas_of(found)) {
    bool counts = true, matched = false;
    for (size_t i = 0; i < truth.size() && counts; ++i)
      counts = !ignored[i] || box.size <= 0 || shared(box, truth[i]) / box.size <= 0.5;
    if (!counts) continue;
    ++found_;
    for (size_t i = 0; i < truth.size() && !matched; ++i) {
      if (taken[i]) continue;
      const double both = shared(box, truth[i]), all = box.size + truth[i].size - both;
      matched = all > 0 && both / all > 0.5;
      if (matched) taken[i] = true;
    }
    matched_ += matched ? 1 : 0;
  }
}

std::vector<std::pair<std::string, double>> DetMetric::accumulate() const {
  const auto share = [&](int64_t of) {
    return of > 0 ? static_cast<double>(matched_) / static_cast<double>(of) : 0;
  };
  const double precision = share(found_), recall = share(drawn_), sum = precision + recall;
  return {{"hmean", sum > 0 ? 2 * precision * recall / sum : 0},
          {"precision", precision},
          {"recall", recall}};
}

}  // namespace trireme::metric
