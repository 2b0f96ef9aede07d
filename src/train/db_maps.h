// What a DB detector learns from, as maps: PaddleOCR's MakeShrinkMap and MakeBorderMap.
#pragma once

#include <opencv2/core.hpp>
#include <vector>

namespace trireme::train {

using Outline = std::vector<cv::Point2f>;

struct DbMapRules {
  double shrink_ratio = 0.4, min_threshold = 0.3, max_threshold = 0.7;
  int min_text_size = 8;
};

// float32, of the size asked for. Shrink: 1 in the core of an outline; its mask: 0 in outlines that
// are ignored. Threshold: falls with the distance from the outline's edge; its mask: 1 where an
// outline, moved outwards by that distance, is.
struct DbMaps {
  cv::Mat shrink, shrink_mask, threshold, threshold_mask;
};

// `ignored[i]` becomes 1 for outlines that are too small, or of which no core is left.
DbMaps db_maps(const std::vector<Outline>& outlines, std::vector<uint8_t>& ignored, cv::Size size,
               const DbMapRules& rules = {});

}  // namespace trireme::train
