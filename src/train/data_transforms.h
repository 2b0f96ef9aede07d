// What the files of transforms share.
#pragma once

#include <opencv2/imgproc.hpp>

#include "image/pixels.h"
#include "trireme/transforms.h"

namespace trireme::vision::transforms {

inline cv::Mat bytes_of(Picture& picture, const char* step) {
  TRI_CHECK(!picture.is_float(), std::string("[") + step +
                                     "] expected 8-bit pixels: put it before ToTensor and "
                                     "Normalize");
  return matrix_of(picture.pixels());
}

inline void check_probability(const char* step, double prob) {
  TRI_CHECK(prob >= 0 && prob <= 1,
            std::string("[") + step + "] a probability is 0 to 1, got " + std::to_string(prob));
}

inline void check_size(const char* step, const Size& size) {
  TRI_CHECK(size.width > 0 && size.height > 0 && size.width <= kMaxPixels / size.height,
            std::string("[") + step + "] expected a size above zero, got " +
                std::to_string(size.width) + " x " + std::to_string(size.height));
}

}  // namespace trireme::vision::transforms
