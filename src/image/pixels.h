// Pixel work on matrices: scaling, turning, colours; and matrices over the memory of Arrays.
#pragma once

#include <opencv2/core.hpp>

#include "trireme/vision.h"

namespace trireme::vision {

// The memory of uint8 [H, W, C] as a matrix that does not own it.
cv::Mat matrix_of(const Array& pixels);
// uint8 [H, W, C] over the matrix' memory, which it keeps alive; a copy where rows have gaps.
Array array_of(const cv::Mat& matrix);

cv::Mat resize(const cv::Mat& from, const Size& size, Interpolation interpolation);
int flag_of(Interpolation interpolation);  // OpenCV's

// Undoes an EXIF orientation; may return `from` itself.
cv::Mat upright(const cv::Mat& from, int orientation);
// Where a region of the upright picture lies in the stored one, of width x height.
Region stored_region(const Region& upright, int orientation, int width, int height);

// Between the orders of colours and grey (BT.601 weights, as OpenCV and PIL).
cv::Mat convert(const cv::Mat& from, Colour was, Colour colour);

}  // namespace trireme::vision
