// Glyphs side by side on a base line; no shaping, which Chinese and Latin text does not need.
#include "image/text_painter.h"

#include <ft2build.h>
#include FT_FREETYPE_H

#include <algorithm>
#include <filesystem>
#include <opencv2/imgproc.hpp>
#include <string_view>
#include <vector>

#include "trireme/error.h"

namespace trireme::vision {

struct TextPainter::Font {
  FT_Library library = nullptr;
  FT_Face face = nullptr;
  ~Font() {
    if (face != nullptr) FT_Done_Face(face);
    if (library != nullptr) FT_Done_FreeType(library);
  }
};

namespace {

// Fonts for Chinese, Japanese and Korean come as collections; the simplified Chinese face is
// wanted.
FT_Long face_for_chinese(FT_Library library, const std::string& path, FT_Long faces) {
  for (FT_Long i = 0; i < faces; ++i) {
    FT_Face face = nullptr;
    if (FT_New_Face(library, path.c_str(), i, &face) != 0) continue;
    const std::string_view name = face->family_name != nullptr ? face->family_name : "";
    const bool chinese = name.ends_with(" SC") || name.ends_with(" CN");
    FT_Done_Face(face);
    if (chinese) return i;
  }
  return 0;
}

std::vector<uint32_t> code_points(std::string_view text) {
  std::vector<uint32_t> codes;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if ((byte & 0xc0) == 0x80) {
      if (!codes.empty()) codes.back() = codes.back() << 6 | (byte & 0x3f);
    } else {
      codes.push_back(byte < 0x80   ? byte
                      : byte < 0xe0 ? byte & 0x1f
                      : byte < 0xf0 ? byte & 0x0f
                                    : byte & 0x07);
    }
  }
  return codes;
}

int size_for(int height) { return std::clamp(height * 3 / 4, 4, 512); }

void put_glyph(const FT_GlyphSlot glyph, int x, int base, cv::Mat& strip) {
  const FT_Bitmap& bitmap = glyph->bitmap;
  for (int row = 0; row < static_cast<int>(bitmap.rows); ++row) {
    const int y = base - glyph->bitmap_top + row;
    if (y < 0 || y >= strip.rows) continue;
    for (int column = 0; column < static_cast<int>(bitmap.width); ++column) {
      const int at = x + glyph->bitmap_left + column;
      if (at < 0 || at >= strip.cols) continue;
      uint8_t& pixel = strip.at<uint8_t>(y, at);
      pixel = std::max(pixel, bitmap.buffer[row * bitmap.pitch + column]);
    }
  }
}

}  // namespace

TextPainter::TextPainter(const std::string& font) : font_(std::make_unique<Font>()) {
  if (!std::filesystem::exists(font)) fail(Code::kNotFound, "[font] no font file here", font);
  const auto check = [&](FT_Error error) {
    if (error != 0) fail(Code::kInvalidArgument, "[font] FreeType cannot use this font", font);
  };
  check(FT_Init_FreeType(&font_->library));
  check(FT_New_Face(font_->library, font.c_str(), 0, &font_->face));
  check(FT_IS_SCALABLE(font_->face) ? 0 : 1);
  if (font_->face->num_faces > 1) {
    const FT_Long index = face_for_chinese(font_->library, font, font_->face->num_faces);
    FT_Done_Face(font_->face);
    font_->face = nullptr;
    check(FT_New_Face(font_->library, font.c_str(), index, &font_->face));
  }
}

TextPainter::~TextPainter() = default;

int TextPainter::width_of(const std::string& text, int height) {
  FT_Face face = font_->face;
  const int size = size_for(height);
  FT_Set_Pixel_Sizes(face, 0, static_cast<FT_UInt>(size));
  int needed = size / 4;
  for (const uint32_t code : code_points(text))
    if (FT_Load_Char(face, code, FT_LOAD_NO_HINTING) == 0)
      needed += static_cast<int>(face->glyph->advance.x >> 6) + 1;
  return needed;
}

bool TextPainter::covers(const std::string& text) const {
  return std::ranges::all_of(
      code_points(text), [&](uint32_t code) { return FT_Get_Char_Index(font_->face, code) != 0; });
}

cv::Mat TextPainter::paint(const std::string& text, int width, int height) {
  const int needed = width_of(text, height), size = size_for(height);
  FT_Face face = font_->face;

  cv::Mat strip = cv::Mat::zeros(height, std::max(needed, width), CV_8U);
  const int base = height / 2 + size * 3 / 8;
  int64_t pen = size / 8 * 64;  // in 1/64 of a pixel
  for (const uint32_t code : code_points(text)) {
    if (FT_Load_Char(face, code, FT_LOAD_RENDER | FT_LOAD_NO_HINTING) != 0) continue;
    put_glyph(face->glyph, static_cast<int>(pen >> 6), base, strip);
    pen += face->glyph->advance.x;
  }
  if (needed > width) cv::resize(strip, strip, {width, height}, 0, 0, cv::INTER_AREA);
  return strip;
}

}  // namespace trireme::vision
