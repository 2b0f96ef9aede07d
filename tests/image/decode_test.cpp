// Decoders: every format and depth, EXIF, limits, damage.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "image/pictures.h"
#include "support/data.h"
#include "support/temp.h"
#include "trireme/error.h"

namespace trireme::vision {
namespace {

using namespace pictures;

using Pixel = std::array<int, 3>;

Pixel pixel(const Image& image, int x, int y) {
  const uint8_t* p =
      image.bgr.data() +
      (static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(x)) * 3;
  return {p[0], p[1], p[2]};
}

Code code_of(const File& file, int64_t max_pixels = 1 << 20) {
  try {
    decode_image(file, max_pixels);
  } catch (const Error& e) { return e.code(); }
  return Code::kInternal;  // no error
}

int largest_difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.bgr.size(), b.bgr.size());
  int largest = 0;
  for (size_t i = 0; i < std::min(a.bgr.size(), b.bgr.size()); ++i)
    largest = std::max(largest, std::abs(a.bgr[i] - b.bgr[i]));
  return largest;
}

TEST(Jpeg, BaselineProgressiveAndGrey) {
  const Image image = gradient(16, 8);
  EXPECT_LE(largest_difference(decode_image(jpeg(image)), image), 40);
  EXPECT_EQ(decode_image(jpeg(image)).bgr, decode_image(jpeg(image, {.progressive = true})).bgr);
  const std::vector<uint8_t> grey(64, 90);
  const Image read = decode_image(jpeg(grey, 8, 8, {.from = JCS_GRAYSCALE, .to = JCS_GRAYSCALE}));
  EXPECT_EQ(pixel(read, 3, 3), (Pixel{90, 90, 90}));
}

TEST(Jpeg, InksAreInvertedInAdobesFiles) {
  std::vector<uint8_t> inks;
  for (int i = 0; i < 64; ++i) inks.insert(inks.end(), {255, 128, 0, 255});
  const auto plain = jpeg(inks, 8, 8, {.from = JCS_CMYK, .to = JCS_CMYK, .adobe_marker = false});
  EXPECT_EQ(pixel(decode_image(plain), 4, 4), (Pixel{0, 0, 0}));  // all black ink
  EXPECT_EQ(pixel(decode_image(jpeg(inks, 8, 8, {.from = JCS_CMYK, .to = JCS_CMYK})), 4, 4),
            (Pixel{0, 128, 255}));
  const Pixel adobe =
      pixel(decode_image(jpeg(inks, 8, 8, {.from = JCS_CMYK, .to = JCS_YCCK})), 4, 4);
  EXPECT_NEAR(adobe[0], 0, 3);
  EXPECT_NEAR(adobe[1], 128, 3);
  EXPECT_NEAR(adobe[2], 255, 3);
}

TEST(Exif, EveryOrientationIsUndone) {
  // Where the pixel (0, 0) of the file ends up in an upright picture of 6 x 4.
  const int at[9][2] = {{0, 0}, {0, 0}, {5, 0}, {5, 3}, {0, 3}, {0, 0}, {5, 0}, {5, 3}, {0, 3}};
  for (int orientation = 0; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const bool turned = orientation >= 5;
    Image stored = gradient(turned ? 4 : 6, turned ? 6 : 4);
    stored.bgr[0] = 250, stored.bgr[1] = 251, stored.bgr[2] = 252;
    const File plain = png(stored.bgr.data(), stored.width, stored.height, PNG_FORMAT_BGR);
    const Image image = decode_image(orientation == 0 ? plain : with_exif(plain, orientation));
    ASSERT_EQ(image.width, 6);
    ASSERT_EQ(image.height, 4);
    EXPECT_EQ(pixel(image, at[orientation][0], at[orientation][1]), (Pixel{250, 251, 252}));
    // And the stored pixel (1, 0), which tells a mirror image from a turn.
    const bool flips = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const int step = flips ? -1 : 1;
    const int x = at[orientation][0] + (turned ? 0 : step),
              y = at[orientation][1] + (turned ? step : 0);
    EXPECT_EQ(pixel(image, x, y), pixel(stored, 1, 0));
  }
}

TEST(Exif, IsReadFromJpegInBothByteOrders) {
  for (const int orientation : {5, 6, 7, 8}) {
    const Image image = decode_image(jpeg(gradient(24, 8), {.orientation = orientation}));
    EXPECT_EQ(image.width, 8);
    EXPECT_EQ(image.height, 24);
  }
}

