// RenderedLines: lines of text drawn from fonts, made to look like photographs.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <opencv2/imgproc.hpp>

#include "image/pixels.h"
#include "image/text_painter.h"
#include "train/data_files.h"
#include "train/data_lexicon.h"
#include "train/data_paper.h"

namespace trireme::vision::datasets {

namespace fs = std::filesystem;
namespace t = transforms;

namespace {

std::vector<std::string> font_folders() {
  std::vector<std::string> folders;
  const char* named = std::getenv("TRIREME_FONTS");
  if (named != nullptr && *named != '\0') {
    std::string_view rest = named;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find(':'), rest.size());
      if (end > 0) folders.emplace_back(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return folders;
  }
  folders = {"/usr/share/fonts", "/usr/local/share/fonts"};
  const char* home = std::getenv("HOME");
  if (home != nullptr) folders.push_back(std::string(home) + "/.local/share/fonts");
  return folders;
}

bool can_draw(const std::string& font, const std::string& sample) {
  try {
    return TextPainter(font).covers(sample);
  } catch (const Error&) { return false; }  // bitmap fonts, fonts of formats that FreeType lacks
}

// Puts the strip into a larger field: margins, a slight turn, perspective, as boxes cut from a page
// have them. On the ink alone: the paper goes on behind it.
cv::Mat placed(const cv::Mat& strip, RandomStream& random) {
  const int h = strip.rows;
  const auto part = [&](double most) { return static_cast<int>(random.uniform(0, most) * h); };
  cv::Mat field;
  cv::copyMakeBorder(strip, field, part(0.12), part(0.12), part(0.5), part(0.5),
                     cv::BORDER_CONSTANT);
  const double rise = random.uniform(-0.06, 0.06) * h;  // over the whole length
  const double shear = random.uniform(-0.15, 0.15);
  const cv::Matx23d turn(1, shear, -shear * field.rows / 2, rise / field.cols, 1, -rise / 2);
  cv::Mat turned;
  cv::warpAffine(field, turned, turn, field.size(), cv::INTER_LINEAR);
  Picture picture(array_of(turned), Colour::kGray);
  t::PerspectiveWarp(0.25, 0.06).apply(picture, random);
  return matrix_of(picture.pixels()).clone();
}

}  // namespace

const t::Transform& photograph() {
  static const t::Compose kSteps(t::RandomApply(t::GaussianBlur(0.3, 1.1), 0.3),
                                 t::RandomApply(t::MotionBlur(4), 0.12),
                                 t::RandomApply(t::BackgroundNoise(10, 35), 0.6),
                                 t::RandomApply(t::JpegArtefacts(30, 85), 0.3));
  return kSteps;
}

PaperColours draw_colours(RandomStream& random) {
  const double light = random.uniform(190, 255), dark = random.uniform(0, 110);
  PaperColours colours{};
  for (int c = 0; c < 3; ++c) {
    colours.paper[c] = std::min(255.0, light + random.uniform(-12, 12));
    colours.ink[c] = std::max(0.0, dark + random.uniform(-25, 25));
  }
  if (random.chance(0.08)) std::swap(colours.paper, colours.ink);
  return colours;
}

cv::Mat blend(const cv::Mat& cover, const PaperColours& colours) {
  cv::Mat picture(cover.size(), CV_8UC3);
  for (int y = 0; y < cover.rows; ++y) {
    const uint8_t* from = cover.ptr<uint8_t>(y);
    uint8_t* to = picture.ptr<uint8_t>(y);
    for (int x = 0; x < cover.cols; ++x)
      for (int c = 0; c < 3; ++c, ++to)
        *to = cv::saturate_cast<uint8_t>(
            (colours.paper[c] * (255 - from[x]) + colours.ink[c] * from[x]) / 255);
  }
  return picture;
}

std::vector<std::string> find_fonts(const std::string& sample) {
  std::vector<std::string> fonts;
  for (const std::string& folder : font_folders()) {
    std::error_code error;
    for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
         at.increment(error)) {
      const std::string ending = at->path().extension().string();
      const bool font = ending == ".ttf" || ending == ".ttc" || ending == ".otf";
      if (font && can_draw(at->path().string(), sample)) fonts.push_back(at->path().string());
    }
  }
  std::ranges::sort(fonts);
  if (fonts.empty())
    fail(Code::kNotFound,
         "[RenderedLines] no font here draws these characters: install one (Debian: "
         "fonts-noto-cjk), or name its folder in TRIREME_FONTS");
  return fonts;
}

