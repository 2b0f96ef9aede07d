// The recogniser: what a line says.
#pragma once

#include <memory>

#include "ocr/ctc.h"
#include "ocr/net.h"
#include "trireme/ocr.h"

namespace trireme::ocr {

// Lines that go through the net together, and the width they are padded to.
struct Batch {
  std::vector<size_t> lines;
  int width = 0;
};

// Lines of similar aspect ratio (width / height) together, at most `most` of them.
std::vector<Batch> plan_batches(const std::vector<double>& ratios, int height, int most);

class Recognizer {
 public:
  Recognizer(Net net, std::shared_ptr<const Dictionary> dictionary, const Options& options);

  std::vector<Reading> read(const std::vector<cv::Mat>& lines);
  Recognizer clone() const { return Recognizer(net_.clone(), dictionary_, options_); }

 private:
  void run_batch(const std::vector<cv::Mat>& lines, const Batch& batch,
                 std::vector<Reading>& readings);

  Net net_;
  std::shared_ptr<const Dictionary> dictionary_;
  Normalizer normalizer_;
  Options options_;
  int height_ = 48;
};

}  // namespace trireme::ocr
