// Transforms that change which pixel stands where.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/data_transforms.h"

namespace trireme::vision::transforms {
namespace {

int border_of(PaddingMode mode) {
  switch (mode) {
    case PaddingMode::kEdge: return cv::BORDER_REPLICATE;
    case PaddingMode::kReflect: return cv::BORDER_REFLECT_101;
    case PaddingMode::kSymmetric: return cv::BORDER_REFLECT;
    default: return cv::BORDER_CONSTANT;
  }
}

cv::Mat padded(const cv::Mat& from, const Padding& by, uint8_t fill, PaddingMode mode) {
  const int64_t width = int64_t{from.cols} + by.left + by.right;
  const int64_t height = int64_t{from.rows} + by.top + by.bottom;
  TRI_CHECK(width <= kMaxPixels / height, "[pad] a picture of " + std::to_string(width) + " x " +
                                              std::to_string(height) + " is too large");
  cv::Mat to;
  cv::copyMakeBorder(from, to, by.top, by.bottom, by.left, by.right, border_of(mode),
                     cv::Scalar::all(fill));
  return to;
}

void check_padding(const char* step, const Padding& by) {
  TRI_CHECK(by.left >= 0 && by.top >= 0 && by.right >= 0 && by.bottom >= 0 && by.left < 1 << 20 &&
                by.top < 1 << 20 && by.right < 1 << 20 && by.bottom < 1 << 20,
            std::string("[") + step + "] padding is not below zero");
}

// The margins that bring a picture up to `size`, half on each side.
Padding up_to(const Size& size, int width, int height) {
  const int x = std::max(0, size.width - width), y = std::max(0, size.height - height);
  return {x / 2, y / 2, x - x / 2, y - y / 2};
}

void flip(Picture& picture, int code, const char* step) {
  cv::Mat to;
  cv::flip(bytes_of(picture, step), to, code);
  picture.set(array_of(to));
}

void warp(Picture& picture, const cv::Mat& transform, Interpolation interpolation, uint8_t fill,
          const char* step) {
  const cv::Mat from = bytes_of(picture, step);
  const int flags =
      interpolation == Interpolation::kArea ? cv::INTER_LINEAR : flag_of(interpolation);
  cv::Mat to;
  if (transform.rows == 2)
    cv::warpAffine(from, to, transform, from.size(), flags, cv::BORDER_CONSTANT,
                   cv::Scalar::all(fill));
  else
    cv::warpPerspective(from, to, transform, from.size(), flags, cv::BORDER_CONSTANT,
                        cv::Scalar::all(fill));
  picture.set(array_of(to));
}

}  // namespace

void Compose::apply(Picture& picture, RandomStream& random) const {
  for (const TransformPtr& step : steps_) step->apply(picture, random);
}

void RandomApply::apply(Picture& picture, RandomStream& random) const {
  if (random.chance(prob_)) step_->apply(picture, random);
}

Resize::Resize(int shorter, Interpolation interpolation)
    : size_{shorter, 0}, interpolation_(interpolation) {
  check_size("Resize", {shorter, 1});
}

Resize::Resize(Size size, Interpolation interpolation)
    : size_(size), interpolation_(interpolation) {
  check_size("Resize", size);
}

void Resize::apply(Picture& picture, RandomStream&) const {
  const int width = picture.width(), height = picture.height();
  Size size = size_;
  if (size.height == 0) {
    const int shorter = std::min(width, height), longer = std::max(width, height);
    const auto other =
        static_cast<int>(static_cast<int64_t>(size_.width) * longer / std::max(shorter, 1));
    size = width <= height ? Size{size_.width, other} : Size{other, size_.width};
  }
  if (size.width == width && size.height == height) return;
  picture.crop_and_resize({0, 0, width, height}, size, interpolation_);
}

ResizeLine::ResizeLine(int height, int width, uint8_t fill)
    : height_(height), width_(width), fill_(fill) {
  check_size("ResizeLine", {width, height});
}

void ResizeLine::apply(Picture& picture, RandomStream&) const {
  const int width = picture.width(), height = picture.height();
  const double wanted = std::ceil(1.0 * height_ * width / std::max(height, 1));
  const int scaled = static_cast<int>(std::clamp(wanted, 1.0, 1.0 * width_));
  picture.crop_and_resize({0, 0, width, height}, {scaled, height_}, Interpolation::kBilinear);
  if (scaled < width_)
    picture.set(array_of(padded(bytes_of(picture, "ResizeLine"), {0, 0, width_ - scaled, 0}, fill_,
                                PaddingMode::kConstant)));
}

RandomResizedCrop::RandomResizedCrop(Size size, double min_scale, double max_scale,
                                     double min_ratio, double max_ratio,
                                     Interpolation interpolation)
    : size_(size),
      min_scale_(min_scale),
      max_scale_(max_scale),
      min_ratio_(min_ratio),
      max_ratio_(max_ratio),
      interpolation_(interpolation) {
  check_size("RandomResizedCrop", size);
  TRI_CHECK(0 < min_scale && min_scale <= max_scale && 0 < min_ratio && min_ratio <= max_ratio,
            "[RandomResizedCrop] scale and ratio are ranges above zero");
}

Region RandomResizedCrop::region(int width, int height, RandomStream& random) const {
  const double area = 1.0 * width * height;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double part = area * random.uniform(min_scale_, max_scale_);
    const double ratio = std::exp(random.uniform(std::log(min_ratio_), std::log(max_ratio_)));
    const auto w = std::lround(std::sqrt(part * ratio)), h = std::lround(std::sqrt(part / ratio));
    if (w <= 0 || w > width || h <= 0 || h > height) continue;
    const auto x = random.between(0, width - w), y = random.between(0, height - h);
    return {static_cast<int>(x), static_cast<int>(y), static_cast<int>(w), static_cast<int>(h)};
  }
  // The centre, in the nearest shape that is allowed.
  const double ratio = std::clamp(1.0 * width / height, min_ratio_, max_ratio_);
  const int w = std::clamp(static_cast<int>(std::lround(height * ratio)), 1, width);
  const int h = std::clamp(static_cast<int>(std::lround(width / ratio)), 1, height);
  return {(width - w) / 2, (height - h) / 2, w, h};
}

