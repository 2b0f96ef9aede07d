// Transforms: what each does to pixels, and that the stream alone decides.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "trireme/transforms.h"

namespace trireme::vision::transforms {
namespace {

Array picture_of(int width, int height, int channels = 3) {
  Array pixels(DType::kUInt8, {height, width, channels});
  for (int64_t i = 0; i < pixels.numel(); ++i)
    pixels.as<uint8_t>()[i] = static_cast<uint8_t>(i / channels % width * 3 +
                                                   i / channels / width * 2 + i % channels * 30);
  return pixels;
}

Array apply(const Transform& step, const Array& pixels, uint64_t seed = 0) {
  Picture picture(pixels, pixels.shape()[2] == 1 ? Colour::kGray : Colour::kRgb);
  RandomStream random(seed);
  step.apply(picture, random);
  return picture.pixels();
}

bool same(const Array& a, const Array& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

int at(const Array& a, int64_t y, int64_t x, int64_t c = 0) {
  return a.as<uint8_t>()[(y * a.shape()[1] + x) * a.shape()[2] + c];
}

std::vector<TransformPtr> every_kind() {
  const auto make = []<class T>(T step) -> TransformPtr { return std::make_shared<T>(step); };
  return {make(Resize(20)),
          make(Resize(Size{15, 9}, Interpolation::kBicubic)),
          make(ResizeLine(12, 60)),
          make(RandomResizedCrop(16)),
          make(CenterCrop(Size{50, 10})),
          make(Pad(Padding::all(3), 7, PaddingMode::kReflect)),
          make(RandomCrop(24, 4)),
          make(RandomHorizontalFlip()),
          make(RandomVerticalFlip()),
          make(ColorJitter(0.4, 0.4, 0.4, 0.1)),
          make(Grayscale(3)),
          make(RandomRotation(30, Interpolation::kBilinear)),
          make(RandomAffine({.degrees = 10, .translate_x = 0.1, .min_scale = 0.8, .shear = 5})),
          make(PerspectiveWarp(1)),
          make(RandomErasing(1)),
          make(GaussianBlur()),
          make(MotionBlur()),
          make(BackgroundNoise()),
          make(JpegArtefacts()),
          make(RandomApply(MotionBlur(), 0.5))};
}

TEST(Transforms, TheStreamAloneDecidesAndTheSourceStays) {
  for (const int channels : {3, 1}) {
    const Array pixels = picture_of(40, 30, channels);
    const Array before = Array::from<uint8_t>(
        pixels.shape(), {pixels.as<uint8_t>(), static_cast<size_t>(pixels.numel())}, DType::kUInt8);
    const auto steps = every_kind();
    for (size_t i = 0; i < steps.size(); ++i)
      for (uint64_t seed = 0; seed < 5; ++seed)
        EXPECT_TRUE(same(apply(*steps[i], pixels, seed), apply(*steps[i], pixels, seed))) << i;
    EXPECT_TRUE(same(pixels, before));
    // Each that draws draws something else with another seed.
    for (const size_t i : {3, 6, 9, 11, 12, 13, 14, 15, 16, 17}) {
      int different = 0;
      for (uint64_t seed = 1; seed < 6; ++seed)
        different += same(apply(*steps[i], pixels, seed), apply(*steps[i], pixels)) ? 0 : 1;
      EXPECT_GE(different, 3) << i;
    }
  }
}

TEST(Transforms, SurvivePicturesOfOnePixel) {
  for (const auto& step : every_kind())
    for (const auto& [w, h] : {std::pair{1, 1}, {1, 40}, {40, 1}, {2, 3}}) try {
        const Array result = apply(*step, picture_of(w, h));
        EXPECT_GT(result.numel(), 0);
      } catch (const Error& e) { EXPECT_EQ(e.code(), Code::kInvalidArgument) << e.what(); }
}

TEST(Transforms, SizesAreThoseAskedFor) {
  const Array pixels = picture_of(40, 30);
  EXPECT_EQ(apply(Resize(15), pixels).shape(), (Shape{15, 20, 3}));
  EXPECT_EQ(apply(Resize(Size{7, 9}), pixels).shape(), (Shape{9, 7, 3}));
  EXPECT_EQ(apply(RandomResizedCrop(16), pixels).shape(), (Shape{16, 16, 3}));
  EXPECT_EQ(apply(Pad({1, 2, 3, 4}), pixels).shape(), (Shape{36, 44, 3}));
  EXPECT_EQ(apply(RandomCrop(30), pixels).shape(), (Shape{30, 30, 3}));
  EXPECT_THROW(apply(RandomCrop(31), pixels), Error);
  EXPECT_EQ(apply(RandomCrop(Size{50, 50}, {}, true), pixels).shape(), (Shape{50, 50, 3}));
  EXPECT_EQ(apply(ResizeLine(15, 50), pixels).shape(), (Shape{15, 50, 3}));
  EXPECT_EQ(at(apply(ResizeLine(15, 50, 9), pixels), 3, 30), 9);  // behind its 20 columns
  EXPECT_EQ(apply(ResizeLine(15, 10), pixels).shape(), (Shape{15, 10, 3}));
}

TEST(Transforms, CropsAndFlipsMoveWholePixels) {
  const Array pixels = picture_of(40, 30);
  const Array centre = apply(CenterCrop(Size{20, 10}), pixels);
  EXPECT_EQ(at(centre, 0, 0, 2), at(pixels, 10, 10, 2));
  const Array wide = apply(CenterCrop(Size{50, 10}), pixels);
  EXPECT_EQ(at(wide, 0, 4), 0);
  EXPECT_EQ(at(wide, 0, 5), at(pixels, 10, 0));
  const Array mirrored = apply(RandomHorizontalFlip(1), pixels);
  EXPECT_EQ(at(mirrored, 4, 0, 1), at(pixels, 4, 39, 1));
  const Array upside = apply(RandomVerticalFlip(1), pixels);
  EXPECT_EQ(at(upside, 0, 4, 1), at(pixels, 29, 4, 1));
  EXPECT_TRUE(same(apply(RandomHorizontalFlip(0), pixels), pixels));
  const Array edge = apply(Pad(Padding::all(2), 0, PaddingMode::kEdge), pixels);
  EXPECT_EQ(at(edge, 0, 0), at(pixels, 0, 0));
  const Array reflect = apply(Pad(Padding::all(2), 0, PaddingMode::kReflect), pixels);
  EXPECT_EQ(at(reflect, 0, 0), at(pixels, 2, 2));
  const Array symmetric = apply(Pad(Padding::all(2), 0, PaddingMode::kSymmetric), pixels);
  EXPECT_EQ(at(symmetric, 0, 0), at(pixels, 1, 1));
  EXPECT_EQ(at(apply(Pad(Padding::all(2), 9), pixels), 1, 1), 9);
}

TEST(Transforms, RandomResizedCropStaysInItsRanges) {
  const RandomResizedCrop crop({8, 8}, 0.2, 0.6);
  double smallest = 1, largest = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    RandomStream random(seed);
    const Region r = crop.region(100, 80, random);
    ASSERT_TRUE(r.x >= 0 && r.y >= 0 && r.x + r.width <= 100 && r.y + r.height <= 80);
    const double part = r.width * r.height / 8000.0, ratio = 1.0 * r.width / r.height;
    EXPECT_TRUE(part > 0.19 && part < 0.62) << part;
    EXPECT_TRUE(ratio > 0.73 && ratio < 1.37) << ratio;
    smallest = std::min(smallest, part), largest = std::max(largest, part);
  }
  EXPECT_LT(smallest, 0.23);
  EXPECT_GT(largest, 0.55);
  RandomStream random;
  const Region r = crop.region(1000, 10, random);  // no shape fits: the centre
  EXPECT_EQ(r.height, 10);
  EXPECT_EQ(r.x, (1000 - r.width) / 2);
}

TEST(Transforms, ColoursMoveAsNamed) {
  Array flat(DType::kUInt8, {4, 4, 3});
  for (int64_t i = 0; i < flat.numel(); ++i)
    flat.as<uint8_t>()[i] = static_cast<uint8_t>(60 + 40 * (i % 3));  // 60, 100, 140
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Array bright = apply(ColorJitter(0.5), flat, seed);
    EXPECT_NEAR(1.0 * at(bright, 0, 0, 2) / at(bright, 0, 0, 0), 140.0 / 60, 0.06);
    EXPECT_NEAR(at(bright, 0, 0, 0), 60, 31);
    const Array grey = apply(Grayscale(), apply(ColorJitter(0, 0, 0.9), flat, seed));
    EXPECT_NEAR(at(grey, 0, 0), at(apply(Grayscale(), flat), 0, 0), 2);  // the luma stays
    const Array hue = apply(ColorJitter(0, 0, 0, 0.5), flat, seed);
    EXPECT_NEAR(std::max({at(hue, 0, 0, 0), at(hue, 0, 0, 1), at(hue, 0, 0, 2)}), 140, 2);
  }
  EXPECT_EQ(apply(Grayscale(), flat).shape(), (Shape{4, 4, 1}));
  EXPECT_EQ(apply(Grayscale(3), flat).shape(), (Shape{4, 4, 3}));
  EXPECT_THROW(ColorJitter(0, 0, 0, 0.6), Error);
}

// What f makes of a copy of `from`.
template <class F> Array changed_by(F& f, const Array& from) {
  Array copy(DType::kUInt8, from.shape());
  std::memcpy(copy.data(), from.data(), from.bytes());
  Picture picture(copy, Colour::kRgb);
  f(picture);
  return picture.pixels();
}

TEST(Transforms, FunctionsDoWhatTheirNamesSay) {
  const Array from = picture_of(6, 4);
  const auto changed = [&](auto&& f) { return changed_by(f, from); };
  EXPECT_EQ(at(changed([](Picture& p) { hflip(p); }), 1, 0), at(from, 1, 5));
  EXPECT_EQ(at(changed([](Picture& p) { vflip(p); }), 0, 2), at(from, 3, 2));
  EXPECT_EQ(at(changed([](Picture& p) { crop(p, 1, 2, 2, 3); }), 0, 0), at(from, 1, 2));
  EXPECT_EQ(changed([](Picture& p) { center_crop(p, {2, 2}); }).shape(), (Shape{2, 2, 3}));
  EXPECT_EQ(changed([](Picture& p) { resize(p, {8, 5}); }).shape(), (Shape{5, 8, 3}));
  EXPECT_TRUE(same(changed([](Picture& p) { rotate(p, 0); }), from));
  EXPECT_EQ(at(changed([](Picture& p) { rotate(p, 180); }), 0, 0), at(from, 3, 5));
  EXPECT_EQ(at(changed([](Picture& p) { adjust_brightness(p, 2); }), 1, 1), 2 * at(from, 1, 1));
  EXPECT_TRUE(same(changed([](Picture& p) { adjust_contrast(p, 1); }), from));
  EXPECT_TRUE(same(changed([](Picture& p) { adjust_saturation(p, 1); }), from));
  EXPECT_NEAR(at(changed([](Picture& p) { adjust_hue(p, 0); }), 1, 1), at(from, 1, 1), 2);
  EXPECT_EQ(changed([](Picture& p) { to_grayscale(p); }).shape(), (Shape{4, 6, 1}));
  EXPECT_THROW(changed([](Picture& p) { crop(p, 3, 0, 2, 2); }), Error);
  EXPECT_THROW(changed([](Picture& p) { adjust_hue(p, 0.6); }), Error);
  EXPECT_TRUE(same(apply(BrightnessTransform(0.5), from, 3), apply(ColorJitter(0.5), from, 3)));
}

TEST(Transforms, AffinePerspectiveAndErase) {
  const Array from = picture_of(7, 7);
  const auto changed = [&](auto&& f) { return changed_by(f, from); };
  const Array turned = changed([](Picture& p) { affine(p, {.angle = 90}); });
  const Array moved =
      changed([](Picture& p) { affine(p, {.translate_x = 2, .translate_y = -1, .fill = 9}); });
  const Array sheared = changed([](Picture& p) { affine(p, {.shear_x = 45}); });
  const Array twice = changed([](Picture& p) { affine(p, {.scale = 2}); });
  for (int y = 0; y < 7; ++y)
    for (int x = 0; x < 7; ++x) {
      EXPECT_EQ(at(turned, y, x), at(from, 6 - x, y));  // clockwise
      EXPECT_EQ(at(moved, y, x), x < 2 || y > 5 ? 9 : at(from, y + 1, x - 2));
      const int source = x + (y - 3);  // what is below the middle moves to the left
      EXPECT_EQ(at(sheared, y, x), source < 0 || source > 6 ? 0 : at(from, y, source));
      if (x % 2 == 1 && y % 2 == 1) {
        EXPECT_EQ(at(twice, y, x), at(from, (y + 3) / 2, (x + 3) / 2));
      }
    }
  const Corners all{{{0, 0}, {6, 0}, {6, 6}, {0, 6}}}, mirrored{{{6, 0}, {0, 0}, {0, 6}, {6, 6}}};
  EXPECT_TRUE(same(changed([&](Picture& p) { perspective(p, all, mirrored); }),
                   changed([](Picture& p) { hflip(p); })));
  EXPECT_TRUE(same(changed([&](Picture& p) { perspective(p, all, all); }), from));
  const Array erased = changed([](Picture& p) { erase(p, 1, 2, 3, 4, 200); });
  for (int y = 0; y < 7; ++y)
    for (int x = 0; x < 7; ++x)
      EXPECT_EQ(at(erased, y, x, 1), y >= 1 && y < 4 && x >= 2 && x < 6 ? 200 : at(from, y, x, 1));
  EXPECT_THROW(changed([](Picture& p) { erase(p, 5, 0, 3, 1, 0); }), Error);
  EXPECT_THROW(changed([](Picture& p) { affine(p, {.scale = 0}); }), Error);
  const Corners flat{{{0, 0}, {1, 1}, {2, 2}, {3, 3}}};
  EXPECT_THROW(changed([&](Picture& p) { perspective(p, flat, all); }), Error);
}

TEST(Transforms, NoTurnIsNoChange) {
  const Array pixels = picture_of(40, 30);
  EXPECT_TRUE(same(apply(RandomRotation(0), pixels), pixels));
  EXPECT_TRUE(same(apply(RandomAffine({}), pixels), pixels));
  EXPECT_TRUE(same(apply(PerspectiveWarp(1, 0), pixels), pixels));
}

TEST(Transforms, BlurKeepsTheMean) {
  Array dot(DType::kUInt8, {21, 21, 1});
  std::memset(dot.data(), 0, dot.bytes());
  dot.as<uint8_t>()[10 * 21 + 10] = 250;
  for (uint64_t seed = 0; seed < 10; ++seed)
    for (const bool motion : {true, false}) {
      const Array blurred =
          motion ? apply(MotionBlur(7), dot, seed) : apply(GaussianBlur(0.8, 1.5), dot, seed);
      int sum = 0;
      for (int64_t i = 0; i < blurred.numel(); ++i) sum += blurred.as<uint8_t>()[i];
      EXPECT_NEAR(sum, 250, 25);
      EXPECT_LT(at(blurred, 10, 10), 150);
    }
}

TEST(Transforms, ToTensorAndNormalizeAreOnePass) {
  const Array pixels = picture_of(10, 6);
  const Array floats =
      apply(Compose(ToTensor(), Normalize({0.5f, 0.4f, 0.3f}, {0.2f, 0.3f, 0.4f})), pixels);
  ASSERT_EQ(floats.dtype(), DType::kFloat32);
  ASSERT_EQ(floats.shape(), (Shape{3, 6, 10}));
  EXPECT_NEAR(floats.as<float>()[60 + 23], (at(pixels, 2, 3, 1) / 255.0 - 0.4) / 0.3, 1e-5);
  const Array rows = apply(Normalize({127.5f}, {127.5f}, false), pixels);
  ASSERT_EQ(rows.shape(), (Shape{6, 10, 3}));
  EXPECT_NEAR(rows.as<float>()[23 * 3 + 1], (at(pixels, 2, 3, 1) - 127.5) / 127.5, 1e-5);
  EXPECT_THROW(apply(Compose(ToTensor(), RandomHorizontalFlip(1)), pixels), Error);
  EXPECT_THROW(apply(Normalize({1, 2}, {1}), pixels), Error);
  EXPECT_THROW(Normalize({}, {}), Error);
}

// What numpy.transpose(pixels, order), paddle.vision.transforms.Transpose, gives.
TEST(Transforms, TransposeOrdersTheAxes) {
  const Array pixels = picture_of(5, 4);  // [4, 5, 3]
  const Array planes = apply(Transpose(), pixels);
  ASSERT_EQ(planes.shape(), (Shape{3, 4, 5}));
  ASSERT_EQ(planes.dtype(), DType::kFloat32);
  EXPECT_EQ(planes.as<float>()[20 + 2 * 5 + 3], at(pixels, 2, 3, 1));
  EXPECT_TRUE(same(apply(Transpose({0, 1, 2}), pixels), pixels));
  const Array turned = apply(Transpose({1, 0, 2}), pixels);
  ASSERT_EQ(turned.shape(), (Shape{5, 4, 3}));
  EXPECT_EQ(at(turned, 3, 2, 1), at(pixels, 2, 3, 1));
  const Array both = apply(Transpose({2, 1, 0}), pixels);
  ASSERT_EQ(both.shape(), (Shape{3, 5, 4}));
  EXPECT_EQ(both.as<float>()[20 + 3 * 4 + 2], at(pixels, 2, 3, 1));
  // floats, there and back
  const Array rows = apply(Normalize({0}, {1}, false), pixels);
  EXPECT_TRUE(same(apply(Compose(Transpose(), Transpose({1, 2, 0})), pixels), rows));
  EXPECT_TRUE(same(apply(Compose(Normalize({0}, {1}, false), Transpose({2, 1, 0})), pixels), both));
  EXPECT_TRUE(same(apply(Compose(Transpose(), Normalize({100}, {50})), pixels),
                   apply(Compose(Normalize({100}, {50}, false), Transpose()), pixels)));
  EXPECT_THROW(Transpose({0, 1, 1}), Error);
  EXPECT_THROW(apply(Transpose({0, 2, 1}), pixels), Error);
}

TEST(Transforms, ErasingWorksOnBytesAndOnFloats) {
  const Array pixels = picture_of(40, 30);
  const auto zeros = [](const Array& a, int64_t step, int64_t plane) {
    int64_t n = 0;
    for (int64_t i = 0; i < plane; ++i)
      n += a.dtype() == DType::kUInt8 ? a.as<uint8_t>()[i * step] == 200
                                      : a.as<float>()[i * step] == 200;
    return n;
  };
  const RandomErasing erase(1, 0.1, 0.3, 0.5, 2, 200);
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const int64_t n = zeros(apply(erase, pixels, seed), 3, 1200);
    EXPECT_TRUE(n > 90 && n < 420) << n;
    EXPECT_EQ(zeros(apply(Compose(ToTensor(), erase), pixels, seed), 1, 1200), n);
    EXPECT_EQ(zeros(apply(Compose(Normalize({0}, {1}, false), erase), pixels, seed), 3, 1200), n);
  }
}

TEST(Transforms, RefuseSenselessParameters) {
  EXPECT_THROW(Resize(0), Error);
  EXPECT_THROW(Resize(Size{1 << 20, 1 << 20}), Error);
  EXPECT_THROW(RandomResizedCrop({4, 4}, 0, 1), Error);
  EXPECT_THROW(RandomHorizontalFlip(1.5), Error);
  EXPECT_THROW(GaussianBlur(2, 1), Error);
  EXPECT_THROW(MotionBlur(2), Error);
  EXPECT_THROW(JpegArtefacts(0, 10), Error);
  EXPECT_THROW(Pad(Padding{-1, 0, 0, 0}), Error);
}

}  // namespace
}  // namespace trireme::vision::transforms
