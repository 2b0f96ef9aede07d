// Parts of a JPEG, decoded at a fraction of its size.
#pragma once

#include <opencv2/core.hpp>

#include "image/decode.h"

namespace trireme::vision {

struct JpegHeader {
  int width = 0, height = 0;  // as stored
  int orientation = 1;
  bool inks = false;  // CMYK: only decode_image reads it
};

bool is_jpeg(Bytes file);
JpegHeader jpeg_header(Bytes file, int64_t max_pixels);

// The pixels of `region` (of the stored picture), each the mean of `reduction` (1, 2, 4, 8)
// squared; a region between those pixels grows to whole ones. Rows below the region are not looked
// at, but a file without an end marker is refused.
cv::Mat decode_jpeg_part(Bytes file, const Region& region, int reduction, Colour colour,
                         int64_t max_pixels);

}  // namespace trireme::vision
