// The direction classifier: lines that stand on their head are turned.
#pragma once

#include <vector>

#include "ocr/net.h"
#include "trireme/ocr.h"

namespace trireme::ocr {

class Classifier {
 public:
  Classifier(Net net, const Options& options) : net_(std::move(net)), options_(options) {}

  // Turns the lines that need it; returns 0 or 180 for each.
  std::vector<int> straighten(std::vector<cv::Mat>& lines);
  Classifier clone() const { return Classifier(net_.clone(), options_); }

 private:
  void run_batch(std::vector<cv::Mat>& lines, size_t begin, size_t end, std::vector<int>& angles);

  Net net_;
  Normalizer normalizer_;
  Options options_;
};

}  // namespace trireme::ocr
