// Batches of lines sorted by width, zeros to the right of the shorter ones.
#include "ocr/recognizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "ocr/crop.h"
#include "ocr/each_line.h"

namespace trireme::ocr {
namespace {

// Half the width that the recogniser was trained at: measured, short lines read the same.
constexpr double kMinRatio = 160.0 / 48;
// Few different widths, so that the plans of earlier pictures are used again.
constexpr int kWidthStep = 32;
// What a run costs beside its pixels, in columns of one line: where padding is cheaper, lines share
// a run.
constexpr int64_t kRunCost = 96;

int padded_width(double ratio, int height) {
  const int width = static_cast<int>(std::ceil(height * std::max(kMinRatio, ratio)));
  return (width + kWidthStep - 1) / kWidthStep * kWidthStep;
}

}  // namespace

std::vector<Batch> plan_batches(const std::vector<double>& ratios, int height, int most) {
  std::vector<size_t> order(ratios.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return ratios[a] < ratios[b]; });
  // cost[n]: the least for the n narrowest lines; first[n]: where the last batch of that begins.
  std::vector<int64_t> cost(order.size() + 1, 0);
  std::vector<size_t> first(order.size() + 1, 0);
  for (size_t end = 1; end <= order.size(); ++end) {
    const int64_t width = padded_width(ratios[order[end - 1]], height);
    cost[end] = std::numeric_limits<int64_t>::max();
    for (size_t begin = end; begin-- > 0 && end - begin <= static_cast<size_t>(most);) {
      const int64_t whole = cost[begin] + kRunCost + width * static_cast<int64_t>(end - begin);
      if (whole >= cost[end]) continue;
      cost[end] = whole;
      first[end] = begin;
    }
  }
  std::vector<Batch> batches;
  for (size_t end = order.size(); end > 0; end = first[end]) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(first[end]);
    batches.push_back({{begin, order.begin() + static_cast<std::ptrdiff_t>(end)},
                       padded_width(ratios[order[end - 1]], height)});
  }
  return batches;
}

Recognizer::Recognizer(Net net, std::shared_ptr<const Dictionary> dictionary,
                       const Options& options)
    : net_(std::move(net)), dictionary_(std::move(dictionary)), options_(options) {
  const Shape& shape = net_.predictor().inputs().at(0).shape;
  if (shape.rank() == 4 && shape[2] > 0) height_ = static_cast<int>(shape[2]);
}

std::vector<Reading> Recognizer::read(const std::vector<cv::Mat>& lines) {
  std::vector<double> ratios(lines.size());
  for (size_t i = 0; i < lines.size(); ++i)
    ratios[i] = static_cast<double>(lines[i].cols) / lines[i].rows;
  std::vector<Reading> readings(lines.size());
  for (const Batch& batch : plan_batches(ratios, height_, options_.rec_batch_num))
    run_batch(lines, batch, readings);
  return readings;
}

void Recognizer::run_batch(const std::vector<cv::Mat>& lines, const Batch& batch,
                           std::vector<Reading>& readings) {
  const size_t count = batch.lines.size();
  const size_t plane = static_cast<size_t>(height_) * static_cast<size_t>(batch.width);
  float* input = net_.input({static_cast<int64_t>(count), 3, height_, batch.width});
  for_each_line(count, [&](size_t i) {
    const cv::Mat line = scale_line(lines[batch.lines[i]], height_, batch.width);
    float* planes = input + i * 3 * plane;
    if (line.cols < batch.width) std::memset(planes, 0, sizeof(float) * 3 * plane);
    normalizer_.to_planes(line, 0, height_, planes, static_cast<int64_t>(plane), batch.width);
  });
  const Array& output = net_.run();
  const Shape& shape = output.shape();
  const auto known = static_cast<int64_t>(dictionary_->size());
  TRI_CHECK(shape.rank() == 3 && shape[0] == static_cast<int64_t>(count) &&
                (shape[2] == known + 1 || shape[2] == known + 2),
            "[ocr] expected " + std::to_string(known + 2) + " classes (the dictionary's " +
                std::to_string(known) + " characters, blank, space) from the recogniser, got " +
                shape.str());
  const int steps = static_cast<int>(shape[1]), classes = static_cast<int>(shape[2]);
  const size_t stride = static_cast<size_t>(steps) * static_cast<size_t>(classes);
  for_each_line(count, [&](size_t i) {
    readings[batch.lines[i]] =
        decode_ctc(output.as<float>() + i * stride, steps, classes, *dictionary_);
  });
}

}  // namespace trireme::ocr
