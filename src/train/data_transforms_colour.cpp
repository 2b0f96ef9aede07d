// Transforms that change the pixels' values, and the way to floats.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/data_transforms.h"

namespace trireme::vision::transforms {
namespace {

cv::Mat grey_of(const cv::Mat& from, Colour colour) { return convert(from, colour, Colour::kGray); }

cv::Mat contrasted(const cv::Mat& from, Colour colour, double factor) {
  const double mean = std::round(cv::mean(grey_of(from, colour))[0]);
  cv::Mat to;
  from.convertTo(to, -1, factor, mean * (1 - factor));
  return to;
}

cv::Mat saturated(const cv::Mat& from, Colour colour, double factor) {
  cv::Mat grey, to;
  cv::cvtColor(grey_of(from, colour), grey, cv::COLOR_GRAY2BGR);
  cv::addWeighted(from, factor, grey, 1 - factor, 0, to);
  return to;
}

cv::Mat hue_shifted(const cv::Mat& from, Colour colour, double part) {
  const bool rgb = colour == Colour::kRgb;
  cv::Mat hsv, to;
  cv::cvtColor(from, hsv, rgb ? cv::COLOR_RGB2HSV : cv::COLOR_BGR2HSV);
  constexpr int kCircle = 180;  // OpenCV's hues of 8 bits
  const int shift = (static_cast<int>(std::lround(part * kCircle)) + kCircle) % kCircle;
  for (int y = 0; y < hsv.rows; ++y) {
    uint8_t* pixel = hsv.ptr<uint8_t>(y);
    for (int x = 0; x < hsv.cols; ++x, pixel += 3)
      *pixel = static_cast<uint8_t>((*pixel + shift) % kCircle);
  }
  cv::cvtColor(hsv, to, rgb ? cv::COLOR_HSV2RGB : cv::COLOR_HSV2BGR);
  return to;
}

double factor_around_one(double spread, RandomStream& random) {
  return random.uniform(std::max(0.0, 1 - spread), 1 + spread);
}

}  // namespace

ColorJitter::ColorJitter(double brightness, double contrast, double saturation, double hue)
    : brightness_(brightness), contrast_(contrast), saturation_(saturation), hue_(hue) {
  TRI_CHECK(brightness >= 0 && contrast >= 0 && saturation >= 0 && hue >= 0 && hue <= 0.5,
            "[ColorJitter] expected values not below zero, and a hue of at most 0.5");
}

void ColorJitter::apply(Picture& picture, RandomStream& random) const {
  cv::Mat pixels = bytes_of(picture, "ColorJitter");
  const Colour colour = picture.colour();
  int order[] = {0, 1, 2, 3};
  for (int i = 3; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
  for (const int step : order) {
    // Grey pixels have neither saturation nor hue.
    if (step == 0 && brightness_ > 0) {
      cv::Mat to;
      pixels.convertTo(to, -1, factor_around_one(brightness_, random), 0);
      pixels = to;
    } else if (step == 1 && contrast_ > 0) {
      pixels = contrasted(pixels, colour, factor_around_one(contrast_, random));
    } else if (step == 2 && saturation_ > 0 && colour != Colour::kGray) {
      pixels = saturated(pixels, colour, factor_around_one(saturation_, random));
    } else if (step == 3 && hue_ > 0 && colour != Colour::kGray) {
      pixels = hue_shifted(pixels, colour, random.uniform(-hue_, hue_));
    }
  }
  if (pixels.data != picture.pixels().data()) picture.set(array_of(pixels));
}

namespace {

void check_factor(const char* name, double factor) {
  TRI_CHECK(factor >= 0 && factor < 1e6,
            std::string("[") + name + "] factor expects 0 or more, got " + std::to_string(factor));
}

}  // namespace

void adjust_brightness(Picture& picture, double factor) {
  check_factor("adjust_brightness", factor);
  cv::Mat to;
  bytes_of(picture, "adjust_brightness").convertTo(to, -1, factor, 0);
  picture.set(array_of(to));
}
void adjust_contrast(Picture& picture, double factor) {
  check_factor("adjust_contrast", factor);
  picture.set(array_of(contrasted(bytes_of(picture, "adjust_contrast"), picture.colour(), factor)));
}
void adjust_saturation(Picture& picture, double factor) {
  check_factor("adjust_saturation", factor);
  const cv::Mat pixels = bytes_of(picture, "adjust_saturation");
  if (picture.colour() != Colour::kGray)
    picture.set(array_of(saturated(pixels, picture.colour(), factor)));
}
void adjust_hue(Picture& picture, double factor) {
  TRI_CHECK(factor >= -0.5 && factor <= 0.5,
            "[adjust_hue] factor expects -0.5 to 0.5, got " + std::to_string(factor));
  const cv::Mat pixels = bytes_of(picture, "adjust_hue");
  if (picture.colour() != Colour::kGray)
    picture.set(array_of(hue_shifted(pixels, picture.colour(), factor)));
}
void to_grayscale(Picture& picture, int num_output_channels) {
  RandomStream none(0, 0, 0);
  Grayscale(num_output_channels).apply(picture, none);
}

Grayscale::Grayscale(int num_output_channels) : channels_(num_output_channels) {
  TRI_CHECK(channels_ == 1 || channels_ == 3, "[Grayscale] expected 1 or 3 output channels");
}

void Grayscale::apply(Picture& picture, RandomStream&) const {
  cv::Mat grey = grey_of(bytes_of(picture, "Grayscale"), picture.colour());
  if (channels_ == 1) {
    picture.set(array_of(grey));
    return;
  }
  cv::Mat three;
  cv::cvtColor(grey, three, cv::COLOR_GRAY2BGR);
  const Colour colour = picture.colour() == Colour::kGray ? Colour::kRgb : picture.colour();
  picture = Picture(array_of(three), colour);
}

void ToTensor::apply(Picture& picture, RandomStream&) const {
  const float zero = 0, one = 1;
  picture.to_float(1.0f / 255, {&zero, 1}, {&one, 1});
}

Normalize::Normalize(std::vector<float> mean, std::vector<float> std, bool channels_first)
    : mean_(std::move(mean)), std_(std::move(std)), channels_first_(channels_first) {
  TRI_CHECK(!mean_.empty() && !std_.empty(), "[Normalize] expected a mean and a deviation");
}

void Normalize::apply(Picture& picture, RandomStream&) const {
  picture.to_float(1, mean_, std_, channels_first_);
}

Transpose::Transpose(const std::array<int, 3>& order) : order_(order) {
  std::array<int, 3> sorted = order;
  std::ranges::sort(sorted);
  TRI_CHECK((sorted == std::array{0, 1, 2}), "[Transpose] order expects a permutation of 0, 1, 2");
}

void Transpose::apply(Picture& picture, RandomStream&) const { picture.transpose(order_); }

RandomErasing::RandomErasing(double prob, double min_scale, double max_scale, double min_ratio,
                             double max_ratio, float value)
    : prob_(prob),
      min_scale_(min_scale),
      max_scale_(max_scale),
      min_ratio_(min_ratio),
      max_ratio_(max_ratio),
      value_(value) {
  check_probability("RandomErasing", prob);
  TRI_CHECK(0 < min_scale && min_scale <= max_scale && max_scale <= 1 && 0 < min_ratio &&
                min_ratio <= max_ratio,
            "[RandomErasing] scale is a range of (0, 1], ratio a range above zero");
}

void RandomErasing::apply(Picture& picture, RandomStream& random) const {
  if (!random.chance(prob_)) return;
  const int width = picture.width(), height = picture.height();
  cv::Rect area;
  for (int attempt = 0; attempt < 10 && area.empty(); ++attempt) {
    const double part = 1.0 * width * height * random.uniform(min_scale_, max_scale_);
    const double ratio = std::exp(random.uniform(std::log(min_ratio_), std::log(max_ratio_)));
    const auto h = static_cast<int>(std::lround(std::sqrt(part * ratio)));
    const auto w = static_cast<int>(std::lround(std::sqrt(part / ratio)));
    if (h <= 0 || w <= 0 || h >= height || w >= width) continue;
    area = {static_cast<int>(random.between(0, width - w)),
            static_cast<int>(random.between(0, height - h)), w, h};
  }
  if (area.empty()) return;
  if (!picture.is_float()) {
    cv::Mat pixels = bytes_of(picture, "RandomErasing").clone();
    pixels(area).setTo(cv::Scalar::all(value_));
    picture.set(array_of(pixels));
    return;
  }
  float* values = picture.pixels().as<float>();
  const int channels = picture.channels();
  if (!picture.channels_first()) {
    cv::Mat(height, width, CV_32FC(channels), values)(area).setTo(cv::Scalar::all(value_));
    return;
  }
  for (int64_t c = 0; c < channels; ++c)
    cv::Mat(height, width, CV_32F, values + c * width * height)(area).setTo(value_);
}

GaussianBlur::GaussianBlur(double min_sigma, double max_sigma)
    : min_sigma_(min_sigma), max_sigma_(max_sigma) {
  TRI_CHECK(0 < min_sigma && min_sigma <= max_sigma && max_sigma <= 100,
            "[GaussianBlur] expected a range of deviations in (0, 100]");
}

void GaussianBlur::apply(Picture& picture, RandomStream& random) const {
  const cv::Mat from = bytes_of(picture, "GaussianBlur");
  cv::Mat to;
  cv::GaussianBlur(from, to, {0, 0}, random.uniform(min_sigma_, max_sigma_));
  picture.set(array_of(to));
}

MotionBlur::MotionBlur(int max_length) : max_length_(max_length) {
  TRI_CHECK(max_length >= 3 && max_length <= 99, "[MotionBlur] expected a length of 3 to 99");
}

void MotionBlur::apply(Picture& picture, RandomStream& random) const {
  const auto length = static_cast<int>(random.between(3, max_length_));
  const double angle = random.uniform(0, std::numbers::pi), reach = (length - 1) / 2.0;
  cv::Mat kernel = cv::Mat::zeros(length, length, CV_32F);
  // Drawn with four bits behind the point, so that every direction has a kernel of its own.
  constexpr double kPart = 16;
  const auto at = [&](double sign) {
    return cv::Point(
        static_cast<int>(std::lround((reach + sign * reach * std::cos(angle)) * kPart)),
        static_cast<int>(std::lround((reach + sign * reach * std::sin(angle)) * kPart)));
  };
  cv::Mat line = cv::Mat::zeros(length, length, CV_8U);
  cv::line(line, at(-1), at(1), 255, 1, cv::LINE_AA, 4);
  line.convertTo(kernel, CV_32F);
  const cv::Mat from = bytes_of(picture, "MotionBlur");
  cv::Mat to;
  cv::filter2D(from, to, -1, kernel / cv::sum(kernel)[0], {-1, -1}, 0, cv::BORDER_REPLICATE);
  picture.set(array_of(to));
}

BackgroundNoise::BackgroundNoise(double sigma, double shade) : sigma_(sigma), shade_(shade) {
  TRI_CHECK(sigma >= 0 && shade >= 0, "[BackgroundNoise] expected values not below zero");
}

void BackgroundNoise::apply(Picture& picture, RandomStream& random) const {
  const cv::Mat from = bytes_of(picture, "BackgroundNoise");
  const double angle = random.uniform(0, 2 * std::numbers::pi);
  const double shade = random.uniform(0, shade_), sigma = random.uniform(0, sigma_);
  cv::Mat noise(from.size(), CV_16SC(from.channels()));
  cv::RNG generator(random.next());
  generator.fill(noise, cv::RNG::NORMAL, 0, std::max(sigma, 1e-3));
  const double step_x = std::cos(angle) * shade / from.cols;
  const double step_y = std::sin(angle) * shade / from.rows;
  for (int y = 0; y < from.rows; ++y) {
    int16_t* row = noise.ptr<int16_t>(y);
    for (int x = 0; x < from.cols; ++x) {
      const double light = step_x * (x - from.cols / 2) + step_y * (y - from.rows / 2);
      for (int c = 0; c < from.channels(); ++c, ++row)
        *row = static_cast<int16_t>(*row + std::lround(light));
    }
  }
  cv::Mat to;
  cv::add(from, noise, to, cv::noArray(), CV_8U);
  picture.set(array_of(to));
}

JpegArtefacts::JpegArtefacts(int min_quality, int max_quality)
    : min_quality_(min_quality), max_quality_(max_quality) {
  TRI_CHECK(1 <= min_quality && min_quality <= max_quality && max_quality <= 100,
            "[JpegArtefacts] expected a range of qualities in 1 to 100");
}

void JpegArtefacts::apply(Picture& picture, RandomStream& random) const {
  const auto quality = static_cast<int>(random.between(min_quality_, max_quality_));
  bytes_of(picture, "JpegArtefacts");
  const Colour colour = picture.colour();
  Picture again(encode_jpeg(picture.pixels(), colour, quality), colour);
  picture.set(again.pixels());
}

}  // namespace trireme::vision::transforms
