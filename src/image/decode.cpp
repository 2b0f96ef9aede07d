// Reading pictures: which decoder a file needs, and what all decoders share.
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <opencv2/core.hpp>

#include "image/decode.h"
#include "image/pixels.h"

namespace trireme::vision {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 30;

bool starts_with(Bytes file, std::string_view magic, size_t at = 0) {
  return file.size() >= at + magic.size() &&
         std::memcmp(file.data() + at, magic.data(), magic.size()) == 0;
}

std::string first_bytes(Bytes file) {
  if (file.empty()) return "an empty file";
  std::string text = "a file that starts with";
  char hex[8];
  for (size_t i = 0; i < std::min<size_t>(file.size(), 4); ++i) {
    std::snprintf(hex, sizeof hex, " %02x", file[i]);
    text += hex;
  }
  return text;
}

Decoded decode(Bytes file, int64_t max_pixels) {
  if (starts_with(file, "\xff\xd8\xff")) return decode_jpeg(file, max_pixels);
  if (starts_with(file, "\x89PNG\r\n\x1a\n")) return decode_png(file, max_pixels);
  if (starts_with(file, "RIFF") && starts_with(file, "WEBP", 8))
    return decode_webp(file, max_pixels);
  if (starts_with(file, "BM")) return decode_bmp(file, max_pixels);
  fail(Code::kInvalidArgument,
       "[image] expected a JPEG, PNG, WebP or BMP picture, got " + first_bytes(file));
}

}  // namespace

void check_size(const char* format, int64_t width, int64_t height, int64_t max_pixels) {
  const std::string size = std::to_string(width) + " x " + std::to_string(height);
  TRI_CHECK(width > 0 && height > 0,
            std::string("[image] ") + format + " declares an empty picture, " + size);
  if (width > max_pixels / height || width > INT32_MAX / 8 || height > INT32_MAX / 8)
    fail(Code::kResourceExhausted, std::string("[image] ") + format + " of " + size +
                                       " pixels is over the limit of " +
                                       std::to_string(max_pixels));
}

Image blank_image(const char* format, int64_t width, int64_t height, int64_t max_pixels) {
  check_size(format, width, height, max_pixels);
  Image image{static_cast<int>(width), static_cast<int>(height), {}};
  image.bgr.resize(static_cast<size_t>(width * height * 3));
  return image;
}

void blend_over_white(const uint8_t* bgra, uint8_t* bgr, int64_t pixels) {
  for (int64_t i = 0; i < pixels; ++i, bgra += 4, bgr += 3) {
    const unsigned alpha = bgra[3], white = 255 * (255 - alpha);
    for (int c = 0; c < 3; ++c)
      bgr[c] = static_cast<uint8_t>((bgra[c] * alpha + white + 127) / 255);
  }
}

Image upright(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  const bool turned = orientation >= 5;
  Image result{turned ? image.height : image.width, turned ? image.width : image.height, {}};
  result.bgr.resize(image.bgr.size());
  upright(cv::Mat(image.height, image.width, CV_8UC3, image.bgr.data()), orientation)
      .copyTo(cv::Mat(result.height, result.width, CV_8UC3, result.bgr.data()));
  return result;
}

int exif_orientation(Bytes exif) {
  constexpr std::string_view kHead("Exif\0\0", 6);
  if (starts_with(exif, kHead)) exif = exif.subspan(kHead.size());
  const bool big = starts_with(exif, std::string_view("MM\0\x2a", 4));
  if (!big && !starts_with(exif, std::string_view("II\x2a\0", 4))) return 1;
  const auto read = [&](size_t at, size_t bytes) -> uint32_t {  // past the end reads as zero
    if (exif.size() < bytes || at > exif.size() - bytes) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value = value << 8 | exif[at + (big ? i : bytes - 1 - i)];
    return value;
  };
  const size_t directory = read(4, 4);
  const size_t entries = read(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > exif.size()) return 1;
    constexpr uint32_t kOrientation = 0x0112, kShort = 3;
    if (read(entry, 2) != kOrientation) continue;
    const uint32_t value = read(entry + 2, 2) == kShort ? read(entry + 8, 2) : 0;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image decode_image(std::span<const uint8_t> bytes, int64_t max_pixels) {
  try {
    Decoded decoded = decode(bytes, max_pixels);
    return upright(std::move(decoded.image), decoded.orientation);
  } catch (const std::bad_alloc&) {
    fail(Code::kResourceExhausted, "[image] no memory for the picture");
  } catch (const cv::Exception& e) { fail(Code::kInternal, std::string("[image] ") + e.what()); }
}

std::vector<uint8_t> read_file_bytes(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  struct stat info {};
  if (!file || fstat(fileno(file.get()), &info) != 0)
    fail(Code::kNotFound, "[image] cannot open the file: " + std::string(std::strerror(errno)),
         path);
  if (!S_ISREG(info.st_mode))
    fail(Code::kInvalidArgument, "[image] expected a file of a picture", path);
  if (info.st_size > kMaxFileBytes)
    fail(Code::kResourceExhausted, "[image] the file is larger than 1 GiB", path);
  std::vector<uint8_t> bytes(static_cast<size_t>(info.st_size));
  if (std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size())
    fail(Code::kInvalidArgument, "[image] the file ends early", path);
  return bytes;
}

Image read_image(const std::string& path, int64_t max_pixels) {
  const std::vector<uint8_t> bytes = read_file_bytes(path);
  try {
    return decode_image(bytes, max_pixels);
  } catch (const Error& e) { throw e.at(path); }
}

}  // namespace trireme::vision
