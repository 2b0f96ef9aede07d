// Input memory that only grows, so a picture of a size seen before allocates nothing.
#include "ocr/net.h"

namespace trireme::ocr {

Normalizer::Normalizer(const std::array<double, 3>& mean, const std::array<double, 3>& deviation) {
  const float scale = static_cast<float>(1.0 / 255);
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < 256; ++i)
      value_[c][i] = static_cast<float>((static_cast<float>(i) * scale - mean[c]) / deviation[c]);
}

void Normalizer::to_planes(const cv::Mat& bgr, int begin, int end, float* planes, int64_t plane,
                           int64_t stride) const {
  const float* blue_of = value_[0].data();
  const float* green_of = value_[1].data();
  const float* red_of = value_[2].data();
  for (int y = begin; y < end; ++y) {
    const uint8_t* from = bgr.ptr<uint8_t>(y);
    float* __restrict blue = planes + y * stride;
    float* __restrict green = blue + plane;
    float* __restrict red = green + plane;
    for (int x = 0; x < bgr.cols; ++x) {
      blue[x] = blue_of[from[3 * x]];
      green[x] = green_of[from[3 * x + 1]];
      red[x] = red_of[from[3 * x + 2]];
    }
  }
}

Net::Net(std::unique_ptr<inference::Predictor> predictor) : predictor_(std::move(predictor)) {
  const auto inputs = predictor_->get_input_names(), outputs = predictor_->get_output_names();
  TRI_CHECK(inputs.size() == 1 && !outputs.empty(),
            "[ocr] expected a model of one input, got " + std::to_string(inputs.size()));
  in_ = predictor_->get_input_handle(inputs[0]);
  out_ = predictor_->get_output_handle(outputs[0]);
}

float* Net::input(const Shape& shape) {
  if (!memory_.defined() || memory_.numel() < shape.numel())
    memory_ = Array(DType::kFloat32, shape);
  view_ = Array(DType::kFloat32, shape, memory_.data(), memory_.owner());
  return view_.as<float>();
}

const Array& Net::run() {
  in_->share_external_data(view_);
  predictor_->run();
  if (out_->dtype() == DType::kFloat32) return out_->tensor();
  converted_ = out_->tensor().to(DType::kFloat32);
  return converted_;
}

}  // namespace trireme::ocr
