// Frame: a picture brought to sizes that the detector can work with, and the way back.
#pragma once

#include <opencv2/core.hpp>

#include "trireme/ocr.h"

namespace trireme::ocr {

struct Frame {
  cv::Mat picture;                  // may share the memory of the Image it was made from
  double scale_x = 1, scale_y = 1;  // pixels of the original for one of the frame
  int margin = 0;                   // black rows above and below
  int width = 0, height = 0;        // of the original

  Box to_original(const Box& box) const;
};

// A picture with a side over 2000 pixels is made smaller, one with a side below 30 larger, and one
// of a single long line gets black rows above and below, as the detector finds nothing in it
// otherwise.
Frame frame_of(const Image& image);

}  // namespace trireme::ocr
