// What drawn lines and drawn pages of text share: ink on paper, and how it looks when photographed.
#pragma once

#include <opencv2/core.hpp>

#include "trireme/transforms.h"

namespace trireme::vision::datasets {

struct PaperColours {
  double paper[3], ink[3];
};
PaperColours draw_colours(RandomStream& random);

// Ink where the cover (uint8) is high, paper where it is low: BGR.
cv::Mat blend(const cv::Mat& cover, const PaperColours& colours);

// Scanned and photographed: each step with a chance of its own.
const transforms::Transform& photograph();

}  // namespace trireme::vision::datasets