void RandomResizedCrop::apply(Picture& picture, RandomStream& random) const {
  picture.crop_and_resize(region(picture.width(), picture.height(), random), size_, interpolation_);
}

CenterCrop::CenterCrop(Size size) : size_(size) { check_size("CenterCrop", size); }

void CenterCrop::apply(Picture& picture, RandomStream&) const {
  const Padding margins = up_to(size_, picture.width(), picture.height());
  const Size inside{size_.width - margins.left - margins.right,
                    size_.height - margins.top - margins.bottom};
  const Region region{(picture.width() - inside.width) / 2, (picture.height() - inside.height) / 2,
                      inside.width, inside.height};
  picture.crop_and_resize(region, inside, Interpolation::kNearest);
  if (margins.left + margins.right + margins.top + margins.bottom == 0) return;
  picture.set(
      array_of(padded(bytes_of(picture, "CenterCrop"), margins, 0, PaddingMode::kConstant)));
}

Pad::Pad(Padding padding, uint8_t fill, PaddingMode mode)
    : padding_(padding), fill_(fill), mode_(mode) {
  check_padding("Pad", padding);
}

void Pad::apply(Picture& picture, RandomStream&) const {
  picture.set(array_of(padded(bytes_of(picture, "Pad"), padding_, fill_, mode_)));
}

RandomCrop::RandomCrop(Size size, Padding padding, bool pad_if_needed, uint8_t fill,
                       PaddingMode mode)
    : size_(size), padding_(padding), pad_if_needed_(pad_if_needed), fill_(fill), mode_(mode) {
  check_size("RandomCrop", size);
  check_padding("RandomCrop", padding);
}

