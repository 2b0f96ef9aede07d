// JPEG, with libjpeg-turbo's defaults (accurate integer DCT, smooth upsampling): the same pixels as
// OpenCV.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

// jerror.h lists the codes of the warnings; it needs jpeglib.h before it.
#include <jerror.h>

#include "ocr/decode.h"

namespace trireme::ocr {
namespace {

// A picture of many scans costs a pass over all its coefficients for each of them.
constexpr int kMaxScans = 256;
// A Huffman-coded block of 64 pixels takes one bit at the least.
constexpr int64_t kMaxPixelsPerByte = 8 * 64;

struct Reader {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = "";
};

Reader& reader_of(j_common_ptr info) { return *static_cast<Reader*>(info->client_data); }

[[noreturn]] void give_up(j_common_ptr info) {
  Reader& reader = reader_of(info);
  if (reader.message[0] == '\0') info->err->format_message(info, reader.message);
  std::longjmp(reader.jump, 1);
}

// libjpeg goes on after damage and makes pixels up; only harmless oddities may pass.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_BOGUS_ICC:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
    case JWRN_TOO_MUCH_DATA: return;
    default: give_up(info);
  }
}

void on_progress(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  std::snprintf(reader_of(info).message, JMSG_LENGTH_MAX, "more than %d scans", kMaxScans);
  give_up(info);
}

// The functions below hold a setjmp each, so nothing in them may need a destructor.
bool read_header(Reader& reader, Bytes file) {
  if (setjmp(reader.jump) != 0) return false;
  jpeg_create_decompress(&reader.info);
  reader.info.client_data = &reader;
  reader.info.progress = &reader.progress;
  jpeg_mem_src(&reader.info, file.data(), file.size());
  jpeg_save_markers(&reader.info, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(&reader.info, TRUE);
  const bool inks = reader.info.num_components == 4;
  reader.info.out_color_space = inks ? JCS_CMYK : JCS_EXT_BGR;
  jpeg_calc_output_dimensions(&reader.info);
  return true;
}

bool start(Reader& reader) {
  if (setjmp(reader.jump) != 0) return false;
  jpeg_start_decompress(&reader.info);
  return true;
}

// Reads the next `count` rows of `stride` bytes.
bool read_rows(Reader& reader, uint8_t* to, size_t stride, int64_t count) {
  const JDIMENSION first = reader.info.output_scanline;
  if (setjmp(reader.jump) != 0) return false;
  while (reader.info.output_scanline < first + count) {
    constexpr JDIMENSION kRows = 16;
    JSAMPROW rows[kRows];
    const size_t done = reader.info.output_scanline - first;
    const auto left = static_cast<JDIMENSION>(count - static_cast<int64_t>(done));
    const JDIMENSION n = left < kRows ? left : kRows;
    for (size_t i = 0; i < n; ++i) rows[i] = to + (done + i) * stride;
    jpeg_read_scanlines(&reader.info, rows, n);
  }
  return true;
}

// Adobe's files hold the inks inverted, as 255 - ink.
void inks_to_bgr(const uint8_t* cmyk, uint8_t* bgr, int pixels, bool inverted) {
  for (int i = 0; i < pixels; ++i, cmyk += 4, bgr += 3) {
    const uint8_t flip = inverted ? 0 : 255;
    const int black = cmyk[3] ^ flip;
    for (int c = 0; c < 3; ++c)
      bgr[2 - c] = static_cast<uint8_t>(((cmyk[c] ^ flip) * black + 127) / 255);
  }
}

[[noreturn]] void fail_damaged(const Reader& reader) {
  fail(Code::kInvalidArgument, std::string("[image] damaged JPEG: ") + reader.message);
}

int orientation_of(const jpeg_decompress_struct& info) {
  for (auto* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    const Bytes data(marker->data, marker->data_length);
    if (data.size() > 6 && std::memcmp(data.data(), "Exif", 5) == 0) return exif_orientation(data);
  }
  return 1;
}

}  // namespace

Decoded decode_jpeg(Bytes file, int64_t max_pixels) {
  Reader reader;
  struct Destroy {
    jpeg_decompress_struct* info;
    ~Destroy() { jpeg_destroy_decompress(info); }
  } destroy{&reader.info};
  reader.info.err = jpeg_std_error(&reader.errors);
  reader.info.client_data = &reader;  // jpeg_create_decompress keeps it, and may fail already
  reader.errors.error_exit = give_up;
  reader.errors.emit_message = on_message;
  reader.progress.progress_monitor = on_progress;

  if (!read_header(reader, file)) fail_damaged(reader);
  const jpeg_decompress_struct& info = reader.info;
  const int64_t width = info.output_width, height = info.output_height;
  check_size("JPEG", width, height, max_pixels);
  if (!info.arith_code && width * height / kMaxPixelsPerByte > static_cast<int64_t>(file.size()))
    fail(Code::kInvalidArgument, "[image] damaged JPEG: " + std::to_string(file.size()) +
                                     " bytes cannot hold " + std::to_string(width) + " x " +
                                     std::to_string(height) + " pixels");
  if (!start(reader)) fail_damaged(reader);
  Decoded result{blank_image("JPEG", width, height, max_pixels), orientation_of(info)};
  uint8_t* bgr = result.image.bgr.data();
  const size_t stride = static_cast<size_t>(width) * 3;
  if (info.out_color_space != JCS_CMYK) {
    if (!read_rows(reader, bgr, stride, height)) fail_damaged(reader);
    return result;
  }
  std::vector<uint8_t> inks(static_cast<size_t>(width) * 4);
  for (int64_t y = 0; y < height; ++y, bgr += stride) {
    if (!read_rows(reader, inks.data(), inks.size(), 1)) fail_damaged(reader);
    inks_to_bgr(inks.data(), bgr, static_cast<int>(width), info.saw_Adobe_marker);
  }
  return result;
}

}  // namespace trireme::ocr
