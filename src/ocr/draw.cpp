// The picture with its boxes, and beside it a page on which each text stands where it was read.
#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "image/db_boxes.h"
#include "image/text_painter.h"

namespace trireme::ocr {
namespace {

const cv::Scalar kInk(40, 32, 24), kPaper(255, 255, 255);

// Neighbouring lines get colours far apart on the wheel.
cv::Scalar colour_of(size_t index) {
  const double turn = std::fmod(0.58 + 0.381966 * static_cast<double>(index), 1.0) * 6;
  const auto channel = [&](double shift) {
    const double at = std::fmod(turn + shift, 6.0);
    return 70 + 140 * std::clamp(std::abs(at - 3) - 1, 0.0, 1.0);
  };
  return {channel(4), channel(2), channel(0)};
}

std::vector<cv::Point> outline_of(const Box& box, int shift_x) {
  std::vector<cv::Point> outline;
  for (const Point& p : box)
    outline.emplace_back(static_cast<int>(std::lround(p.x)) + shift_x,
                         static_cast<int>(std::lround(p.y)));
  return outline;
}

void shade(cv::Mat& part, const Box& box, const cv::Scalar& colour, double strength) {
  const auto outline = outline_of(box, 0);
  const cv::Rect area = cv::boundingRect(outline) & cv::Rect({0, 0}, part.size());
  if (area.empty()) return;
  cv::Mat tinted = part(area).clone();
  cv::fillPoly(tinted, std::vector<std::vector<cv::Point>>{outline}, colour, cv::LINE_AA, 0,
               -area.tl());
  cv::addWeighted(tinted, strength, part(area), 1 - strength, 0, part(area));
}

void frame(cv::Mat& part, const Box& box, const cv::Scalar& colour) {
  const int thickness = std::clamp(std::min(part.cols, part.rows) / 500, 1, 4);
  cv::polylines(part, std::vector<std::vector<cv::Point>>{outline_of(box, 0)}, true, colour,
                thickness, cv::LINE_AA);
}

void number(cv::Mat& part, const Box& box, size_t index, const cv::Scalar& colour) {
  const std::string text = std::to_string(index + 1);
  const double scale = std::clamp(std::min(part.cols, part.rows) / 1400.0, 0.35, 1.2);
  int below = 0;
  const cv::Size size = cv::getTextSize(text, cv::FONT_HERSHEY_SIMPLEX, scale, 1, &below);
  const cv::Point at(std::clamp(static_cast<int>(box[0].x), 0, std::max(0, part.cols - size.width)),
                     std::max(size.height + 1, static_cast<int>(box[0].y) - 3));
  cv::rectangle(part, {at.x - 1, at.y - size.height - 1}, {at.x + size.width + 1, at.y + 2}, colour,
                cv::FILLED);
  cv::putText(part, text, at, cv::FONT_HERSHEY_SIMPLEX, scale, kPaper, 1, cv::LINE_AA);
}

// Columns are read with the head turned to the right, so their text is laid along the box the same
// way.
Box reading_box(const Box& box) {
  const float width = std::max(distance(box[0], box[1]), distance(box[2], box[3]));
  const float height = std::max(distance(box[0], box[3]), distance(box[1], box[2]));
  return height >= 1.5f * width ? Box{box[1], box[2], box[3], box[0]} : box;
}

void write_text(cv::Mat& page, const Line& line, vision::TextPainter& painter) {
  const Box box = reading_box(line.box);
  const int width = static_cast<int>(std::max(distance(box[0], box[1]), distance(box[2], box[3])));
  const int height = static_cast<int>(std::max(distance(box[0], box[3]), distance(box[1], box[2])));
  if (width < 4 || height < 4) return;
  // Painted at twice the size, so that turning it into place does not blur it.
  const cv::Mat strip = painter.paint(line.text, width * 2, height * 2);
  const auto w = static_cast<float>(strip.cols), h = static_cast<float>(strip.rows);
  const cv::Point2f from[] = {{0, 0}, {w, 0}, {w, h}, {0, h}};
  cv::Point2f to[4];
  for (size_t i = 0; i < 4; ++i) to[i] = {box[i].x, box[i].y};
  const cv::Rect area = cv::boundingRect(outline_of(line.box, 0)) & cv::Rect({0, 0}, page.size());
  if (area.empty()) return;
  for (auto& p : to) p -= cv::Point2f(static_cast<float>(area.x), static_cast<float>(area.y));
  cv::Mat ink;
  cv::warpPerspective(strip, ink, cv::getPerspectiveTransform(from, to), area.size(),
                      cv::INTER_LINEAR);
  for (int y = 0; y < area.height; ++y) {
    uint8_t* pixel = page.ptr<uint8_t>(area.y + y) + 3 * area.x;
    const uint8_t* cover = ink.ptr<uint8_t>(y);
    for (int x = 0; x < area.width; ++x, pixel += 3)
      for (int c = 0; c < 3; ++c)
        pixel[c] = static_cast<uint8_t>(
            (pixel[c] * (255 - cover[x]) + static_cast<int>(kInk[c]) * cover[x]) / 255);
  }
}

}  // namespace

Image draw(const Image& image, std::span<const Line> lines, const std::string& font) {
  TRI_CHECK(image.width > 0 && image.height > 0 &&
                image.bgr.size() ==
                    static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3,
            "[ocr] expected a picture to draw on");
  const bool beside = !font.empty();
  Image result{beside ? image.width * 2 : image.width, image.height, {}};
  result.bgr.resize(static_cast<size_t>(result.width) * static_cast<size_t>(result.height) * 3);
  cv::Mat all(result.height, result.width, CV_8UC3, result.bgr.data());
  cv::Mat picture = all.colRange(0, image.width);
  cv::Mat(image.height, image.width, CV_8UC3, const_cast<uint8_t*>(image.bgr.data()))
      .copyTo(picture);
  for (size_t i = 0; i < lines.size(); ++i) {
    shade(picture, lines[i].box, colour_of(i), 0.18);
    frame(picture, lines[i].box, colour_of(i));
    if (!beside) number(picture, lines[i].box, i, colour_of(i));
  }
  if (!beside) return result;
  vision::TextPainter painter(font);
  cv::Mat page = all.colRange(image.width, image.width * 2);
  page.setTo(kPaper);
  for (size_t i = 0; i < lines.size(); ++i) {
    shade(page, lines[i].box, colour_of(i), 0.10);
    frame(page, lines[i].box, colour_of(i));
    write_text(page, lines[i], painter);
  }
  cv::line(page, {0, 0}, {0, page.rows - 1}, cv::Scalar(200, 200, 200));
  return result;
}

}  // namespace trireme::ocr
