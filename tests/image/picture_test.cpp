// Picture: parts of JPEGs, reductions, orientation, floats; writing JPEGs.
#include <gtest/gtest.h>

#include <cmath>
#include <opencv2/imgproc.hpp>

#include "image/jpeg.h"
#include "image/pictures.h"
#include "image/pixels.h"

namespace trireme::vision {
namespace {

using namespace pictures;

// Smooth, so that JPEG keeps it, and different everywhere.
Image hills(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      image.bgr.push_back(static_cast<uint8_t>(255 * x / width));
      image.bgr.push_back(static_cast<uint8_t>(255 * y / height));
      image.bgr.push_back(static_cast<uint8_t>(128 + 100 * std::sin(x * 0.05 + y * 0.03)));
    }
  return image;
}

cv::Mat whole(const File& file) {
  Image image = decode_image(file);
  return cv::Mat(image.height, image.width, CV_8UC3, image.bgr.data()).clone();
}

double largest(const cv::Mat& a, const cv::Mat& b) { return cv::norm(a, b, cv::NORM_INF); }
double average(const cv::Mat& a, const cv::Mat& b) {
  return cv::norm(a, b, cv::NORM_L1) / static_cast<double>(a.total() * 3);
}

TEST(JpegPart, IsWhatTheWholeHoldsThere) {
  for (const bool progressive : {false, true}) {
    const File file = jpeg(hills(203, 151), {.progressive = progressive});
    const cv::Mat all = whole(file);
    for (const Region& r :
         {Region{0, 0, 203, 151}, Region{37, 21, 90, 70}, Region{100, 0, 103, 151},
          Region{0, 149, 203, 2}, Region{202, 150, 1, 1}, Region{5, 60, 64, 91}}) {
      const cv::Mat part = decode_jpeg_part(file, r, 1, Colour::kBgr, kMaxPixels);
      ASSERT_EQ(part.cols, r.width);
      ASSERT_EQ(part.rows, r.height);
      // Upsampling the colours looks one pixel beyond the block that was not decoded.
      EXPECT_LE(largest(part, all(cv::Rect(r.x, r.y, r.width, r.height))), 4)
          << r.x << " " << r.y << " " << progressive;
    }
  }
}

TEST(JpegPart, ReductionsAreMeans) {
  const File file = jpeg(hills(320, 240));
  const cv::Mat all = whole(file);
  for (const int reduction : {2, 4, 8}) {
    const cv::Mat part =
        decode_jpeg_part(file, {64, 32, 160, 128}, reduction, Colour::kBgr, kMaxPixels);
    cv::Mat means;
    cv::resize(all(cv::Rect(64, 32, 160, 128)), means, {}, 1.0 / reduction, 1.0 / reduction,
               cv::INTER_AREA);
    ASSERT_EQ(part.size(), means.size());
    EXPECT_LE(average(part, means), 2.0) << reduction;
  }
}

TEST(JpegPart, ATruncatedFileIsRefusedWhereverThePartLies) {
  const File file = jpeg(hills(200, 200));
  const File cut(file.begin(), file.end() - static_cast<std::ptrdiff_t>(file.size() / 3));
  for (const int top : {0, 60, 180})
    EXPECT_THROW(decode_jpeg_part(cut, {0, top, 20, 20}, 1, Colour::kRgb, kMaxPixels), Error);
  for (int top = 0; top < 200; ++top)
    EXPECT_NO_THROW(decode_jpeg_part(file, {0, top, 200, 1}, 1, Colour::kRgb, kMaxPixels)) << top;
}

TEST(PictureCrop, FollowsEveryOrientation) {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const File file = jpeg(hills(96, 64), {.orientation = orientation});
    const cv::Mat all = whole(file);
    Picture picture(file, Colour::kBgr);
    ASSERT_EQ(picture.width(), all.cols);
    ASSERT_EQ(picture.height(), all.rows);
    picture.crop_and_resize({10, 20, 32, 24}, {32, 24}, Interpolation::kBilinear);
    EXPECT_LE(largest(matrix_of(picture.pixels()), all(cv::Rect(10, 20, 32, 24))), 4)
        << orientation;
  }
}

TEST(PictureCrop, APngGivesTheSameAsAJpegWithinItsLoss) {
  const Image image = hills(300, 200);
  Picture a(jpeg(image), Colour::kRgb);
  Picture b(png(image.bgr.data(), 300, 200, PNG_FORMAT_BGR), Colour::kRgb);
  for (Picture* p : {&a, &b})
    p->crop_and_resize({20, 10, 260, 180}, {60, 40}, Interpolation::kBilinear);
  EXPECT_LE(average(matrix_of(a.pixels()), matrix_of(b.pixels())), 2.0);
}

