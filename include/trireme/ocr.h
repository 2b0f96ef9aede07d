// OCR: the PP-OCR pipeline (detector, direction classifier, recogniser) on one picture or many.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trireme/inference.h"
#include "trireme/vision.h"

namespace trireme::ocr {

using vision::decode_image;
using vision::Image;
using vision::read_image;
using vision::write_png;

struct Point {
  float x = 0, y = 0;
};
using Box = std::array<Point, 4>;  // clockwise from top left, in pixels of the picture

struct Line {
  Box box;
  std::string text;     // UTF-8
  float score = 0;      // mean probability of the kept characters
  float box_score = 0;  // mean of the detector's map inside the box
  int angle = 0;        // 0 or 180: what the direction classifier undid
};

struct Options {
  std::string models;  // folder with det/, rec/, cls/ (see docs/ocr.md) and the dictionary
  std::string det;     // folder of another detector; empty: that of `models`
  std::string rec;     // folder of another recogniser, with dict.txt in it; empty: that of `models`
  std::string dict;    // file of its characters; empty: the recogniser's own
  int threads = 0;     // 0: as many as there are cores
  std::string device = "cpu";  // or gpu:N, for the networks
  inference::Precision precision = inference::Precision::kFloat32;
  // PaddleOCR's names and meaning.
  std::string det_limit_type = "min";
  int det_limit_side_len = 736;
  float det_db_thresh = 0.3f, det_db_box_thresh = 0.6f, det_db_unclip_ratio = 1.5f;
  bool use_dilation = true;
  bool use_angle_cls = true;
  float cls_thresh = 0.9f;
  int rec_batch_num = 6, cls_batch_num = 6;
  float drop_score = 0.5f;
};

// Milliseconds of one picture's stages.
struct Timing {
  double decode = 0, detect = 0, post = 0, crop = 0, classify = 0, recognize = 0, total = 0;
};

// Loads the three models once; run() from one thread at a time, clone() for others (weights are
// shared).
class Pipeline {
 public:
  virtual ~Pipeline() = default;
  virtual std::vector<Line> run(const Image& image, Timing* timing = nullptr) = 0;
  virtual std::unique_ptr<Pipeline> clone() const = 0;
};
std::unique_ptr<Pipeline> create_pipeline(const Options& options);

// Draws boxes and, beside the picture, the text read in each; uses the TrueType font at `font`
// (empty: only boxes and numbers).
Image draw(const Image& image, std::span<const Line> lines, const std::string& font = {});

}  // namespace trireme::ocr
