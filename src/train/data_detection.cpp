// DetectionMaps: pictures with outlines become what a DB detector learns from.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <opencv2/imgproc.hpp>

#include "image/pixels.h"
#include "train/data_files.h"
#include "train/db_maps.h"

namespace trireme::vision::datasets {
namespace {

using train::DbMaps;
using train::Outline;

struct Outlines {
  std::vector<Outline> outlines;
  std::vector<uint8_t> ignored;
};

Outlines outlines_in(const io::Sample& sample) {
  TRI_CHECK(sample.size() == 3 && sample[1].shape().rank() == 3 && sample[1].shape()[2] == 2,
            "[DetectionMaps] expects samples of pictures, points and ignore");
  const int64_t n = sample[1].shape()[0], points = sample[1].shape()[1];
  Outlines all;
  const float* at = sample[1].as<float>();
  for (int64_t i = 0; i < n; ++i) {
    Outline& outline = all.outlines.emplace_back();
    for (int64_t k = 0; k < points; ++k, at += 2)
      if (k < 4 || outline.back() != cv::Point2f(at[0], at[1])) outline.emplace_back(at[0], at[1]);
    all.ignored.push_back(sample[2].as<uint8_t>()[i]);
  }
  return all;
}

cv::Point2f centre_of(const Outline& outline) {
  cv::Point2f sum(0, 0);
  for (const cv::Point2f& p : outline) sum += p;
  return sum / static_cast<float>(outline.size());
}

// The whole picture in a corner of the square.
cv::Matx23f fitting(cv::Size picture, int size) {
  const float scale =
      static_cast<float>(size) / static_cast<float>(std::max(picture.width, picture.height));
  return {scale, 0, 0, 0, scale, 0};
}

// Scaled and turned by chance; what is in the middle of the square is mostly some text.
cv::Matx23f drawn(cv::Size picture, const Outlines& all, const DetectionOptions& o,
                  RandomStream& random) {
  const double scale = fitting(picture, o.size)(0, 0) *
                       std::exp(random.uniform(std::log(o.min_scale), std::log(o.max_scale)));
  const double angle = random.uniform(-o.degrees, o.degrees) * CV_PI / 180;
  cv::Point2f anchor(static_cast<float>(picture.width) / 2, static_cast<float>(picture.height) / 2);
  if (!all.outlines.empty() && random.chance(0.9))
    anchor = centre_of(
        all.outlines[static_cast<size_t>(random.below(static_cast<int64_t>(all.outlines.size())))]);
  const double x = random.uniform(0.2, 0.8) * o.size, y = random.uniform(0.2, 0.8) * o.size;
  const double c = scale * std::cos(angle), s = scale * std::sin(angle);
  return {static_cast<float>(c),
          static_cast<float>(-s),
          static_cast<float>(x - c * anchor.x + s * anchor.y),
          static_cast<float>(s),
          static_cast<float>(c),
          static_cast<float>(y - s * anchor.x - c * anchor.y)};
}

void move(Outlines& all, const cv::Matx23f& m, int size) {
  Outlines kept;
  for (size_t i = 0; i < all.outlines.size(); ++i) {
    Outline outline;
    for (const cv::Point2f& p : all.outlines[i])
      outline.emplace_back(m(0, 0) * p.x + m(0, 1) * p.y + m(0, 2),
                           m(1, 0) * p.x + m(1, 1) * p.y + m(1, 2));
    const cv::Rect around = cv::boundingRect(outline);
    if ((around & cv::Rect(0, 0, size, size)).empty()) continue;
    kept.outlines.push_back(std::move(outline));
    kept.ignored.push_back(all.ignored[i]);
  }
  all = std::move(kept);
}

Array array_of_map(const cv::Mat& map) {
  Array array(DType::kFloat32, {map.rows, map.cols});
  std::memcpy(array.data(), map.ptr(), array.bytes());
  return array;
}

class VocOutlines : public io::Dataset {
 public:
  explicit VocOutlines(std::shared_ptr<const VOCDataset> boxes) : boxes_(std::move(boxes)) {}
  int64_t size() const override { return boxes_->size(); }
  std::string source(int64_t index) const override { return boxes_->source(index); }
  io::Sample get(int64_t index, RandomStream& random) const override {
    std::vector<std::vector<float>> outlines;
    std::vector<uint8_t> ignore;
    for (const VOCDataset::Box& b : boxes_->boxes(index)) {
      outlines.push_back({b.x1, b.y1, b.x2, b.y1, b.x2, b.y2, b.x1, b.y2});
      ignore.push_back(b.difficult ? 1 : 0);
    }
    io::Sample sample{boxes_->get(index, random).at(0)};
    append_outlines(sample, outlines, ignore);
    return sample;
  }

