// JPEG, with libjpeg-turbo's defaults (accurate integer DCT, smooth upsampling): the same pixels as
// OpenCV.
#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

// jerror.h lists the codes of the warnings; it needs jpeglib.h before it.
#include <jerror.h>

#include "image/decode.h"
#include "image/jpeg.h"

namespace trireme::vision {
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

// Goes to row `y` and narrows the rows to the blocks that hold `*columns` from `*x` on.
bool seek(Reader& reader, JDIMENSION y, JDIMENSION* x, JDIMENSION* columns) {
  if (setjmp(reader.jump) != 0) return false;
  if (*x > 0 || *columns < reader.info.output_width) jpeg_crop_scanline(&reader.info, x, columns);
  if (y > 0) jpeg_skip_scanlines(&reader.info, y);
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

// A JPEG in memory whose header was read and whose sizes were checked.
class Jpeg {
 public:
  Jpeg(Bytes file, int64_t max_pixels) {
    reader_.info.err = jpeg_std_error(&reader_.errors);
    reader_.info.client_data = &reader_;  // jpeg_create_decompress keeps it, and may fail already
    reader_.errors.error_exit = give_up;
    reader_.errors.emit_message = on_message;
    reader_.progress.progress_monitor = on_progress;
    try {
      open(file, max_pixels);
    } catch (...) {
      jpeg_destroy_decompress(&reader_.info);
      throw;
    }
  }
  ~Jpeg() { jpeg_destroy_decompress(&reader_.info); }
  Jpeg(const Jpeg&) = delete;
  Jpeg& operator=(const Jpeg&) = delete;

  Reader& reader() { return reader_; }
  jpeg_decompress_struct& info() { return reader_.info; }
  void check(bool done) const {
    if (!done) fail_damaged(reader_);
  }

 private:
  void open(Bytes file, int64_t max_pixels) {
    check(read_header(reader_, file));
    const int64_t width = info().output_width, height = info().output_height;
    check_size("JPEG", width, height, max_pixels);
    const auto bytes = static_cast<int64_t>(file.size());
    TRI_CHECK(info().arith_code || width * height / kMaxPixelsPerByte <= bytes,
              "[image] damaged JPEG: " + std::to_string(bytes) + " bytes cannot hold " +
                  std::to_string(width) + " x " + std::to_string(height) + " pixels");
  }

  Reader reader_;
};

// Reading stopped inside the picture: has the rest of the file its end marker?
void check_end(const jpeg_decompress_struct& info) {
  if (info.unread_marker == JPEG_EOI) return;
  const uint8_t* at = info.src->next_input_byte;
  const uint8_t* end = at + info.src->bytes_in_buffer;
  while (at < end) {
    at = static_cast<const uint8_t*>(std::memchr(at, 0xff, static_cast<size_t>(end - at)));
    if (at == nullptr) break;
    if (++at < end && *at == 0xd9) return;
  }
  fail(Code::kInvalidArgument, "[image] damaged JPEG: the file ends inside the picture");
}

J_COLOR_SPACE space_of(Colour colour) {
  return colour == Colour::kGray ? JCS_GRAYSCALE
                                 : (colour == Colour::kRgb ? JCS_EXT_RGB : JCS_EXT_BGR);
}

}  // namespace

Decoded decode_jpeg(Bytes file, int64_t max_pixels) {
  Jpeg jpeg(file, max_pixels);
  Reader& reader = jpeg.reader();
  const jpeg_decompress_struct& info = jpeg.info();
  const int64_t width = info.output_width, height = info.output_height;
  jpeg.check(start(reader));
  Decoded result{blank_image("JPEG", width, height, max_pixels), orientation_of(info)};
  uint8_t* bgr = result.image.bgr.data();
  const size_t stride = static_cast<size_t>(width) * 3;
  if (info.out_color_space != JCS_CMYK) {
    jpeg.check(read_rows(reader, bgr, stride, height));
    return result;
  }
  std::vector<uint8_t> inks(static_cast<size_t>(width) * 4);
  for (int64_t y = 0; y < height; ++y, bgr += stride) {
    jpeg.check(read_rows(reader, inks.data(), inks.size(), 1));
    inks_to_bgr(inks.data(), bgr, static_cast<int>(width), info.saw_Adobe_marker);
  }
  return result;
}

bool is_jpeg(Bytes file) {
  return file.size() >= 3 && file[0] == 0xff && file[1] == 0xd8 && file[2] == 0xff;
}

JpegHeader jpeg_header(Bytes file, int64_t max_pixels) {
  Jpeg jpeg(file, max_pixels);
  const jpeg_decompress_struct& info = jpeg.info();
  return {static_cast<int>(info.output_width), static_cast<int>(info.output_height),
          orientation_of(info), info.out_color_space == JCS_CMYK};
}

cv::Mat decode_jpeg_part(Bytes file, const Region& region, int reduction, Colour colour,
                         int64_t max_pixels) {
  Jpeg jpeg(file, max_pixels);
  Reader& reader = jpeg.reader();
  jpeg_decompress_struct& info = jpeg.info();
  info.out_color_space = space_of(colour);
  info.scale_num = 1;
  info.scale_denom = static_cast<unsigned>(reduction);
  jpeg.check(start(reader));
  const auto down = [&](int at) { return static_cast<JDIMENSION>(at / reduction); };
  const auto up = [&](int at, JDIMENSION most) {
    return std::min(static_cast<JDIMENSION>((at + reduction - 1) / reduction), most);
  };
  const JDIMENSION left = down(region.x), top = down(region.y);
  const JDIMENSION width = up(region.x + region.width, info.output_width) - left;
  const JDIMENSION height = up(region.y + region.height, info.output_height) - top;
  // libjpeg widens the columns to whole blocks.
  JDIMENSION first = left, columns = width;
  jpeg.check(seek(reader, top, &first, &columns));
  cv::Mat pixels(static_cast<int>(height), static_cast<int>(columns),
                 colour == Colour::kGray ? CV_8UC1 : CV_8UC3);
  jpeg.check(read_rows(reader, pixels.data, pixels.step, height));
  if (info.output_scanline < info.output_height && !info.progressive_mode) check_end(info);
  const auto skip = static_cast<int>(left - first);
  return pixels.colRange(skip, skip + static_cast<int>(width));
}

}  // namespace trireme::vision
