// Resize, normalise into the net's own input, run, and turn the map into boxes.
#include "ocr/detector.h"

#include <cmath>
#include <opencv2/imgproc.hpp>

#include "base/parallel.h"
#include "ocr/stopwatch.h"

namespace trireme::ocr {

std::vector<std::string> detector_float32_ops() {
  return {"conv2d", "depthwise_conv2d", "conv2d_transpose"};  // the rest follows them
}

cv::Size detector_size(cv::Size picture, const std::string& limit_type, int limit) {
  const int longest = std::max(picture.width, picture.height),
            shortest = std::min(picture.width, picture.height);
  // Bounds what a thin strip costs, whose shorter side may be a hundredth of the longer.
  constexpr double kMaxSide = 4096;
  double ratio = 1;
  if (limit_type == "max" && longest > limit) ratio = static_cast<double>(limit) / longest;
  if (limit_type == "min" && shortest < limit) ratio = static_cast<double>(limit) / shortest;
  ratio = std::min(ratio, kMaxSide / longest);
  const auto round = [&](int side) {
    const double whole = std::floor(side * ratio);
    return std::max(32, static_cast<int>(std::nearbyint(whole / 32)) * 32);
  };
  return {round(picture.width), round(picture.height)};
}

Detector::Detector(Net net, Normalizer normalizer, const Options& options)
    : net_(std::move(net)), normalizer_(normalizer), options_(options) {}

std::vector<Candidate> Detector::detect(const cv::Mat& picture, Timing& timing) {
  Stopwatch watch;
  const cv::Size size =
      detector_size(picture.size(), options_.det_limit_type, options_.det_limit_side_len);
  const cv::Mat* source = &picture;
  if (size != picture.size()) {
    cv::resize(picture, resized_, size);
    source = &resized_;
  }
  float* input = net_.input({1, 3, size.height, size.width});
  const int64_t plane = int64_t{size.height} * size.width;
  parallel_for(size.height, 64, [&](int64_t begin, int64_t end, int) {
    normalizer_.to_planes(*source, static_cast<int>(begin), static_cast<int>(end), input, plane,
                          size.width);
  });
  const Array& output = net_.run();
  TRI_CHECK(output.numel() == plane, "[ocr] expected a map of " + std::to_string(size.height) +
                                         " x " + std::to_string(size.width) +
                                         " from the detector, got " + output.shape().str());
  timing.detect += watch.lap();

  const cv::Mat map(size.height, size.width, CV_32F, const_cast<float*>(output.as<float>()));
  const BoxRules rules{options_.det_db_thresh, options_.det_db_box_thresh,
                       options_.det_db_unclip_ratio, options_.use_dilation};
  std::vector<Candidate> boxes = boxes_from_map(map, picture.cols, picture.rows, rules);
  sort_in_reading_order(boxes);
  timing.post += watch.lap();
  return boxes;
}

}  // namespace trireme::ocr