 private:
  std::shared_ptr<const VOCDataset> boxes_;
};

}  // namespace

io::DatasetPtr outlines_of(std::shared_ptr<const VOCDataset> boxes) {
  return std::make_shared<const VocOutlines>(std::move(boxes));
}

DetectionMaps::DetectionMaps(io::DatasetPtr boxes, DetectionOptions options)
    : boxes_(std::move(boxes)), options_(std::move(options)) {
  const DetectionOptions& o = options_;
  constexpr int kMostSize = 4096;
  TRI_CHECK(
      o.size > 0 && o.size % 32 == 0 && o.size <= kMostSize,
      "[DetectionMaps] size expects a multiple of 32 up to 4,096, got " + std::to_string(o.size));
  TRI_CHECK(o.min_scale > 0 && o.max_scale >= o.min_scale && o.max_scale <= 100 &&
                o.shrink_ratio > 0 && o.shrink_ratio < 1 && o.max_boxes > 0 && o.max_points >= 4 &&
                o.max_boxes * o.max_points <= 1 << 20,
            "[DetectionMaps] expects scales above 0, a shrink_ratio between 0 and 1, and room for "
            "boxes of 4 points or more");
}

io::Sample DetectionMaps::get(int64_t index, RandomStream& random) const {
  const DetectionOptions& o = options_;
  const io::Sample source = boxes_->get(index, random);
  Outlines all = outlines_in(source);
  const cv::Mat before = matrix_of(source[0]);
  const cv::Matx23f m =
      o.augment ? drawn(before.size(), all, o, random) : fitting(before.size(), o.size);
  cv::Mat pixels;
  cv::warpAffine(before, pixels, m, {o.size, o.size}, cv::INTER_LINEAR);
  move(all, m, o.size);
  TRI_CHECK(static_cast<int64_t>(all.outlines.size()) <= o.max_boxes,
            "[DetectionMaps] a picture of " + std::to_string(all.outlines.size()) +
                " boxes, max_boxes is " + std::to_string(o.max_boxes));
  Picture picture(array_of(pixels), o.colour);
  if (o.transform) o.transform->apply(picture, random);
  TRI_CHECK(picture.width() == o.size && picture.height() == o.size,
            "[DetectionMaps] the transforms must keep the size");
  const DbMaps maps =
      train::db_maps(all.outlines, all.ignored, {o.size, o.size},
                     {o.shrink_ratio, o.min_threshold, o.max_threshold, o.min_text_size});
  io::Sample sample{picture.pixels()};
  for (const cv::Mat* map :
       {&maps.shrink, &maps.shrink_mask, &maps.threshold, &maps.threshold_mask})
    sample.push_back(array_of_map(*map));
  Array outlines(DType::kFloat32, {o.max_boxes, o.max_points, 2}),
      kinds(DType::kUInt8, {o.max_boxes});
  std::memset(outlines.data(), 0, outlines.bytes());
  std::memset(kinds.data(), 0, kinds.bytes());
  for (size_t i = 0; i < all.outlines.size(); ++i) {
    const Outline& outline = all.outlines[i];
    TRI_CHECK(static_cast<int64_t>(outline.size()) <= o.max_points,
              "[DetectionMaps] an outline of " + std::to_string(outline.size()) +
                  " points, max_points is " + std::to_string(o.max_points));
    float* to = outlines.as<float>() + static_cast<int64_t>(i) * o.max_points * 2;
    for (size_t k = 0; k < static_cast<size_t>(o.max_points); ++k) {
      const cv::Point2f& p = outline[std::min(k, outline.size() - 1)];
      to[2 * k] = p.x;
      to[2 * k + 1] = p.y;
    }
    kinds.as<uint8_t>()[i] = all.ignored[i] != 0 ? 2 : 1;
  }
  sample.push_back(std::move(outlines));
  sample.push_back(std::move(kinds));
  return sample;
}

}  // namespace trireme::vision::datasets
