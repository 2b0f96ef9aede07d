// Batches of lines at 48 x 192, zeros to the right of a short one.
#include "ocr/classifier.h"

#include <cstring>

#include "ocr/crop.h"
#include "ocr/each_line.h"

namespace trireme::ocr {
namespace {
constexpr int kHeight = 48, kWidth = 192, kPlane = kHeight * kWidth;
}

std::vector<int> Classifier::straighten(std::vector<cv::Mat>& lines) {
  std::vector<int> angles(lines.size(), 0);
  const auto batch = static_cast<size_t>(options_.cls_batch_num);
  for (size_t begin = 0; begin < lines.size(); begin += batch)
    run_batch(lines, begin, std::min(begin + batch, lines.size()), angles);
  return angles;
}

void Classifier::run_batch(std::vector<cv::Mat>& lines, size_t begin, size_t end,
                           std::vector<int>& angles) {
  const size_t count = end - begin;
  float* input = net_.input({static_cast<int64_t>(count), 3, kHeight, kWidth});
  for_each_line(count, [&](size_t i) {
    const cv::Mat line = scale_line(lines[begin + i], kHeight, kWidth);
    float* planes = input + i * 3 * kPlane;
    if (line.cols < kWidth) std::memset(planes, 0, sizeof(float) * 3 * kPlane);
    normalizer_.to_planes(line, 0, kHeight, planes, kPlane, kWidth);
  });
  const Array& output = net_.run();
  TRI_CHECK(
      output.numel() == static_cast<int64_t>(count * 2),
      "[ocr] expected two classes from the direction classifier, got " + output.shape().str());
  for (size_t i = begin; i < end; ++i) {
    const float* p = output.as<float>() + (i - begin) * 2;
    if (p[1] <= p[0] || p[1] <= options_.cls_thresh) continue;
    cv::Mat turned;
    cv::rotate(lines[i], turned, cv::ROTATE_180);
    lines[i] = turned;
    angles[i] = 180;
  }
}

}  // namespace trireme::ocr
