// One network of the pipeline with its input memory, and the way in which pixels become its input.
#pragma once

#include <array>
#include <memory>
#include <opencv2/core.hpp>

#include "trireme/inference.h"

namespace trireme::ocr {

// (pixel / 255 - mean) / deviation of every byte, per channel.
class Normalizer {
 public:
  Normalizer() : Normalizer({0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}) {}
  Normalizer(const std::array<double, 3>& mean, const std::array<double, 3>& deviation);

  // Rows [begin, end) of an 8-bit B, G, R picture to three planes of `plane` floats, rows `stride`
  // floats apart.
  void to_planes(const cv::Mat& bgr, int begin, int end, float* planes, int64_t plane,
                 int64_t stride) const;

 private:
  std::array<std::array<float, 256>, 3> value_;
};

// Not copyable; clone() shares the weights.
class Net {
 public:
  explicit Net(std::unique_ptr<inference::Predictor> predictor);

  // Memory for an input of this shape, lent to the predictor; its old content is undefined.
  float* input(const Shape& shape);
  // Runs on that input; the result is float32 and valid until the next call.
  const Array& run();
  Net clone() const { return Net(predictor_->clone()); }
  const inference::Predictor& predictor() const { return *predictor_; }

 private:
  std::unique_ptr<inference::Predictor> predictor_;
  inference::Handle* in_ = nullptr;
  inference::Handle* out_ = nullptr;
  Array memory_, view_, converted_;
};

}  // namespace trireme::ocr
