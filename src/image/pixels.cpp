// Scaling, turning, colours.
#include "image/pixels.h"

#include <memory>
#include <opencv2/imgproc.hpp>

namespace trireme::vision {

cv::Mat matrix_of(const Array& pixels) {
  const Shape& shape = pixels.shape();
  TRI_CHECK(pixels.dtype() == DType::kUInt8 && shape.rank() == 3 && shape[0] > 0 && shape[1] > 0 &&
                shape[0] <= INT32_MAX / 8 && shape[1] <= INT32_MAX / 8 &&
                (shape[2] == 1 || shape[2] == 3),
            "[vision] expected uint8 pixels [H, W, 1 or 3], got " +
                std::string(name_of(pixels.dtype())) + " " + shape.str());
  return {static_cast<int>(shape[0]), static_cast<int>(shape[1]),
          CV_8UC(static_cast<int>(shape[2])), const_cast<void*>(pixels.data())};
}

Array array_of(const cv::Mat& matrix) {
  const Shape shape{matrix.rows, matrix.cols, matrix.channels()};
  const bool owned = matrix.u != nullptr;
  if (owned && matrix.isContinuous() && matrix.data == matrix.datastart) {
    auto owner = std::make_shared<const cv::Mat>(matrix);
    return {DType::kUInt8, shape, matrix.data, std::move(owner)};
  }
  Array copy(DType::kUInt8, shape);
  matrix.copyTo(matrix_of(copy));
  return copy;
}

int flag_of(Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::kNearest: return cv::INTER_NEAREST;
    case Interpolation::kArea: return cv::INTER_AREA;
    case Interpolation::kBicubic: return cv::INTER_CUBIC;
    case Interpolation::kLanczos: return cv::INTER_LANCZOS4;
    default: return cv::INTER_LINEAR;
  }
}

cv::Mat resize(const cv::Mat& from, const Size& size, Interpolation interpolation) {
  TRI_CHECK(size.width > 0 && size.height > 0 && size.width <= kMaxPixels / size.height,
            "[resize] expected a size above zero, of at most " + std::to_string(kMaxPixels) +
                " pixels, got " + std::to_string(size.width) + " x " + std::to_string(size.height));
  if (from.cols == size.width && from.rows == size.height) return from;
  cv::Mat source = from, to;
  const bool means =
      interpolation == Interpolation::kBilinear || interpolation == Interpolation::kBicubic;
  int factor = 1;
  while (means && from.cols / (factor * 2) >= size.width && from.rows / (factor * 2) >= size.height)
    factor *= 2;
  if (factor > 1) {
    cv::Mat reduced;
    cv::resize(from, reduced, {from.cols / factor, from.rows / factor}, 0, 0, cv::INTER_AREA);
    source = reduced;
  }
  cv::resize(source, to, {size.width, size.height}, 0, 0, flag_of(interpolation));
  return to;
}

cv::Mat upright(const cv::Mat& from, int orientation) {
  cv::Mat to;
  switch (orientation) {
    case 2: cv::flip(from, to, 1); break;
    case 3: cv::flip(from, to, -1); break;
    case 4: cv::flip(from, to, 0); break;
    case 5: cv::transpose(from, to); break;
    case 6: cv::rotate(from, to, cv::ROTATE_90_CLOCKWISE); break;
    case 7: {
      cv::Mat transposed;
      cv::transpose(from, transposed);
      cv::flip(transposed, to, -1);
      break;
    }
    case 8: cv::rotate(from, to, cv::ROTATE_90_COUNTERCLOCKWISE); break;
    default: return from;
  }
  return to;
}

Region stored_region(const Region& upright, int orientation, int width, int height) {
  Region r = upright;
  if (orientation >= 5) r = {upright.y, upright.x, upright.height, upright.width};
  if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8)
    r.x = width - r.x - r.width;
  if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7)
    r.y = height - r.y - r.height;
  return r;
}

cv::Mat convert(const cv::Mat& from, Colour was, Colour colour) {
  if (was == colour) return from;
  cv::Mat to;
  if (was == Colour::kGray) cv::cvtColor(from, to, cv::COLOR_GRAY2BGR);
  else if (colour != Colour::kGray) cv::cvtColor(from, to, cv::COLOR_RGB2BGR);
  else cv::cvtColor(from, to, was == Colour::kRgb ? cv::COLOR_RGB2GRAY : cv::COLOR_BGR2GRAY);
  return to;
}

}  // namespace trireme::vision