TEST(PictureCrop, AFileOnlyReadIsTheWholePicture) {
  const File file = jpeg(hills(60, 40), {.orientation = 6});
  Picture picture(file, Colour::kBgr);
  EXPECT_FALSE(picture.is_float());
  EXPECT_EQ(largest(matrix_of(picture.pixels()), whole(file)), 0);
}

TEST(PictureCrop, RefusesWhatReachesOut) {
  Picture picture(jpeg(gradient(16, 8)), Colour::kRgb);
  const auto cut = [&](Region r) { picture.crop_and_resize(r, {4, 4}, Interpolation::kArea); };
  EXPECT_THROW(cut({-1, 0, 4, 4}), Error);
  EXPECT_THROW(cut({10, 0, 7, 4}), Error);
  EXPECT_THROW(cut({0, 8, 4, 1}), Error);
  EXPECT_THROW(cut({0, 0, 0, 1}), Error);
}

TEST(PictureColours, RgbBgrAndGrey) {
  const File file =
      png(std::vector<uint8_t>{10, 20, 200, 10, 20, 200}.data(), 2, 1, PNG_FORMAT_BGR);
  EXPECT_EQ(Picture(file, Colour::kBgr).pixels().as<uint8_t>()[0], 10);
  EXPECT_EQ(Picture(file, Colour::kRgb).pixels().as<uint8_t>()[0], 200);
  Picture grey(file, Colour::kGray);
  EXPECT_EQ(grey.pixels().shape(), (Shape{1, 2, 1}));
  EXPECT_NEAR(grey.pixels().as<uint8_t>()[1], 0.114 * 10 + 0.587 * 20 + 0.299 * 200, 1);
}

TEST(PictureFloats, NormaliseInOnePass) {
  Image image = gradient(21, 13);
  Array pixels = Array::from<uint8_t>({13, 21, 3}, image.bgr, DType::kUInt8);
  const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};
  const float zero = 0, one = 1;
  Picture planes(pixels, Colour::kRgb), rows(pixels, Colour::kRgb);
  planes.to_float(1.0f / 255, {&zero, 1}, {&one, 1});
  planes.to_float(1, mean, deviation);
  rows.to_float(1.0f / 255, mean, deviation, false);
  ASSERT_EQ(planes.pixels().shape(), (Shape{3, 13, 21}));
  ASSERT_EQ(rows.pixels().shape(), (Shape{13, 21, 3}));
  for (size_t i = 0; i < 13 * 21; ++i)
    for (size_t c = 0; c < 3; ++c) {
      const float expected =
          (static_cast<float>(image.bgr[i * 3 + c]) / 255 - mean[c]) / deviation[c];
      ASSERT_NEAR(planes.pixels().as<float>()[c * 13 * 21 + i], expected, 1e-5);
      ASSERT_NEAR(rows.pixels().as<float>()[i * 3 + c], expected, 1e-5);
    }
  EXPECT_THROW(planes.crop_and_resize({0, 0, 2, 2}, {1, 1}, Interpolation::kArea), Error);
}

TEST(PictureFloats, ALongRowOfPixelsIsDeinterleavedRight) {
  std::vector<uint8_t> pixels;
  for (int i = 0; i < 1001 * 3; ++i) pixels.push_back(static_cast<uint8_t>(i * 31));
  const float factor[] = {1, 2, 3}, offset[] = {0, 10, -5};
  std::vector<float> planes(1001 * 3);
  planar_floats(pixels.data(), 1001, 3, factor, offset, planes.data());
  for (size_t i = 0; i < 1001; ++i)
    for (size_t c = 0; c < 3; ++c)
      ASSERT_EQ(planes[c * 1001 + i],
                static_cast<float>(pixels[i * 3 + c]) * factor[c] + offset[c]);
}

TEST(EncodeJpeg, CanBeReadAgain) {
  const Image image = hills(50, 40);
  const Array pixels = Array::from<uint8_t>({40, 50, 3}, image.bgr, DType::kUInt8);
  const cv::Mat again = whole(encode_jpeg(pixels, Colour::kBgr, 95));
  EXPECT_LE(average(again, matrix_of(pixels)), 4);
  EXPECT_LT(encode_jpeg(pixels, Colour::kBgr, 20).size(),
            encode_jpeg(pixels, Colour::kBgr, 95).size());
  EXPECT_THROW(encode_jpeg(pixels, Colour::kBgr, 0), Error);
  EXPECT_THROW(encode_jpeg(pixels, Colour::kGray, 90), Error);
  EXPECT_THROW(encode_jpeg(Array(DType::kFloat32, {4, 4, 3}), Colour::kRgb, 90), Error);
}

}  // namespace
}  // namespace trireme::vision
