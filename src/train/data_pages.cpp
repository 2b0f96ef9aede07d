// RenderedPages: pages of drawn lines, with the outlines of the lines.
#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "image/pixels.h"
#include "train/data_files.h"
#include "train/data_paper.h"

namespace trireme::vision::datasets {
namespace {

struct Page {
  cv::Mat cover;  // ink
  std::vector<std::vector<float>> outlines;
};

// A line's ink, `height` high; its first and last column have some.
cv::Mat strip_of(const RenderedLines& lines, int height, RandomStream& random) {
  const Array drawn = lines.draw(random.below(lines.size()), random);
  cv::Mat ink = 255 - matrix_of(drawn);
  const cv::Rect around = cv::boundingRect(ink > 64);
  if (around.area() == 0) return {};
  ink = ink(cv::Rect(around.x, 0, around.width, ink.rows));
  const int width = std::max(1, ink.cols * height / ink.rows);
  cv::Mat strip;
  cv::resize(ink, strip, {width, height}, 0, 0, cv::INTER_AREA);
  return strip;
}

void put(Page& page, const cv::Mat& strip, int x, int y, double strength) {
  const cv::Mat faded = strip * strength;
  cv::Mat to = page.cover(cv::Rect(x, y, strip.cols, strip.rows));
  cv::max(to, faded, to);
  const auto left = static_cast<float>(x), top = static_cast<float>(y);
  const auto right = static_cast<float>(x + strip.cols), low = static_cast<float>(y + strip.rows);
  page.outlines.push_back({left, top, right, top, right, low, left, low});
}

// Rows of one to three lines; between rows sometimes a rule, around a line sometimes a frame.
Page composed(const RenderedLines& lines, const PageOptions& options, RandomStream& random) {
  Page page{cv::Mat::zeros(options.height, options.width, CV_8U), {}};
  const int margin = options.width / 20;
  int y = margin;
  while (true) {
    const int height = static_cast<int>(random.between(options.min_text, options.max_text));
    if (y + height + margin > options.height) break;
    int x = margin + static_cast<int>(random.below(options.width / 4));
    for (int64_t k = random.between(1, 3); k > 0; --k) {
      cv::Mat strip = strip_of(lines, height, random);
      const int room = options.width - margin - x;
      if (strip.empty() || room < 2 * height) break;
      if (strip.cols > room) strip = strip.colRange(0, room);
      put(page, strip, x, y, random.uniform(0.6, 1));
      if (options.augment && random.chance(0.1)) {
        const int off = height / 4;
        cv::rectangle(page.cover, {x - off, y - off}, {x + strip.cols + off, y + strip.rows + off},
                      cv::Scalar(180));
      }
      x += strip.cols + static_cast<int>(height * random.uniform(1, 4));
    }
    y += height;
    const int gap = static_cast<int>(height * random.uniform(0.4, 1.6));
    if (options.augment && random.chance(0.25))
      cv::line(page.cover, {margin / 2, y + gap / 2}, {options.width - margin / 2, y + gap / 2},
               cv::Scalar(200), 1 + static_cast<int>(random.below(2)));
    y += gap;
  }
  return page;
}

// As a page lies before a camera: slightly turned, its corners moved.
void turn(Page& page, RandomStream& random) {
  const auto w = static_cast<float>(page.cover.cols), h = static_cast<float>(page.cover.rows);
  const cv::Point2f from[] = {{0, 0}, {w, 0}, {w, h}, {0, h}};
  const double angle = random.uniform(-0.1, 0.1), c = std::cos(angle), s = std::sin(angle);
  cv::Point2f to[4];
  for (int i = 0; i < 4; ++i) {
    const double x = from[i].x - w / 2, y = from[i].y - h / 2;
    to[i] = {static_cast<float>(c * x - s * y + w / 2 + random.uniform(-0.02, 0.02) * w),
             static_cast<float>(s * x + c * y + h / 2 + random.uniform(-0.02, 0.02) * h)};
  }
  const cv::Mat matrix = cv::getPerspectiveTransform(from, to);
  cv::Mat turned;
  cv::warpPerspective(page.cover, turned, matrix, page.cover.size(), cv::INTER_LINEAR);
  page.cover = turned;
  for (auto& outline : page.outlines) {
    std::vector<cv::Point2f> points, moved;
    for (size_t i = 0; i < outline.size(); i += 2) points.emplace_back(outline[i], outline[i + 1]);
    cv::perspectiveTransform(points, moved, matrix);
    for (size_t i = 0; i < moved.size(); ++i) {
      outline[2 * i] = moved[i].x;
      outline[2 * i + 1] = moved[i].y;
    }
  }
}

}  // namespace

RenderedPages::RenderedPages(PageOptions options) : options_(std::move(options)) {
  constexpr int kMostPixels = 1 << 14;
  TRI_CHECK(options_.count > 0 && options_.min_text >= 8 &&
                options_.max_text >= options_.min_text && options_.max_text <= 256 &&
                options_.width >= 4 * options_.max_text && options_.width <= kMostPixels &&
                options_.height >= 4 * options_.max_text && options_.height <= kMostPixels,
            "[RenderedPages] expected a count, a height of text of 8 to 256, and pages of four "
            "such heights to 16,384");
  RenderOptions lines;
  lines.lexicon = options_.lexicon;
  lines.fonts = options_.fonts;
  lines.seed = options_.seed;
  lines.count = int64_t{1} << 30;
  lines.height = options_.max_text;
  lines.max_width = 1 << 14;
  lines.augment = false;
  lines.colour = Colour::kGray;
  lines_ = std::make_shared<const RenderedLines>(lines);
}

io::Sample RenderedPages::get(int64_t index, RandomStream& random) const {
  TRI_CHECK(index >= 0 && index < options_.count,
            "[RenderedPages] no page " + std::to_string(index));
  RandomStream looks(options_.seed, options_.vary ? random.next() : 1,
                     ~static_cast<uint64_t>(index));
  Page page = composed(*lines_, options_, looks);
  if (options_.augment) turn(page, looks);
  const PaperColours colours =
      options_.augment ? draw_colours(looks) : PaperColours{{255, 255, 255}, {0, 0, 0}};
  Picture picture(array_of(blend(page.cover, colours)), Colour::kBgr);
  if (options_.augment) photograph().apply(picture, looks);
  io::Sample sample{array_of(convert(matrix_of(picture.pixels()), Colour::kBgr, options_.colour))};
  append_outlines(sample, page.outlines, std::vector<uint8_t>(page.outlines.size(), 0));
  return sample;
}

}  // namespace trireme::vision::datasets