struct RenderedLines::Lexicon : datasets::Lexicon {
  using datasets::Lexicon::Lexicon;
};

// A face serves one thread at a time: each font has as many as there are threads.
struct RenderedLines::Painters {
  std::mutex mutex;
  std::vector<std::vector<std::unique_ptr<TextPainter>>> free;
};

RenderedLines::RenderedLines(RenderOptions options)
    : options_(std::move(options)),
      lexicon_(std::make_shared<const Lexicon>(options_.lexicon)),
      painters_(std::make_unique<Painters>()) {
  TRI_CHECK(options_.count > 0 && options_.height >= 8 && options_.height <= 512 &&
                options_.max_width >= 8 && options_.max_width <= 1 << 16 &&
                options_.max_length > 0 && options_.max_length <= 1 << 20,
            "[RenderedLines] expected a count, a height of 8 to 512, a width of 8 to 65,536 and a "
            "length");
  const std::string characters = lexicon_->characters();
  if (options_.fonts.empty()) options_.fonts = find_fonts(characters);
  for (const std::string& font : options_.fonts) {
    auto painter = std::make_unique<TextPainter>(font);
    if (!painter->covers(characters))
      fail(Code::kInvalidArgument, "[RenderedLines] the font lacks characters of the lexicon",
           font);
    painters_->free.emplace_back().push_back(std::move(painter));
  }
}

RenderedLines::~RenderedLines() = default;

std::string RenderedLines::text(int64_t index) const {
  TRI_CHECK(index >= 0 && index < options_.count,
            "[RenderedLines] no line " + std::to_string(index));
  RandomStream random(options_.seed, 0, static_cast<uint64_t>(index));
  constexpr int kTries = 1000;
  for (int i = 0; i < kTries; ++i) {
    std::string line = lexicon_->draw(random);
    const auto length = std::ranges::count_if(line, [](char c) { return (c & 0xc0) != 0x80; });
    if (length > 0 && length <= options_.max_length) return line;
  }
  fail(Code::kInvalidArgument, "[RenderedLines] no line of the lexicon is as short as " +
                                   std::to_string(options_.max_length) + " characters");
}

Array RenderedLines::draw(int64_t index, RandomStream& random) const {
  const std::string line = text(index);
  RandomStream looks(options_.seed, options_.vary ? random.next() : 1,
                     ~static_cast<uint64_t>(index));
  const auto font = static_cast<size_t>(looks.below(static_cast<int64_t>(options_.fonts.size())));
  std::unique_ptr<TextPainter> painter;
  {
    const std::lock_guard lock(painters_->mutex);
    auto& free = painters_->free[font];
    if (!free.empty()) {
      painter = std::move(free.back());
      free.pop_back();
    }
  }
  if (!painter) painter = std::make_unique<TextPainter>(options_.fonts[font]);
  const int size = options_.augment ? static_cast<int>(options_.height * looks.uniform(0.8, 1.4))
                                    : options_.height;
  cv::Mat strip = painter->paint(line, painter->width_of(line, size), size);
  {
    const std::lock_guard lock(painters_->mutex);
    painters_->free[font].push_back(std::move(painter));
  }
  if (options_.augment) strip = placed(strip, looks);
  const PaperColours colours =
      options_.augment ? draw_colours(looks) : PaperColours{{255, 255, 255}, {0, 0, 0}};
  Picture picture(array_of(blend(strip, colours)), Colour::kBgr);
  if (options_.augment) photograph().apply(picture, looks);
  const double wanted = 1.0 * picture.width() * options_.height / picture.height();
  const int width = static_cast<int>(std::clamp(wanted, 8.0, 1.0 * options_.max_width));
  picture.crop_and_resize({0, 0, picture.width(), picture.height()}, {width, options_.height},
                          Interpolation::kBilinear);
  return array_of(convert(matrix_of(picture.pixels()), Colour::kBgr, options_.colour));
}

io::Sample RenderedLines::get(int64_t index, RandomStream& random) const {
  TRI_CHECK(options_.alphabet != nullptr, "[RenderedLines] expected an alphabet");
  const std::vector<int64_t> ids = options_.alphabet->encode(text(index));
  Picture picture(draw(index, random), options_.colour);
  if (options_.transform) options_.transform->apply(picture, random);
  io::Sample sample{picture.pixels()};
  append_text(sample, ids, options_.max_length);
  return sample;
}

}  // namespace trireme::vision::datasets
