// Writing pictures: PNG with libpng, JPEG with libjpeg-turbo.
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <jpeglib.h>

#include "trireme/vision.h"

namespace trireme::vision {
namespace {

void check_filled(const Image& image) {
  const auto bytes = static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3;
  TRI_CHECK(image.width > 0 && image.height > 0 && image.bgr.size() == bytes,
            "[image] the pixels do not fill " + std::to_string(image.width) + " x " +
                std::to_string(image.height));
}

struct Writer {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = "";
  unsigned char* memory = nullptr;
  unsigned long bytes = 0;
  ~Writer() {
    jpeg_destroy_compress(&info);
    std::free(memory);
  }
};

[[noreturn]] void give_up(j_common_ptr info) {
  Writer& writer = *static_cast<Writer*>(info->client_data);
  info->err->format_message(info, writer.message);
  std::longjmp(writer.jump, 1);
}

// Holds a setjmp, so nothing in it may need a destructor.
bool compress(Writer& writer, const uint8_t* pixels, int width, int height, J_COLOR_SPACE space,
              int quality) {
  if (setjmp(writer.jump) != 0) return false;
  jpeg_compress_struct& info = writer.info;
  jpeg_create_compress(&info);
  info.client_data = &writer;
  jpeg_mem_dest(&info, &writer.memory, &writer.bytes);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = space == JCS_GRAYSCALE ? 1 : 3;
  info.in_color_space = space;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  jpeg_start_compress(&info, TRUE);
  const size_t stride = static_cast<size_t>(width) * static_cast<size_t>(info.input_components);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<uint8_t*>(pixels + info.next_scanline * stride);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  return true;
}

std::vector<uint8_t> jpeg_of(const uint8_t* pixels, int width, int height, J_COLOR_SPACE space,
                             int quality) {
  TRI_CHECK(quality >= 1 && quality <= 100,
            "[image] JPEG quality is 1 to 100, got " + std::to_string(quality));
  Writer writer;
  writer.info.err = jpeg_std_error(&writer.errors);
  writer.info.client_data = &writer;
  writer.errors.error_exit = give_up;
  if (!compress(writer, pixels, width, height, space, quality))
    fail(Code::kInvalidArgument, std::string("[image] cannot encode the JPEG: ") + writer.message);
  return {writer.memory, writer.memory + writer.bytes};
}

}  // namespace

void write_png(const std::string& path, const Image& image) {
  check_filled(image);
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_BGR;
  if (png_image_write_to_file(&png, path.c_str(), 0, image.bgr.data(), 0, nullptr) == 0)
    fail(Code::kInvalidArgument, std::string("[image] cannot write the PNG: ") + png.message, path);
}

std::vector<uint8_t> encode_jpeg(const Array& pixels, Colour colour, int quality) {
  const Shape& shape = pixels.shape();
  const int channels = colour == Colour::kGray ? 1 : 3;
  TRI_CHECK(pixels.dtype() == DType::kUInt8 && shape.rank() == 3 && shape[2] == channels &&
                shape[0] > 0 && shape[1] > 0 && shape[0] <= JPEG_MAX_DIMENSION &&
                shape[1] <= JPEG_MAX_DIMENSION,
            "[image] a JPEG needs uint8 pixels [H, W, " + std::to_string(channels) + "], got " +
                std::string(name_of(pixels.dtype())) + " " + shape.str());
  const J_COLOR_SPACE space = colour == Colour::kGray  ? JCS_GRAYSCALE
                              : colour == Colour::kRgb ? JCS_EXT_RGB
                                                       : JCS_EXT_BGR;
  return jpeg_of(pixels.as<uint8_t>(), static_cast<int>(shape[1]), static_cast<int>(shape[0]),
                 space, quality);
}

void write_jpeg(const std::string& path, const Image& image, int quality) {
  check_filled(image);
  const std::vector<uint8_t> bytes =
      jpeg_of(image.bgr.data(), image.width, image.height, JCS_EXT_BGR, quality);
  std::FILE* file = std::fopen(path.c_str(), "wb");
  bool done = file != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (file != nullptr) done = std::fclose(file) == 0 && done;
  if (!done) fail(Code::kInvalidArgument, "[image] cannot write the JPEG", path);
}

}  // namespace trireme::vision
