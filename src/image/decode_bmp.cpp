// BMP: 1, 4, 8, 16, 24 and 32 bits a pixel, uncompressed, any header since OS/2's.
#include <array>
#include <bit>
#include <cstring>

#include "image/decode.h"

namespace trireme::vision {
namespace {

enum Compression : uint32_t { kNone = 0, kBitFields = 3, kAlphaBitFields = 6 };

struct Header {
  int64_t width = 0, height = 0, pixels_at = 0;
  bool top_down = false;
  int bits = 0;
  uint32_t compression = kNone;
  std::array<uint32_t, 4> masks{};                // blue, green, red, alpha
  std::vector<std::array<uint8_t, 3>> palette{};  // blue, green, red
};

[[noreturn]] void fail_damaged(const std::string& what) {
  fail(Code::kInvalidArgument, "[image] damaged BMP: " + what);
}

uint32_t little(Bytes file, size_t at, size_t bytes) {
  if (at > file.size() || bytes > file.size() - at) fail_damaged("the file ends inside its header");
  uint32_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint32_t>(file[at + i]) << (8 * i);
  return value;
}

void read_masks(Bytes file, size_t header_bytes, Header& header) {
  constexpr size_t kMasksAt = 14 + 40;  // inside the longer headers, right behind the 40-byte one
  if (header.compression == kNone) {
    header.masks = {0x1f, 0x1f << 5, 0x1f << 10, 0};
    if (header.bits == 32) header.masks = {0xff, 0xff00, 0xff0000, 0};
    return;
  }
  for (size_t i = 0; i < 3; ++i) header.masks[2 - i] = little(file, kMasksAt + 4 * i, 4);
  if (header_bytes >= 56 || header.compression == kAlphaBitFields)
    header.masks[3] = little(file, kMasksAt + 12, 4);
  for (size_t i = 0; i < 4; ++i) {
    const uint32_t mask = header.masks[i];
    if (i < 3 && mask == 0) fail_damaged("a colour has no bits");
    const uint32_t run = mask == 0 ? 0 : mask >> std::countr_zero(mask);
    if ((run & (run + 1)) != 0) fail_damaged("the bits of a colour do not stand together");
  }
}

void read_palette(Bytes file, size_t at, size_t entry_bytes, uint32_t used, Header& header) {
  const uint32_t all = 1U << header.bits;
  if (used > all) fail_damaged("a palette of " + std::to_string(used) + " colours");
  header.palette.resize(used == 0 ? all : used);
  for (auto& colour : header.palette) {
    for (size_t c = 0; c < 3; ++c) colour[c] = static_cast<uint8_t>(little(file, at + c, 1));
    at += entry_bytes;
  }
}

void check_kind(const Header& header, uint32_t planes) {
  const int bits = header.bits;
  const bool known = bits == 1 || bits == 4 || bits == 8 || bits == 16 || bits == 24 || bits == 32;
  if (planes != 1 || !known)
    fail_damaged("expected 1, 4, 8, 16, 24 or 32 bits a pixel, got " + std::to_string(bits));
  const bool masked = header.compression == kBitFields || header.compression == kAlphaBitFields;
  if (header.compression != kNone && !(masked && (bits == 16 || bits == 32)))
    fail(Code::kInvalidArgument, "[image] expected an uncompressed BMP, got compression " +
                                     std::to_string(header.compression));
}

Header read_header(Bytes file) {
  Header header;
  header.pixels_at = little(file, 10, 4);
  const uint32_t bytes = little(file, 14, 4);
  const bool core = bytes == 12;
  if (!core && (bytes < 40 || bytes > 124))
    fail_damaged("a header of " + std::to_string(bytes) + " bytes");
  const size_t side = core ? 2 : 4;
  const uint32_t width = little(file, 18, side), height = little(file, 18 + side, side);
  header.width = core ? width : int64_t{static_cast<int32_t>(width)};
  header.height = core ? height : int64_t{static_cast<int32_t>(height)};
  header.top_down = header.height < 0;
  if (header.top_down) header.height = -header.height;
  header.bits = static_cast<int>(little(file, 18 + 2 * side + 2, 2));
  const uint32_t planes = little(file, 18 + 2 * side, 2);
  if (!core) header.compression = little(file, 30, 4);
  check_kind(header, planes);
  size_t palette_at = 14 + bytes;
  if (header.bits == 16 || header.bits == 32) read_masks(file, bytes, header);
  if (header.bits <= 8)
    read_palette(file, palette_at, core ? 3 : 4, core ? 0 : little(file, 46, 4), header);
  return header;
}

uint8_t field(uint32_t pixel, uint32_t mask) {
  const int shift = std::countr_zero(mask), width = std::popcount(mask);
  const uint64_t value = (pixel & mask) >> shift, most = (uint64_t{1} << width) - 1;
  return static_cast<uint8_t>((value * 255 + most / 2) / most);
}

void read_indices(const uint8_t* row, const Header& header, uint8_t* bgr) {
  const int per_byte = 8 / header.bits;
  const unsigned mask = (1U << header.bits) - 1;
  for (int64_t x = 0; x < header.width; ++x, bgr += 3) {
    const int shift = (per_byte - 1 - static_cast<int>(x % per_byte)) * header.bits;
    const unsigned index = row[x / per_byte] >> shift & mask;
    if (index >= header.palette.size()) fail_damaged("a pixel names a colour outside the palette");
    std::memcpy(bgr, header.palette[index].data(), 3);
  }
}

// 16 and 32 bits; `bgra` gets 255 for alpha where the file has none. Returns whether any alpha is
// above zero.
bool read_fields(const uint8_t* row, const Header& header, uint8_t* bgra) {
  const int bytes = header.bits / 8;
  bool seen = false;
  for (int64_t x = 0; x < header.width; ++x, bgra += 4, row += bytes) {
    uint32_t pixel = row[0] | static_cast<uint32_t>(row[1]) << 8;
    if (bytes == 4)
      pixel |= static_cast<uint32_t>(row[2]) << 16 | static_cast<uint32_t>(row[3]) << 24;
    for (size_t c = 0; c < 3; ++c) bgra[c] = field(pixel, header.masks[c]);
    bgra[3] = header.masks[3] == 0 ? 255 : field(pixel, header.masks[3]);
    seen = seen || bgra[3] != 0;
  }
  return seen;
}

}  // namespace

Decoded decode_bmp(Bytes file, int64_t max_pixels) {
  const Header header = read_header(file);
  check_size("BMP", header.width, header.height, max_pixels);
  const int64_t stride = (header.width * header.bits + 31) / 32 * 4;
  const int64_t needed = header.pixels_at + stride * header.height;
  if (header.pixels_at < 26 || needed > static_cast<int64_t>(file.size()))
    fail_damaged("expected " + std::to_string(needed) + " bytes, the file has " +
                 std::to_string(file.size()));

  Decoded result{blank_image("BMP", header.width, header.height, max_pixels), 1};
  const bool fields = header.bits == 16 || header.bits == 32;
  std::vector<uint8_t> bgra(fields ? static_cast<size_t>(header.width * header.height) * 4 : 0);
  bool any_alpha = false;
  for (int64_t y = 0; y < header.height; ++y) {
    const int64_t from = header.top_down ? y : header.height - 1 - y;
    const uint8_t* row = file.data() + header.pixels_at + from * stride;
    uint8_t* bgr = result.image.bgr.data() + y * header.width * 3;
    if (fields) any_alpha |= read_fields(row, header, bgra.data() + y * header.width * 4);
    else if (header.bits == 24) std::memcpy(bgr, row, static_cast<size_t>(header.width) * 3);
    else read_indices(row, header, bgr);
  }
  if (!fields) return result;
  // Some writers leave the alpha field zero everywhere and mean an opaque picture.
  if (!any_alpha)
    for (size_t i = 3; i < bgra.size(); i += 4) bgra[i] = 255;
  blend_over_white(bgra.data(), result.image.bgr.data(), header.width * header.height);
  return result;
}

}  // namespace trireme::vision
