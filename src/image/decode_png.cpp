// PNG, read with libpng.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "image/decode.h"

namespace trireme::vision {
namespace {

// Deflate shrinks by at most this factor, so a short file cannot ask for a large picture.
constexpr int64_t kMaxInflate = 1032;

struct Reader {
  Bytes file;
  size_t at = 0;
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::jmp_buf jump;
  char message[128] = "";
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  Reader& reader = *static_cast<Reader*>(png_get_error_ptr(png));
  std::snprintf(reader.message, sizeof reader.message, "%s", message);
  std::longjmp(reader.jump, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep to, size_t bytes) {
  Reader& reader = *static_cast<Reader*>(png_get_io_ptr(png));
  if (bytes > reader.file.size() - reader.at) png_error(png, "the file ends before the IEND chunk");
  std::memcpy(to, reader.file.data() + reader.at, bytes);
  reader.at += bytes;
}

// libpng believes some chunks' lengths and allocates that much before it reads; so all must lie
// inside the file.
void check_chunks(Bytes file) {
  constexpr size_t kSignature = 8, kAround = 12;  // a chunk's length, name and checksum
  for (size_t at = kSignature; at < file.size();) {
    TRI_CHECK(file.size() - at >= kAround, "[image] damaged PNG: the file ends inside a chunk");
    const uint8_t* p = file.data() + at;
    const size_t length = static_cast<size_t>(p[0]) << 24 | p[1] << 16 | p[2] << 8 | p[3];
    TRI_CHECK(length <= file.size() - at - kAround, "[image] damaged PNG: a chunk of " +
                                                        std::to_string(length) +
                                                        " bytes reaches past the end of the file");
    if (std::memcmp(p + 4, "IEND", 4) == 0) return;
    at += kAround + length;
  }
}

// The functions below hold a setjmp each, so nothing in them may need a destructor.
bool read_header(Reader& reader) {
  if (setjmp(reader.jump) != 0) return false;
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
  if (reader.png == nullptr) return false;
  reader.info = png_create_info_struct(reader.png);
  if (reader.info == nullptr) return false;
  png_set_read_fn(reader.png, &reader, on_read);
  png_read_info(reader.png, reader.info);
  return true;
}

// Asks for 8-bit B, G, R, and A where there is transparency; returns the passes over the rows, 0 on
// failure.
int set_output(Reader& reader) {
  if (setjmp(reader.jump) != 0) return 0;
  png_set_expand(reader.png);
  png_set_strip_16(reader.png);
  png_set_gray_to_rgb(reader.png);
  png_set_bgr(reader.png);
  const int passes = png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  return passes;
}

bool read_rows(Reader& reader, uint8_t* to, size_t stride, int rows, int passes) {
  if (setjmp(reader.jump) != 0) return false;
  for (int pass = 0; pass < passes; ++pass)
    for (int y = 0; y < rows; ++y)
      png_read_row(reader.png, to + static_cast<size_t>(y) * stride, nullptr);
  return true;
}

bool read_end(Reader& reader) {
  if (setjmp(reader.jump) != 0) return false;
  png_read_end(reader.png, reader.info);
  return true;
}

[[noreturn]] void fail_damaged(const Reader& reader) {
  fail(Code::kInvalidArgument, std::string("[image] damaged PNG: ") + reader.message);
}

int orientation_of(const Reader& reader) {
  png_uint_32 size = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(reader.png, reader.info, &size, &exif) == 0 || exif == nullptr) return 1;
  return exif_orientation({exif, size});
}

}  // namespace

Decoded decode_png(Bytes file, int64_t max_pixels) {
  check_chunks(file);
  Reader reader;
  reader.file = file;
  struct Destroy {
    Reader& reader;
    ~Destroy() { png_destroy_read_struct(&reader.png, &reader.info, nullptr); }
  } destroy{reader};

  if (!read_header(reader)) fail_damaged(reader);
  const int64_t width = png_get_image_width(reader.png, reader.info);
  const int64_t height = png_get_image_height(reader.png, reader.info);
  check_size("PNG", width, height, max_pixels);
  const int64_t raw = static_cast<int64_t>(png_get_rowbytes(reader.png, reader.info)) * height;
  if (raw / kMaxInflate > static_cast<int64_t>(file.size()))
    fail(Code::kInvalidArgument, "[image] damaged PNG: " + std::to_string(file.size()) +
                                     " bytes cannot hold " + std::to_string(width) + " x " +
                                     std::to_string(height) + " pixels");
  const int passes = set_output(reader);
  if (passes == 0) fail_damaged(reader);
  const bool alpha = png_get_channels(reader.png, reader.info) == 4;
  const int rows = static_cast<int>(height);

  Decoded result{blank_image("PNG", width, height, max_pixels), 1};
  uint8_t* bgr = result.image.bgr.data();
  if (!alpha) {
    if (!read_rows(reader, bgr, static_cast<size_t>(width) * 3, rows, passes)) fail_damaged(reader);
  } else {
    const size_t stride = static_cast<size_t>(width) * 4;
    std::vector<uint8_t> bgra(stride * static_cast<size_t>(height));
    if (!read_rows(reader, bgra.data(), stride, rows, passes)) fail_damaged(reader);
    blend_over_white(bgra.data(), bgr, width * height);
  }
  if (!read_end(reader)) fail_damaged(reader);
  result.orientation = orientation_of(reader);
  return result;
}

}  // namespace trireme::vision
