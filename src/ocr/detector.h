// The text detector: where lines of text are.
#pragma once

#include "image/db_boxes.h"
#include "ocr/net.h"

namespace trireme::ocr {

// The size at which a picture goes through the detector: the sides scaled so that the shorter one
// is at least
// ("min") or the longer one at most ("max") `limit`, then rounded to multiples of 32.
cv::Size detector_size(cv::Size picture, const std::string& limit_type, int limit);

// What Config::exp_disable_mixed_precision_ops gets for a detector on a GPU. PP-OCRv4's magnifies
// what is rounded: with the 10 bits of float16's and of TF32's mantissa its map is off by up to
// 0.06 at the edges of letters. All layers have a part in that: the first tenth of them alone makes
// 0.04, the last tenth 0.02 (tools/ocr_rounding.py).
std::vector<std::string> detector_float32_ops();

class Detector {
 public:
  Detector(Net net, Normalizer normalizer, const Options& options);

  // Boxes in reading order. Adds to `timing`'s detect and post.
  std::vector<Candidate> detect(const cv::Mat& picture, Timing& timing);
  Detector clone() const { return Detector(net_.clone(), normalizer_, options_); }

 private:
  Net net_;
  Normalizer normalizer_;
  Options options_;
  cv::Mat resized_;
};

}  // namespace trireme::ocr
