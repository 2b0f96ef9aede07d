// Cutting a line of text out of a picture and laying it upright.
#pragma once

#include <opencv2/core.hpp>

#include "trireme/ocr.h"

namespace trireme::ocr {

// The content of `box` as an upright rectangle; one at least 1.5 times as high as wide is turned
// anticlockwise, as a column is read. May share the picture's memory.
cv::Mat crop(const cv::Mat& picture, const Box& box);

// A line scaled to `height`, its width at most `max_width`.
cv::Mat scale_line(const cv::Mat& line, int height, int max_width);

}  // namespace trireme::ocr
