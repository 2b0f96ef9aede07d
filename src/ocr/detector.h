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
// 0.07 at the edges of letters. All layers have a part in that: with any half of them rounded it is
// still 0.015.
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
