// From the detector's map of text probability to boxes ("differentiable binarization").
#pragma once

#include <opencv2/core.hpp>
#include <vector>

#include "trireme/ocr.h"

namespace trireme::ocr {

struct Candidate {
  Box box;
  float score = 0;  // mean of the map inside the box
};

struct BoxRules {
  float threshold = 0.3f, box_threshold = 0.6f, unclip_ratio = 1.5f;
  bool dilate = true;
};

// Boxes in pixels of a picture of `width` x `height` that the map covers, whole numbers, clockwise
// from top left.
std::vector<Candidate> boxes_from_map(const cv::Mat& map, int width, int height,
                                      const BoxRules& rules);

// The smallest rectangle around some points: corners clockwise from top left, and its shorter side.
struct Rectangle {
  Box corners;
  float short_side = 0;
};
Rectangle rectangle_around(const std::vector<cv::Point>& points);

// The outline of `box` moved outwards by area * ratio / perimeter; empty when nothing or more than
// one piece is left.
std::vector<cv::Point> unclip(const Box& box, float ratio);

// Top to bottom, and left to right within a line (tops less than 10 pixels apart).
void sort_in_reading_order(std::vector<Candidate>& boxes);

float distance(const Point& a, const Point& b);

}  // namespace trireme::ocr
