// Small pictures in every format, made in the test itself.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

#include "trireme/vision.h"

namespace trireme::vision::pictures {

using File = std::vector<uint8_t>;

// Every pixel differs from its neighbours and its mirror images.
inline Image gradient(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) image.bgr.push_back(static_cast<uint8_t>(x * 7 + y * 3 + c * 40));
  return image;
}

inline void append(File& file, const char* text, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) file.push_back(static_cast<uint8_t>(text[i]));
}

inline void append_number(File& file, uint32_t value, int bytes, bool big = false) {
  for (int i = 0; i < bytes; ++i)
    file.push_back(static_cast<uint8_t>(value >> 8 * (big ? bytes - 1 - i : i)));
}

// A TIFF block whose only entry is the orientation.
inline File exif(int orientation, bool big) {
  File block;
  append(block, big ? "MM" : "II", 2);
  const auto number = [&](uint32_t value, int bytes) { append_number(block, value, bytes, big); };
  number(42, 2);
  number(8, 4);
  number(1, 2);
  number(0x0112, 2);
  number(3, 2);
  number(1, 4);
  number(static_cast<uint32_t>(orientation), 2);
  number(0, 2);
  number(0, 4);
  return block;
}

struct JpegOptions {
  int orientation = 0;  // 0: no EXIF
  bool progressive = false;
  J_COLOR_SPACE from = JCS_EXT_BGR, to = JCS_YCbCr;
  bool adobe_marker = true;  // for four inks
};

inline File jpeg(const std::vector<uint8_t>& pixels, int width, int height,
                 const JpegOptions& options = {}) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&info, &memory, &bytes);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = static_cast<int>(pixels.size()) / width / height;
  info.in_color_space = options.from;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, options.to);
  if (!options.adobe_marker) info.write_Adobe_marker = FALSE;
  jpeg_set_quality(&info, 98, TRUE);
  if (options.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  if (options.orientation > 0) {
    File block;
    append(block, "Exif\0\0", 6);
    const File tiff = exif(options.orientation, options.orientation % 2 == 0);
    block.insert(block.end(), tiff.begin(), tiff.end());
    jpeg_write_marker(&info, JPEG_APP0 + 1, block.data(), static_cast<unsigned>(block.size()));
  }
  const size_t stride = pixels.size() / static_cast<size_t>(height);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<uint8_t*>(pixels.data() + info.next_scanline * stride);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  File file(memory, memory + bytes);
  std::free(memory);
  return file;
}

inline File jpeg(const Image& image, const JpegOptions& options = {}) {
  return jpeg(image.bgr, image.width, image.height, options);
}

// `format` is one of libpng's PNG_FORMAT_*.
inline File png(const void* pixels, int width, int height, uint32_t format,
                const void* colours = nullptr, uint32_t colour_count = 0) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = format;
  image.colormap_entries = colour_count;
  png_alloc_size_t bytes = 0;
  png_image_write_to_memory(&image, nullptr, &bytes, 0, pixels, 0, colours);
  File file(bytes);
  png_image_write_to_memory(&image, file.data(), &bytes, 0, pixels, 0, colours);
  file.resize(bytes);
  return file;
}

inline uint32_t crc_of(const uint8_t* data, size_t bytes) {
  uint32_t crc = ~0U;
  for (size_t i = 0; i < bytes; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
  }
  return ~crc;
}

// The same PNG with an eXIf chunk behind its header.
inline File with_exif(const File& png_file, int orientation) {
  constexpr size_t kHeaderEnd = 8 + 25;
  File chunk;
  const File tiff = exif(orientation, true);
  append(chunk, "eXIf", 4);
  chunk.insert(chunk.end(), tiff.begin(), tiff.end());
  File file(png_file.begin(), png_file.begin() + kHeaderEnd);
  append_number(file, static_cast<uint32_t>(tiff.size()), 4, true);
  file.insert(file.end(), chunk.begin(), chunk.end());
  append_number(file, crc_of(chunk.data(), chunk.size()), 4, true);
  file.insert(file.end(), png_file.begin() + kHeaderEnd, png_file.end());
  return file;
}

inline File webp(const std::vector<uint8_t>& pixels, int width, int height) {
  uint8_t* memory = nullptr;
  const size_t stride = pixels.size() / static_cast<size_t>(height);
  const bool alpha = stride / static_cast<size_t>(width) == 4;
  const auto encode = alpha ? WebPEncodeLosslessBGRA : WebPEncodeLosslessBGR;
  const size_t bytes = encode(pixels.data(), width, height, static_cast<int>(stride), &memory);
  File file(memory, memory + bytes);
  WebPFree(memory);
  return file;
}

// Header, palette (or masks) and rows of a BMP; `rows` hold the padding.
inline File bmp(int width, int height, int bits, uint32_t compression, const File& palette,
                const File& rows, uint32_t colours = 0) {
  File file;
  append(file, "BM", 2);
  const auto at = static_cast<uint32_t>(54 + palette.size());
  for (const uint32_t value : {at + static_cast<uint32_t>(rows.size()), 0U, at, 40U})
    append_number(file, value, 4);
  append_number(file, static_cast<uint32_t>(width), 4);
  append_number(file, static_cast<uint32_t>(height), 4);
  append_number(file, 1, 2);
  append_number(file, static_cast<uint32_t>(bits), 2);
  for (const uint32_t value : {compression, 0U, 0U, 0U, colours, 0U}) append_number(file, value, 4);
  file.insert(file.end(), palette.begin(), palette.end());
  file.insert(file.end(), rows.begin(), rows.end());
  return file;
}

// 24 bits, from an image.
inline File bmp(const Image& image) {
  File rows;
  const size_t stride = static_cast<size_t>(image.width) * 3;
  for (int y = image.height - 1; y >= 0; --y) {
    const uint8_t* row = image.bgr.data() + static_cast<size_t>(y) * stride;
    rows.insert(rows.end(), row, row + stride);
    rows.insert(rows.end(), (4 - stride % 4) % 4, 0);
  }
  return bmp(image.width, image.height, 24, 0, {}, rows);
}

}  // namespace trireme::vision::pictures
