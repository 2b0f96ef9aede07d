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

 private:
  struct Font;
  std::unique_ptr<Font> font_;
};

}  // namespace trireme::vision