void RandomCrop::apply(Picture& picture, RandomStream& random) const {
  Padding by = padding_;
  if (pad_if_needed_) {  // as Paddle: the missing amount on both sides
    const int x = std::max(0, size_.width - picture.width() - by.left - by.right);
    const int y = std::max(0, size_.height - picture.height() - by.top - by.bottom);
    by = {by.left + x, by.top + y, by.right + x, by.bottom + y};
  }
  if (by.left + by.top + by.right + by.bottom > 0)
    picture.set(array_of(padded(bytes_of(picture, "RandomCrop"), by, fill_, mode_)));
  const int x = picture.width() - size_.width, y = picture.height() - size_.height;
  TRI_CHECK(x >= 0 && y >= 0,
            "[RandomCrop] expected a picture of at least " + std::to_string(size_.width) + " x " +
                std::to_string(size_.height) + ", got " + std::to_string(picture.width()) + " x " +
                std::to_string(picture.height()));
  const auto left = static_cast<int>(random.between(0, x));
  const auto top = static_cast<int>(random.between(0, y));
  picture.crop_and_resize({left, top, size_.width, size_.height}, size_, Interpolation::kNearest);
}

RandomHorizontalFlip::RandomHorizontalFlip(double prob) : prob_(prob) {
  check_probability("RandomHorizontalFlip", prob);
}

void RandomHorizontalFlip::apply(Picture& picture, RandomStream& random) const {
  if (random.chance(prob_)) flip(picture, 1, "RandomHorizontalFlip");
}

RandomVerticalFlip::RandomVerticalFlip(double prob) : prob_(prob) {
  check_probability("RandomVerticalFlip", prob);
}

void RandomVerticalFlip::apply(Picture& picture, RandomStream& random) const {
  if (random.chance(prob_)) flip(picture, 0, "RandomVerticalFlip");
}

RandomRotation::RandomRotation(double degrees, Interpolation interpolation, uint8_t fill)
    : degrees_(degrees), interpolation_(interpolation), fill_(fill) {
  TRI_CHECK(degrees >= 0, "[RandomRotation] degrees are not below zero");
}

void RandomRotation::apply(Picture& picture, RandomStream& random) const {
  rotate(picture, random.uniform(-degrees_, degrees_), interpolation_, fill_);
}

void hflip(Picture& picture) { flip(picture, 1, "hflip"); }
void vflip(Picture& picture) { flip(picture, 0, "vflip"); }

void crop(Picture& picture, int top, int left, int height, int width) {
  TRI_CHECK(top >= 0 && left >= 0 && height > 0 && width > 0 && top <= picture.height() - height &&
                left <= picture.width() - width,
            "[crop] expected a part of the picture of " + std::to_string(picture.width()) + " x " +
                std::to_string(picture.height()));
  picture.crop_and_resize({left, top, width, height}, {width, height}, Interpolation::kNearest);
}
void center_crop(Picture& picture, Size size) {
  RandomStream none(0, 0, 0);
  CenterCrop(size).apply(picture, none);
}
void resize(Picture& picture, Size size, Interpolation interpolation) {
  RandomStream none(0, 0, 0);
  Resize(size, interpolation).apply(picture, none);
}
void rotate(Picture& picture, double angle, Interpolation interpolation, uint8_t fill) {
  const cv::Point2f centre(static_cast<float>(picture.width() - 1) / 2,
                           static_cast<float>(picture.height() - 1) / 2);
  warp(picture, cv::getRotationMatrix2D(centre, angle, 1), interpolation, fill, "rotate");
}

void affine(Picture& picture, const AffineOptions& o) {
  TRI_CHECK(o.scale > 0 && std::abs(o.shear_x) < 90 && std::abs(o.shear_y) < 90,
            "[affine] expected a scale above 0 and shears between -90 and 90 degrees");
  constexpr double kDegree = std::numbers::pi / 180;
  const double turn = o.angle * kDegree, sx = o.shear_x * kDegree, sy = o.shear_y * kDegree;
  const double across = std::cos(turn - sy) / std::cos(sy) * o.scale;
  const double down = std::sin(turn - sy) / std::cos(sy) * o.scale;
  const double m[2][2] = {{across, -across * std::tan(sx) - std::sin(turn) * o.scale},
                          {down, -down * std::tan(sx) + std::cos(turn) * o.scale}};
  const double x = (picture.width() - 1) / 2.0, y = (picture.height() - 1) / 2.0;
  const cv::Matx23d transform(m[0][0], m[0][1], x - m[0][0] * x - m[0][1] * y + o.translate_x,
                              m[1][0], m[1][1], y - m[1][0] * x - m[1][1] * y + o.translate_y);
  warp(picture, cv::Mat(transform), o.interpolation, o.fill, "affine");
}

