// Decoders, one per picture format, behind decode_image; each checks sizes before it allocates.
#pragma once

#include <cstdint>
#include <span>

#include "trireme/vision.h"

namespace trireme::vision {

using Bytes = std::span<const uint8_t>;

struct Decoded {
  Image image;
  int orientation = 1;  // EXIF: 1 upright .. 8
};

Decoded decode_jpeg(Bytes file, int64_t max_pixels);
Decoded decode_png(Bytes file, int64_t max_pixels);
Decoded decode_webp(Bytes file, int64_t max_pixels);
Decoded decode_bmp(Bytes file, int64_t max_pixels);

// An upright picture of these sizes, its pixels not yet set. Throws kInvalidArgument for an empty
// one and kResourceExhausted for one over the limit; `format` names the decoder in the message.
Image blank_image(const char* format, int64_t width, int64_t height, int64_t max_pixels);
// The same check alone, for decoders that need it earlier.
void check_size(const char* format, int64_t width, int64_t height, int64_t max_pixels);

// Lays `pixels` of B, G, R, A over white.
void blend_over_white(const uint8_t* bgra, uint8_t* bgr, int64_t pixels);

// The orientation in a TIFF block of EXIF data, with or without "Exif\0\0" before it; 1 when it
// holds none.
int exif_orientation(Bytes exif);
// Undoes an EXIF orientation.
Image upright(Image image, int orientation);

// A whole regular file; throws kNotFound, kInvalidArgument, kResourceExhausted.
std::vector<uint8_t> read_file_bytes(const std::string& path);

}  // namespace trireme::vision