TEST(Png, AlphaGreyPaletteAndSixteenBits) {
  const std::vector<uint8_t> bgra = {10, 20,  30,  0,   10, 20, 30, 255,
                                     0,  100, 200, 128, 9,  9,  9,  255};
  Image image = decode_image(png(bgra.data(), 2, 2, PNG_FORMAT_BGRA));
  EXPECT_EQ(pixel(image, 0, 0), (Pixel{255, 255, 255}));
  EXPECT_EQ(pixel(image, 1, 0), (Pixel{10, 20, 30}));
  EXPECT_EQ(pixel(image, 0, 1), (Pixel{127, 177, 227}));
  const std::vector<uint8_t> grey = {0, 77, 200, 255};
  EXPECT_EQ(pixel(decode_image(png(grey.data(), 2, 2, PNG_FORMAT_GRAY)), 1, 0),
            (Pixel{77, 77, 77}));
  const std::vector<uint8_t> index = {0, 1, 2, 0}, colours = {1, 2, 3, 40, 50, 60, 250, 240, 230};
  image = decode_image(png(index.data(), 2, 2, PNG_FORMAT_BGR_COLORMAP, colours.data(), 3));
  EXPECT_EQ(pixel(image, 1, 0), (Pixel{40, 50, 60}));
  EXPECT_EQ(pixel(image, 0, 1), (Pixel{250, 240, 230}));
  const std::vector<uint16_t> linear(2 * 2 * 3, 65535);
  EXPECT_EQ(pixel(decode_image(png(linear.data(), 2, 2, PNG_FORMAT_LINEAR_RGB)), 1, 1),
            (Pixel{255, 255, 255}));
}

TEST(Webp, LosslessWithAndWithoutAlpha) {
  const Image image = gradient(9, 5);
  EXPECT_EQ(decode_image(webp(image.bgr, 9, 5)).bgr, image.bgr);
  const std::vector<uint8_t> bgra = {1, 2, 3, 255, 1, 2, 3, 0};
  const Image read = decode_image(webp(bgra, 2, 1));
  EXPECT_EQ(pixel(read, 0, 0), (Pixel{1, 2, 3}));
  EXPECT_EQ(pixel(read, 1, 0), (Pixel{255, 255, 255}));
}

TEST(Bmp, EveryDepth) {
  const Image image = gradient(5, 3);
  EXPECT_EQ(decode_image(bmp(image)).bgr, image.bgr);
  const File two = {0, 0, 0, 0, 9, 8, 7, 0};
  Image read = decode_image(bmp(3, 1, 1, 0, two, {0x40, 0, 0, 0}));
  EXPECT_EQ(pixel(read, 1, 0), (Pixel{9, 8, 7}));
  EXPECT_EQ(pixel(read, 2, 0), (Pixel{0, 0, 0}));
  read = decode_image(bmp(3, 1, 4, 0, two, {0x01, 0x10, 0, 0}, 2));
  EXPECT_EQ(pixel(read, 1, 0), (Pixel{9, 8, 7}));
  EXPECT_EQ(pixel(read, 2, 0), (Pixel{9, 8, 7}));
  read = decode_image(bmp(2, 1, 8, 0, two, {1, 0, 0, 0}, 2));
  EXPECT_EQ(pixel(read, 0, 0), (Pixel{9, 8, 7}));
  read = decode_image(bmp(2, 1, 16, 0, {}, {0x1f, 0x00, 0x00, 0x7c}));  // blue, red in 5-5-5
  EXPECT_EQ(pixel(read, 0, 0), (Pixel{255, 0, 0}));
  EXPECT_EQ(pixel(read, 1, 0), (Pixel{0, 0, 255}));
  File masks;
  for (const uint32_t mask : {0xf800U, 0x07e0U, 0x001fU}) append_number(masks, mask, 4);
  read = decode_image(bmp(1, 1, 16, 3, masks, {0xe0, 0x07, 0, 0}));  // green in 5-6-5
  EXPECT_EQ(pixel(read, 0, 0), (Pixel{0, 255, 0}));
  read = decode_image(bmp(1, 1, 32, 0, {}, {5, 6, 7, 0}));
  EXPECT_EQ(pixel(read, 0, 0), (Pixel{5, 6, 7}));
}

TEST(Bmp, NegativeHeightIsTopDown) {
  const File rows = {1, 1, 1, 0, 2, 2, 2, 0};
  EXPECT_EQ(pixel(decode_image(bmp(1, -2, 24, 0, {}, rows)), 0, 0), (Pixel{1, 1, 1}));
  EXPECT_EQ(pixel(decode_image(bmp(1, 2, 24, 0, {}, rows)), 0, 0), (Pixel{2, 2, 2}));
}