void perspective(Picture& picture, const Corners& startpoints, const Corners& endpoints,
                 Interpolation interpolation, uint8_t fill) {
  cv::Point2f from[4], to[4];
  for (size_t i = 0; i < 4; ++i) {
    from[i] = {startpoints[i].first, startpoints[i].second};
    to[i] = {endpoints[i].first, endpoints[i].second};
  }
  const cv::Mat transform = cv::getPerspectiveTransform(from, to);
  TRI_CHECK(std::abs(cv::determinant(transform)) > 1e-12,
            "[perspective] expected four points, no three of them on a line");
  warp(picture, transform, interpolation, fill, "perspective");
}

void erase(Picture& picture, int top, int left, int height, int width, uint8_t value) {
  TRI_CHECK(top >= 0 && left >= 0 && height >= 0 && width >= 0 &&
                top <= picture.height() - height && left <= picture.width() - width,
            "[erase] expected a part of the picture of " + std::to_string(picture.width()) + " x " +
                std::to_string(picture.height()));
  cv::Mat pixels = bytes_of(picture, "erase").clone();
  pixels(cv::Rect(left, top, width, height)).setTo(cv::Scalar::all(value));
  picture.set(array_of(pixels));
}

RandomAffine::RandomAffine(const Options& options) : options_(options) {
  TRI_CHECK(options.degrees >= 0 && options.translate_x >= 0 && options.translate_y >= 0 &&
                0 < options.min_scale && options.min_scale <= options.max_scale &&
                options.shear >= 0 && options.shear < 90,
            "[RandomAffine] expected ranges that are not below zero, and a shear below 90 degrees");
}

void RandomAffine::apply(Picture& picture, RandomStream& random) const {
  const Options& o = options_;
  constexpr double kDegree = std::numbers::pi / 180;
  const double width = picture.width(), height = picture.height();
  const double angle = random.uniform(-o.degrees, o.degrees) * kDegree;
  const double shift_x = random.uniform(-o.translate_x, o.translate_x) * width;
  const double shift_y = random.uniform(-o.translate_y, o.translate_y) * height;
  const double scale = random.uniform(o.min_scale, o.max_scale);
  const double shear = std::tan(random.uniform(-o.shear, o.shear) * kDegree);
  const double a = std::cos(angle) * scale, b = std::sin(angle) * scale;
  const double x = (width - 1) / 2, y = (height - 1) / 2;
  // Turn and scale, behind a shear along x; the centre stays but for the shift.
  const double m[2][2] = {{a, a * shear + b}, {-b, a - b * shear}};
  const cv::Matx23d transform(m[0][0], m[0][1], x - m[0][0] * x - m[0][1] * y + shift_x, m[1][0],
                              m[1][1], y - m[1][0] * x - m[1][1] * y + shift_y);
  warp(picture, cv::Mat(transform), o.interpolation, o.fill, "RandomAffine");
}

PerspectiveWarp::PerspectiveWarp(double prob, double distortion_scale, Interpolation interpolation,
                                 uint8_t fill)
    : prob_(prob), distortion_scale_(distortion_scale), interpolation_(interpolation), fill_(fill) {
  check_probability("PerspectiveWarp", prob);
  check_probability("PerspectiveWarp", distortion_scale);
}

void PerspectiveWarp::apply(Picture& picture, RandomStream& random) const {
  if (!random.chance(prob_)) return;
  const auto w = static_cast<float>(picture.width()), h = static_cast<float>(picture.height());
  const auto inwards = [&](float side) {
    return static_cast<float>(random.uniform(0, distortion_scale_ / 2)) * side;
  };
  const cv::Point2f from[] = {{0, 0}, {w, 0}, {w, h}, {0, h}};
  cv::Point2f to[4];
  for (size_t i = 0; i < 4; ++i) {
    const float x = inwards(w), y = inwards(h);
    to[i] = {from[i].x == 0 ? x : w - x, from[i].y == 0 ? y : h - y};
  }
  warp(picture, cv::getPerspectiveTransform(from, to), interpolation_, fill_, "PerspectiveWarp");
}

}  // namespace trireme::vision::transforms
