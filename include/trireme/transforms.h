// Augmentations, with the names and defaults of paddle.vision.transforms; more for lines of text.
#pragma once

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "trireme/random_stream.h"
#include "trireme/vision.h"

namespace trireme::vision::transforms {

// One step. It draws from `random` alone, so a sample is the same in every run and worker; a const
// Transform serves many threads. Constructors throw kInvalidArgument for senseless parameters.
// Steps work on 8-bit pixels, of 1 or 3 channels, unless they say otherwise.
class Transform {
 public:
  virtual ~Transform() = default;
  virtual void apply(Picture& picture, RandomStream& random) const = 0;
};
using TransformPtr = std::shared_ptr<const Transform>;

// The steps one after another: Compose(RandomResizedCrop(224), RandomHorizontalFlip()).
class Compose : public Transform {
 public:
  Compose() = default;
  explicit Compose(std::vector<TransformPtr> steps) : steps_(std::move(steps)) {}
  template <class... Steps> explicit Compose(Steps... steps) {
    (steps_.push_back(std::make_shared<const Steps>(std::move(steps))), ...);
  }
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  std::vector<TransformPtr> steps_;
};

// Applies the step with this probability.
class RandomApply : public Transform {
 public:
  template <class Step>
  RandomApply(Step step, double prob)
      : step_(std::make_shared<const Step>(std::move(step))), prob_(prob) {}
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  TransformPtr step_;
  double prob_;
};

// A side alone: the shorter side gets this length, and the other follows. A JPEG is decoded at a
// fraction of its size where that is enough.
class Resize : public Transform {
 public:
  explicit Resize(int shorter, Interpolation interpolation = Interpolation::kBilinear);
  explicit Resize(Size size, Interpolation interpolation = Interpolation::kBilinear);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  Size size_;  // height 0: width is that of the shorter side
  Interpolation interpolation_;
};

// Scaled to `height`, width in proportion but at most `width`, then filled up to it on the right
// with `fill`: how recognisers of text want their lines.
class ResizeLine : public Transform {
 public:
  ResizeLine(int height, int width, uint8_t fill = 0);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  int height_, width_;
  uint8_t fill_;
};

// A part of a random share of the area and a random shape, scaled to `size`. Of a JPEG only that
// part is decoded.
class RandomResizedCrop : public Transform {
 public:
  explicit RandomResizedCrop(int side) : RandomResizedCrop(Size{side, side}) {}
  explicit RandomResizedCrop(Size size, double min_scale = 0.08, double max_scale = 1,
                             double min_ratio = 3.0 / 4, double max_ratio = 4.0 / 3,
                             Interpolation interpolation = Interpolation::kBilinear);
  Region region(int width, int height, RandomStream& random) const;
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  Size size_;
  double min_scale_, max_scale_, min_ratio_, max_ratio_;
  Interpolation interpolation_;
};

// Smaller pictures get black margins.
class CenterCrop : public Transform {
 public:
  explicit CenterCrop(int side) : CenterCrop(Size{side, side}) {}
  explicit CenterCrop(Size size);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  Size size_;
};

enum class PaddingMode : uint8_t { kConstant, kEdge, kReflect, kSymmetric };
struct Padding {
  int left = 0, top = 0, right = 0, bottom = 0;
  static Padding all(int n) { return {n, n, n, n}; }
};

class Pad : public Transform {
 public:
  explicit Pad(Padding padding, uint8_t fill = 0, PaddingMode mode = PaddingMode::kConstant);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  Padding padding_;
  uint8_t fill_;
  PaddingMode mode_;
};

// Pads, then cuts a part of `size` anywhere; a picture that is still too small is an error unless
// `pad_if_needed`.
class RandomCrop : public Transform {
 public:
  explicit RandomCrop(int side, int padding = 0)
      : RandomCrop(Size{side, side}, Padding::all(padding)) {}
  explicit RandomCrop(Size size, Padding padding = {}, bool pad_if_needed = false, uint8_t fill = 0,
                      PaddingMode mode = PaddingMode::kConstant);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  Size size_;
  Padding padding_;
  bool pad_if_needed_;
  uint8_t fill_;
  PaddingMode mode_;
};

class RandomHorizontalFlip : public Transform {
 public:
  explicit RandomHorizontalFlip(double prob = 0.5);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  double prob_;
};

class RandomVerticalFlip : public Transform {
 public:
  explicit RandomVerticalFlip(double prob = 0.5);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  double prob_;
};

// Factors from [max(0, 1 - v), 1 + v]; hue is shifted by up to `hue` (at most 0.5) of the circle.
// In a random order.
class ColorJitter : public Transform {
 public:
  explicit ColorJitter(double brightness = 0, double contrast = 0, double saturation = 0,
                       double hue = 0);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  double brightness_, contrast_, saturation_, hue_;
};

class Grayscale : public Transform {
 public:
  explicit Grayscale(int num_output_channels = 1);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  int channels_;
};

// By an angle of [-degrees, degrees], anticlockwise about the centre; the size stays.
class RandomRotation : public Transform {
 public:
  explicit RandomRotation(double degrees, Interpolation interpolation = Interpolation::kNearest,
                          uint8_t fill = 0);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  double degrees_;
  Interpolation interpolation_;
  uint8_t fill_;
};

// Turned, shifted (shares of the sides), scaled, sheared (degrees along x); the size stays.
class RandomAffine : public Transform {
 public:
  struct Options {
    double degrees = 0, translate_x = 0, translate_y = 0, min_scale = 1, max_scale = 1, shear = 0;
    Interpolation interpolation = Interpolation::kNearest;
    uint8_t fill = 0;
  };
  explicit RandomAffine(const Options& options);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  Options options_;
};

// Paddle's RandomPerspective: each corner moves inwards by up to distortion_scale / 2 of the side.
class PerspectiveWarp : public Transform {
 public:
  explicit PerspectiveWarp(double prob = 0.5, double distortion_scale = 0.5,
                           Interpolation interpolation = Interpolation::kBilinear,
                           uint8_t fill = 0);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  double prob_, distortion_scale_;
  Interpolation interpolation_;
  uint8_t fill_;
};

// 8-bit pixels to float32 [C, H, W] of 0 to 1. The conversion waits for the end, so that Normalize
// behind it shares its pass.
class ToTensor : public Transform {
 public:
  void apply(Picture& picture, RandomStream& random) const override;
};

// (x - mean) / std, on 8-bit pixels (0 to 255) or behind ToTensor; one value or one a channel. The
// result is float32 [C, H, W], or [H, W, C] with channels_first off.
class Normalize : public Transform {
 public:
  Normalize(std::vector<float> mean, std::vector<float> std, bool channels_first = true);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  std::vector<float> mean_, std_;
  bool channels_first_;
};

// The axes in another order: 8-bit pixels and floats of Normalize are [H, W, C], floats behind
// ToTensor [C, H, W]. Channels come first or last; where they come first the values become float32,
// unscaled (Paddle keeps their type).
class Transpose : public Transform {
 public:
  explicit Transpose(const std::array<int, 3>& order = {2, 0, 1});
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  std::array<int, 3> order_;
};

// A rectangle set to `value`; on 8-bit pixels or on floats [C, H, W].
class RandomErasing : public Transform {
 public:
  explicit RandomErasing(double prob = 0.5, double min_scale = 0.02, double max_scale = 0.33,
                         double min_ratio = 0.3, double max_ratio = 3.3, float value = 0);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  double prob_, min_scale_, max_scale_, min_ratio_, max_ratio_;
  float value_;
};

// Deviation of the kernel in pixels, drawn from [min_sigma, max_sigma].
class GaussianBlur : public Transform {
 public:
  explicit GaussianBlur(double min_sigma = 0.1, double max_sigma = 2);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  double min_sigma_, max_sigma_;
};

// Along a line of random direction, of 3 to `max_length` pixels.
class MotionBlur : public Transform {
 public:
  explicit MotionBlur(int max_length = 9);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  int max_length_;
};

// A lighting gradient of up to `shade` grey levels over the picture, and noise of deviation up to
// `sigma`.
class BackgroundNoise : public Transform {
 public:
  explicit BackgroundNoise(double sigma = 12, double shade = 40);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  double sigma_, shade_;
};

// Encoded as a JPEG of a random quality, and decoded.
class JpegArtefacts : public Transform {
 public:
  explicit JpegArtefacts(int min_quality = 20, int max_quality = 80);
  void apply(Picture& picture, RandomStream& random) const override;