TEST(Bmp, RefusesWhatItCannotMean) {
  const File two = {0, 0, 0, 0, 9, 8, 7, 0};
  EXPECT_EQ(code_of(bmp(2, 1, 8, 0, two, {2, 0, 0, 0}, 2)),
            Code::kInvalidArgument);  // no third colour
  EXPECT_EQ(code_of(bmp(2, 1, 8, 1, two, {2, 0, 0, 0}, 2)), Code::kInvalidArgument);  // run lengths
  EXPECT_EQ(code_of(bmp(2, 1, 7, 0, two, {2, 0, 0, 0}, 2)), Code::kInvalidArgument);
  EXPECT_EQ(code_of(bmp(0, 1, 24, 0, {}, {})), Code::kInvalidArgument);
}

std::vector<File> one_of_each() {
  const Image image = gradient(24, 16);
  std::vector<uint8_t> bgra;
  for (size_t i = 0; i < image.bgr.size(); i += 3)
    bgra.insert(bgra.end(), {image.bgr[i], image.bgr[i + 1], image.bgr[i + 2], image.bgr[i]});
  return {jpeg(image, {.orientation = 6}),
          jpeg(image, {.progressive = true}),
          with_exif(png(bgra.data(), 24, 16, PNG_FORMAT_BGRA), 8),
          png(image.bgr.data(), 24, 16, PNG_FORMAT_BGR),
          webp(image.bgr, 24, 16),
          webp(bgra, 24, 16),
          bmp(image)};
}

TEST(DecodeImage, EveryTruncationIsRefused) {
  for (const File& file : one_of_each())
    for (size_t bytes = 0; bytes < file.size(); ++bytes) {
      if (file[0] == 0xff && bytes + 2 >= file.size()) continue;  // only the end marker is missing
      ASSERT_EQ(code_of(File(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(bytes))),
                Code::kInvalidArgument)
          << bytes << " of " << file.size() << " bytes, format " << static_cast<int>(file[0]);
    }
}

TEST(DecodeImage, FlippedBytesGiveAPictureOrAnError) {
  for (const File& file : one_of_each())
    for (size_t at = 0; at < file.size(); ++at)
      for (const int flip : {0x01, 0x80, 0xff}) {
        File damaged = file;
        damaged[at] = static_cast<uint8_t>(damaged[at] ^ flip);
        try {
          const Image image = decode_image(damaged, 1 << 20);
          ASSERT_EQ(image.bgr.size(),
                    static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3);
        } catch (const Error& e) { ASSERT_NE(e.code(), Code::kInternal) << e.what(); }
      }
}

TEST(DecodeImage, LimitsComeBeforeMemory) {
  for (const File& file : one_of_each()) {
    EXPECT_EQ(code_of(file, 24 * 16 - 1), Code::kResourceExhausted);
    EXPECT_EQ(code_of(file, 24 * 16), Code::kInternal);
  }
  File huge = png(gradient(4, 4).bgr.data(), 4, 4, PNG_FORMAT_BGR);
  huge[17] = 0xff;  // a width of 16 million in the header
  const uint32_t crc = crc_of(huge.data() + 12, 17);
  for (int i = 0; i < 4; ++i)
    huge[static_cast<size_t>(29 + i)] = static_cast<uint8_t>(crc >> (24 - 8 * i));
  EXPECT_NE(code_of(huge), Code::kInternal);
}

// Found by the fuzzer: libpng allocated the 1.7 GB that the chunk declares.
TEST(DecodeImage, AChunkLongerThanTheFileIsRefusedByUs) {
  File file = with_exif(png(gradient(4, 4).bgr.data(), 4, 4, PNG_FORMAT_BGR), 6);
  file[33] = 0x65;
  try {
    decode_image(file);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("reaches past the end of the file"), std::string::npos)
        << e.what();
  }
}

TEST(DecodeImage, SaysWhatItGot) {
  try {
    decode_image(File{'G', 'I', 'F', '8', '9', 'a'});
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(
        e.what(),
        "[image] expected a JPEG, PNG, WebP or BMP picture, got a file that starts with 47 49 "
        "46 38");
  }
}

TEST(WritePng, CanBeReadAgain) {
  const Image image = gradient(7, 3);
  const test::TempFolder folder;
  const std::string path = folder / "a.png";
  write_png(path, image);
  EXPECT_EQ(read_image(path).bgr, image.bgr);
  std::filesystem::remove(path);
  EXPECT_THROW(write_png("/nowhere/at/all.png", image), Error);
}

}  // namespace
}  // namespace trireme::vision
