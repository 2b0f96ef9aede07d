// The whole pipeline on real pictures, against what RapidOCR reads with the same models.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <opencv2/imgproc.hpp>
#include <set>
#include <thread>

#include "support/data.h"
#include "trireme/error.h"
#include "trireme/ocr.h"

namespace trireme::ocr {
namespace {

namespace fs = std::filesystem;

std::vector<Line> expected_lines(const fs::path& file) {
  const auto json = nlohmann::json::parse(std::ifstream(file));
  std::vector<Line> lines;
  for (const auto& result : json["results"]) {
    Line line;
    for (size_t i = 0; i < 4; ++i)
      line.box[i] = {result["box"][i][0].get<float>(), result["box"][i][1].get<float>()};
    line.text = result["text"].get<std::string>();
    line.score = result["score"].get<float>();
    lines.push_back(line);
  }
  return lines;
}

double overlap(const Box& a, const Box& b) {
  const auto polygon = [](const Box& box) {
    std::vector<cv::Point2f> points;
    for (const Point& p : box) points.emplace_back(p.x, p.y);
    return points;
  };
  const auto p = polygon(a), q = polygon(b);
  std::vector<cv::Point2f> common;
  const double area = cv::intersectConvexConvex(p, q, common);
  return area / (cv::contourArea(p) + cv::contourArea(q) - area);
}

std::u32string characters(const std::string& text) {
  std::u32string result;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if ((byte & 0xc0) == 0x80) result.back() = result.back() << 6 | (byte & 0x3f);
    else result.push_back(byte < 0x80 ? byte : byte & (byte < 0xe0 ? 0x1f : 0x0f));
  }
  return result;
}

size_t edit_distance(const std::u32string& a, const std::u32string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t before = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = before + (a[i - 1] != b[j - 1]);
      before = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row.back();
}

struct Agreement {
  size_t expected = 0, got = 0, matched = 0, characters = 0, errors = 0;
  double hmean() const {
    return 2.0 * static_cast<double>(matched) / static_cast<double>(expected + got);
  }
  double error_rate() const {
    return static_cast<double>(errors) / static_cast<double>(characters);
  }
};

void add(Agreement& total, const std::vector<Line>& expected, const std::vector<Line>& got) {
  std::set<size_t> used;
  for (const Line& line : expected) {
    const std::u32string text = characters(line.text);
    total.characters += text.size();
    size_t best = got.size();
    for (size_t i = 0; i < got.size(); ++i)
      if (overlap(line.box, got[i].box) >= 0.5 && !used.contains(i)) best = i;
    total.errors +=
        best == got.size() ? text.size() : edit_distance(text, characters(got[best].text));
    if (best != got.size()) used.insert(best);
  }
  for (size_t i = 0; i < got.size(); ++i)
    if (!used.contains(i)) total.errors += characters(got[i].text).size();
  total.expected += expected.size();
  total.got += got.size();
  total.matched += used.size();
}

class OcrPipelineTest : public testing::Test {
 protected:
  void SetUp() override {
    TRI_NEEDS_DATA("ocr/expected_rapidocr");
    options_.models = test::ocr_models().string();
    if (options_.models.empty())
      GTEST_SKIP() << "no PP-OCRv4 models; `trireme model fetch ch_PP-OCRv4` gets them";
  }
  Image picture(const std::string& name) const {
    return read_image((test::data_folder() / "ocr/images" / name).string());
  }
  static std::vector<Line> expected(const std::string& name) {
    return expected_lines(test::data_folder() / "ocr/expected_rapidocr" / (name + ".json"));
  }
  Agreement agreement() const {
    const auto pipeline = create_pipeline(options_);
    Agreement total;
    for (const char* name : {"11.jpg", "12.jpg"})
      add(total, expected(name), pipeline->run(picture(name)));
    return total;
  }
  Options options_;
};

TEST_F(OcrPipelineTest, AgreesWithRapidOcr) {
  const Agreement total = agreement();
  EXPECT_GE(total.hmean(), 0.97);
  EXPECT_LE(total.error_rate(), 0.01);
}

// Its boxes. The texts may differ in a character, as lines share their runs of the recogniser with
// other lines here and what it reads depends a little on the padding.
TEST_F(OcrPipelineTest, HasRapidOcrsBoxesUnderItsSettings) {
  options_.det_db_box_thresh = 0.5f;
  options_.det_db_unclip_ratio = 1.6f;
  EXPECT_EQ(agreement().hmean(), 1);
  EXPECT_LE(agreement().error_rate(), 0.01);
  const std::vector<Line> lines = create_pipeline(options_)->run(picture("11.jpg"));
  const std::vector<Line> peer = expected("11.jpg");
  ASSERT_EQ(lines.size(), peer.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_NEAR(lines[i].score, peer[i].score, 0.05) << "line " << i;
    for (size_t k = 0; k < 4; ++k) {
      EXPECT_NEAR(lines[i].box[k].x, peer[i].box[k].x, 1) << "line " << i;
      EXPECT_NEAR(lines[i].box[k].y, peer[i].box[k].y, 1) << "line " << i;
    }
  }
}

TEST_F(OcrPipelineTest, BfloatReadsTheSame) {
  options_.precision = inference::Precision::kBFloat16;
  const Agreement total = agreement();
  EXPECT_GE(total.hmean(), 0.97);
  EXPECT_LE(total.error_rate(), 0.02);
}

TEST_F(OcrPipelineTest, TurnsAPictureThatStandsOnItsHead) {
  Image image = picture("11.jpg");
  cv::Mat all(image.height, image.width, CV_8UC3, image.bgr.data());
  cv::rotate(all, all, cv::ROTATE_180);
  const std::vector<Line> lines = create_pipeline(options_)->run(image);
  size_t turned = 0;
  for (const Line& line : lines) turned += line.angle == 180;
  EXPECT_GE(turned, lines.size() - 3);
  EXPECT_TRUE(std::any_of(lines.begin(), lines.end(),
                          [](const Line& l) { return l.text == "发足够的滋养"; }));
}

TEST_F(OcrPipelineTest, ClonesWorkAtTheSameTime) {
  const auto first = create_pipeline(options_);
  const auto second = first->clone();
  const Image image = picture("12.jpg");
  std::vector<Line> lines[2];
  {
    std::jthread other([&] { lines[1] = second->run(image); });
    lines[0] = first->run(image);
  }
  ASSERT_EQ(lines[0].size(), lines[1].size());
  for (size_t i = 0; i < lines[0].size(); ++i) EXPECT_EQ(lines[0][i].text, lines[1][i].text);
}

TEST_F(OcrPipelineTest, OddPictures) {
  const auto pipeline = create_pipeline(options_);
  const auto white = [](int width, int height) {
    return Image{
        width, height,
        std::vector<uint8_t>(static_cast<size_t>(width) * static_cast<size_t>(height) * 3, 255)};
  };
  for (const auto& [width, height] : {std::pair{1, 1}, {1, 40}, {300, 1}, {64, 64}})
    EXPECT_TRUE(pipeline->run(white(width, height)).empty()) << width << " x " << height;
  EXPECT_THROW(pipeline->run(Image{}), Error);
  EXPECT_THROW(pipeline->run(Image{10, 10, {1, 2, 3}}), Error);
}

TEST(OcrOptions, AreChecked) {
  const auto refused = [](auto change) {
    Options options;
    options.models = "/nowhere";
    change(options);
    try {
      create_pipeline(options);
    } catch (const Error& e) { return e.code() == Code::kInvalidArgument; }
    return false;
  };
  EXPECT_TRUE(refused([](Options& o) { o.det_limit_type = "mean"; }));
  EXPECT_TRUE(refused([](Options& o) { o.det_db_thresh = 1.5f; }));
  EXPECT_TRUE(refused([](Options& o) { o.rec_batch_num = 0; }));
  EXPECT_FALSE(refused([](Options&) {}));  // not found, then
}

TEST(Draw, PutsAPageBesideThePictureWhenItHasAFont) {
  const Image image{60, 40, std::vector<uint8_t>(60 * 40 * 3, 200)};
  const std::vector<Line> lines = {
      {Box{Point{5, 5}, {50, 5}, {50, 25}, {5, 25}}, "ab中", 0.9f, 0.9f, 0}};
  EXPECT_EQ(draw(image, lines).width, 60);
  EXPECT_NE(draw(image, lines).bgr, image.bgr);
  EXPECT_THROW(draw(image, lines, "/nowhere.ttf"), Error);
  const char* kFont = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
  if (fs::exists(kFont)) { EXPECT_EQ(draw(image, lines, kFont).width, 120); }
}

}  // namespace
}  // namespace trireme::ocr
