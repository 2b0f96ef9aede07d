// Text to coverage (0 to 255) with FreeType.
#pragma once

#include <memory>
#include <opencv2/core.hpp>
#include <string>

namespace trireme::vision {

class TextPainter {
 public:
  // Throws kNotFound or kInvalidArgument for a font that cannot be used.
  explicit TextPainter(const std::string& font);
  ~TextPainter();

  // One line of UTF-8 that fills `height` and is squeezed where it would be wider than `width`.
  cv::Mat paint(const std::string& text, int width, int height);
  // The width that a line of this height takes when nothing squeezes it.
  int width_of(const std::string& text, int height);
  // Has the font a glyph for every character?
  bool covers(const std::string& text) const;

 private:
  struct Font;
  std::unique_ptr<Font> font_;
};

}  // namespace trireme::vision