 private:
  int min_quality_, max_quality_;
};

// ---- Paddle's other names
using BaseTransform = Transform;
using RandomPerspective = PerspectiveWarp;
struct BrightnessTransform : ColorJitter {
  explicit BrightnessTransform(double value) : ColorJitter(value) {}
};
struct ContrastTransform : ColorJitter {
  explicit ContrastTransform(double value) : ColorJitter(0, value) {}
};
struct SaturationTransform : ColorJitter {
  explicit SaturationTransform(double value) : ColorJitter(0, 0, value) {}
};
struct HueTransform : ColorJitter {
  explicit HueTransform(double value) : ColorJitter(0, 0, 0, value) {}
};

// ---- functions: a picture of 8-bit pixels is changed in place
void hflip(Picture& picture);
void vflip(Picture& picture);
void crop(Picture& picture, int top, int left, int height, int width);  // inside the picture
void center_crop(Picture& picture, Size size);
void resize(Picture& picture, Size size, Interpolation interpolation = Interpolation::kBilinear);
void rotate(Picture& picture, double angle, Interpolation interpolation = Interpolation::kNearest,
            uint8_t fill = 0);  // anticlockwise about the centre, in degrees; the size stays
// Turned by `angle` degrees clockwise about the centre, sheared (degrees along x and y), scaled,
// then moved by `translate` pixels to the right and down; the size stays.
struct AffineOptions {
  double angle = 0, translate_x = 0, translate_y = 0, scale = 1, shear_x = 0, shear_y = 0;
  Interpolation interpolation = Interpolation::kNearest;
  uint8_t fill = 0;
};
void affine(Picture& picture, const AffineOptions& options);
// What is at the start points goes to the end points (x, y; pixels of the picture).
using Corners = std::array<std::pair<float, float>, 4>;
void perspective(Picture& picture, const Corners& startpoints, const Corners& endpoints,
                 Interpolation interpolation = Interpolation::kNearest, uint8_t fill = 0);
// The part becomes `value`, in all channels.
void erase(Picture& picture, int top, int left, int height, int width, uint8_t value);
void to_grayscale(Picture& picture, int num_output_channels = 1);
void adjust_brightness(Picture& picture, double factor);  // 1 changes nothing
void adjust_contrast(Picture& picture, double factor);
void adjust_saturation(Picture& picture, double factor);  // nothing for grey pictures
void adjust_hue(Picture& picture, double factor);         // a part of the circle, -0.5 to 0.5

}  // namespace trireme::vision::transforms
