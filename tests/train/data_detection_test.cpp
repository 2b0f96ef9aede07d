// What a DB detector learns from: maps, pages that the project draws, boxes of label files; hmean;
// and a run from a config to an exported model that reads in the pipeline.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <opencv2/imgproc.hpp>

#include "support/data.h"
#include "support/temp.h"
#include "train/db_maps.h"
#include "trireme/datasets.h"
#include "trireme/metric.h"
#include "trireme/models_ocr.h"
#include "trireme/ocr.h"
#include "trireme/ops.h"
#include "trireme/trainer.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
namespace ds = vision::datasets;
using train::db_maps;
using train::Outline;

Outline rectangle(float left, float top, float right, float low) {
  return {{left, top}, {right, top}, {right, low}, {left, low}};
}

// Area 4000, perimeter 280: the core is 4000 (1 - 0.4^2) / 280 = 12 pixels inside.
TEST(DbMaps, OfARectangle) {
  std::vector<uint8_t> ignored{0};
  const train::DbMaps maps = db_maps({rectangle(20, 30, 120, 70)}, ignored, {160, 96});
  EXPECT_EQ(ignored[0], 0);
  const auto shrink = [&](int x, int y) { return maps.shrink.at<float>(y, x); };
  const auto threshold = [&](int x, int y) { return maps.threshold.at<float>(y, x); };
  const auto mask = [&](int x, int y) { return maps.threshold_mask.at<float>(y, x); };
  EXPECT_EQ(shrink(31, 50), 0);
  EXPECT_EQ(shrink(32, 50), 1);
  EXPECT_EQ(shrink(108, 50), 1);
  EXPECT_EQ(shrink(109, 50), 0);
  EXPECT_EQ(shrink(70, 41), 0);
  EXPECT_EQ(shrink(70, 42), 1);
  EXPECT_EQ(cv::countNonZero(maps.shrink), 77 * 17);
  EXPECT_EQ(cv::countNonZero(maps.shrink_mask), 160 * 96);
  EXPECT_NEAR(threshold(70, 30), 0.7, 1e-6);
  EXPECT_NEAR(threshold(70, 24), 0.5, 1e-6);
  EXPECT_NEAR(threshold(70, 36), 0.5, 1e-6);
  EXPECT_NEAR(threshold(70, 50), 0.3, 1e-6);
  EXPECT_NEAR(threshold(14, 30), 0.5, 1e-6);
  EXPECT_NEAR(threshold(17, 26), 0.3 + 0.4 * (1 - 5.0 / 12), 1e-6);  // 3 and 4 from the corner
  EXPECT_EQ(mask(70, 18), 1);
  EXPECT_EQ(mask(70, 17), 0);
  EXPECT_EQ(mask(70, 50), 1);
  EXPECT_EQ(mask(9, 19), 0);  // round corners
}

TEST(DbMaps, IgnoredAndSmallOnesAreMaskedOut) {
  std::vector<uint8_t> ignored{1, 0, 0};
  const train::DbMaps maps =
      db_maps({rectangle(4, 4, 40, 20), rectangle(50, 4, 90, 11), rectangle(10, 40, 60, 40)},
              ignored, {96, 64});
  EXPECT_EQ(ignored, (std::vector<uint8_t>{1, 1, 1}));
  EXPECT_EQ(cv::countNonZero(maps.shrink), 0);
  EXPECT_EQ(cv::countNonZero(maps.threshold_mask), 0);
  EXPECT_EQ(maps.shrink_mask.at<float>(10, 20), 0);
  EXPECT_EQ(maps.shrink_mask.at<float>(8, 60), 0);
  EXPECT_EQ(maps.shrink_mask.at<float>(30, 20), 1);
}

TEST(DbLoss, BalancedCrossEntropyTakesTheHardestThreeTimes) {
  const Ints shape{1, 4, 8};
  std::vector<float> p, truth, mask;
  for (int i = 0; i < 32; ++i) {
    p.push_back(0.05F + 0.9F * static_cast<float>(i * 11 % 32) / 32);
    truth.push_back(i % 8 == 3 ? 1.F : 0.F);
    mask.push_back(i < 4 ? 0.F : 1.F);
  }
  double want = 0, positives = 0;
  std::vector<double> negative;
  for (size_t i = 0; i < 32; ++i) {
    if (mask[i] == 0) continue;
    if (truth[i] == 1) want -= std::log(p[i]), positives += 1;
    else negative.push_back(-std::log(1 - p[i]));
  }
  ASSERT_EQ(positives, 3);
  std::sort(negative.rbegin(), negative.rend());
  for (size_t i = 0; i < 9; ++i) want += negative[i];
  want /= 12;
  const auto tensor = [&](const std::vector<float>& v) { return reshape(to_tensor(v), shape); };
  const Tensor zero = zeros(shape);
  const Tensor maps =
      concat({unsqueeze(tensor(p), {1}), zeros({1, 1, 4, 8}), zeros({1, 1, 4, 8})}, 1);
  const models::DBLossOptions alone{.alpha = 1, .beta = 0, .balanced_cross_entropy = true};
  const double got =
      models::db_loss(maps, tensor(truth), tensor(mask), zero, zero, alone).item() - 1;
  EXPECT_NEAR(got, want, 1e-5);  // 1: Dice of a third map that finds nothing
}

TEST(DetMetric, MatchesByWhatIsShared) {
  using Outlines = std::vector<metric::DetMetric::Outline>;
  const auto box = [](float x, float y, float w, float h) {
    return metric::DetMetric::Outline{{x, y}, {x + w, y}, {x + w, y + h}, {x, y + h}};
  };
  metric::DetMetric metric;
  EXPECT_EQ(metric.accumulate()[0].second, 0);
  // One hit (0.6 of the union), one too far off, one twice, one inside of what is ignored.
  const Outlines drawn{box(0, 0, 100, 10), box(0, 20, 100, 10), box(0, 40, 100, 10),
                       box(0, 60, 100, 20)};
  const Outlines found{box(25, 0, 100, 10), box(60, 20, 100, 10), box(0, 40, 100, 10),
                       box(0, 40, 100, 10), box(10, 62, 50, 10)};
  metric.update(found, drawn, {false, false, false, true});
  const auto result = metric.accumulate();
  EXPECT_EQ(result[1], (std::pair<std::string, double>{"precision", 2.0 / 4}));
  EXPECT_EQ(result[2].first, "recall");
  EXPECT_NEAR(result[2].second, 2.0 / 3, 1e-9);
  EXPECT_EQ(result[0].first, "hmean");
  EXPECT_NEAR(result[0].second, 4.0 / 7, 1e-9);
  EXPECT_THROW(metric.update({}, drawn, {}), Error);
}

class Detection : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  // Dark pictures with a light box each, and both kinds of labels.
  void write_pictures(int count) const {
    std::ofstream labels(folder_ / "det.txt");
    for (int i = 0; i < count; ++i) {
      const int left = 20 + 9 * i % 40, top = 24 + 7 * i % 30, right = left + 90, low = top + 36;
      vision::Image image{160, 128, std::vector<uint8_t>(160 * 128 * 3, 40)};
      for (int y = top; y < low; ++y)
        std::fill_n(image.bgr.begin() + (y * 160 + left) * 3, 90 * 3, uint8_t{220});
      const std::string name = "p/" + std::to_string(i);
      fs::create_directories(folder_ / "p");
      vision::write_png((folder_ / (name + ".png")).string(), image);
      const auto n = [](int value) { return std::to_string(value); };
      labels << name << ".png\t[{\"transcription\": \"x\", \"points\": [[" << left << ',' << top
             << "],[" << right << ',' << top << "],[" << right << ',' << low << "],[" << left << ','
             << low << "]]}]\n";
      write("xml/" + std::to_string(i) + ".xml",
            "<annotation><size><width>160</width><height>128</height></size><object>"
            "<name>box</name><bndbox><xmin>" +
                n(left + 1) + "</xmin><ymin>" + n(top + 1) + "</ymin><xmax>" + n(right) +
                "</xmax><ymax>" + n(low) + "</ymax></bndbox></object></annotation>");
    }
  }
  test::TempFolder temp_;
  const fs::path folder_ = temp_.path();
};

TEST_F(Detection, PolygonsAreReadAndMoved) {
  write_pictures(1);
  write(
      "det.txt",
      "p/0.png\t[{\"transcription\": \"x\", \"points\": [[10,10],[60,10],[110,10],[110,40],[60,"
      "40],[10,40]]},{\"transcription\": \"###\", \"points\": [[1,80],[50,80],[50,99],[1,99]]}]\n");
  const auto boxes =
      std::make_shared<ds::TextBoxes>((folder_ / "det.txt").string(), folder_.string());
  RandomStream random(1);
  const io::Sample raw = boxes->get(0, random);
  EXPECT_EQ(raw[1].shape(), (Shape{2, 6, 2}));
  EXPECT_EQ(raw[1].as<float>()[12 + 11], 99);  // the shorter one repeats its last
  const ds::DetectionMaps maps(boxes, {.size = 320, .max_boxes = 4});
  const io::Sample sample = maps.get(0, random);
  ASSERT_EQ(sample.size(), 7U);
  EXPECT_EQ(sample[0].shape(), (Shape{320, 320, 3}));
  EXPECT_EQ(sample[1].shape(), (Shape{320, 320}));
  EXPECT_EQ(sample[5].shape(), (Shape{4, 16, 2}));
  EXPECT_EQ(sample[5].as<float>()[0], 20);  // twice the size
  EXPECT_EQ(sample[5].as<float>()[2 * 15 + 1], 80);
  const uint8_t* kinds = sample[6].as<uint8_t>();
  EXPECT_EQ(std::vector<uint8_t>(kinds, kinds + 4), (std::vector<uint8_t>{1, 2, 0, 0}));
  EXPECT_EQ(sample[1].as<float>()[50 * 320 + 120], 1);
  EXPECT_EQ(sample[2].as<float>()[180 * 320 + 40], 0);
  EXPECT_THROW(ds::DetectionMaps(boxes, {.size = 320, .max_boxes = 1}).get(0, random), Error);
  EXPECT_THROW(ds::DetectionMaps(boxes, {.size = 320, .max_points = 5}).get(0, random), Error);
  EXPECT_THROW(ds::DetectionMaps(boxes, {.size = 100}), Error);
}

// By chance, but what is light in the picture is in the outline, wherever it went.
TEST_F(Detection, PicturesAndOutlinesMoveTogether) {
  write_pictures(3);
  const auto voc =
      std::make_shared<const ds::VOCDataset>((folder_ / "p").string(), (folder_ / "xml").string());
  const ds::DetectionMaps maps(ds::outlines_of(voc),
                               {.size = 96, .augment = true, .min_scale = 0.8, .max_scale = 1.5});
  for (uint64_t i = 0; i < 12; ++i) {
    RandomStream random(i);
    const io::Sample sample = maps.get(static_cast<int64_t>(i % 3), random);
    ASSERT_EQ(sample[6].as<uint8_t>()[0], 1) << i;
    std::vector<cv::Point2f> outline;
    for (int k = 0; k < 4; ++k)
      outline.emplace_back(sample[5].as<float>()[2 * k], sample[5].as<float>()[2 * k + 1]);
    int light = 0;
    for (int y = 0; y < 96; ++y)
      for (int x = 0; x < 96; ++x) {
        const int grey = sample[0].as<uint8_t>()[(y * 96 + x) * 3];
        const double inside = cv::pointPolygonTest(
            outline, cv::Point2f(static_cast<float>(x), static_cast<float>(y)), true);
        if (inside > 2) { EXPECT_GT(grey, 180) << i << ' ' << x << ' ' << y; }
        if (inside < -2) { EXPECT_LT(grey, 60) << i << ' ' << x << ' ' << y; }
        light += grey > 180 ? 1 : 0;
      }
    EXPECT_GT(light, 200) << i;
  }
}

TEST_F(Detection, PagesHaveTheirInkInTheOutlines) {
  write("lexicon.txt", "[lines]\n{letters:6}\n{digits:9}\n");
  ds::PageOptions options{.lexicon = (folder_ / "lexicon.txt").string(),
                          .count = 3,
                          .width = 320,
                          .height = 256,
                          .augment = false,
                          .vary = false};
  options.fonts = {ds::find_fonts("ABXYZ0123456789").front()};
  const ds::RenderedPages pages(options);
  RandomStream a(1), b(2);
  const io::Sample page = pages.get(1, a), again = pages.get(1, b);
  EXPECT_EQ(page[0].shape(), (Shape{256, 320, 3}));
  ASSERT_EQ(page[0].bytes(), again[0].bytes());
  EXPECT_EQ(std::memcmp(page[0].data(), again[0].data(), page[0].bytes()), 0);
  const int64_t n = page[1].shape()[0];
  ASSERT_GT(n, 2);
  std::vector<int64_t> ink(static_cast<size_t>(n), 0);
  for (int y = 0; y < 256; ++y)
    for (int x = 0; x < 320; ++x) {
      if (page[0].as<uint8_t>()[(y * 320 + x) * 3] > 128) continue;
      bool inside = false;
      for (int64_t i = 0; i < n; ++i) {
        const float* q = page[1].as<float>() + i * 8;
        const auto fx = static_cast<float>(x), fy = static_cast<float>(y);
        if (fx < q[0] || fx > q[4] || fy < q[1] || fy > q[5]) continue;
        inside = true;
        ++ink[static_cast<size_t>(i)];
      }
      EXPECT_TRUE(inside) << x << ' ' << y;
    }
  for (const int64_t count : ink) EXPECT_GT(count, 20);
  options.augment = true;
  const io::Sample turned = ds::RenderedPages(options).get(1, a);
  EXPECT_NE(turned[1].as<float>()[1], turned[1].as<float>()[3]);
}

TEST_F(Detection, AFewStepsLowerTheLossAndTheExportReads) {
  TRI_NEEDS_OCR_MODELS();
  write_pictures(8);
  const auto data = [&](const std::string& kind) {
    return "{dataset: " + kind + ", root: " + (folder_ / "p").string() +
           ", annotations: " + (folder_ / "xml").string() +
           ", size: 96, colour: bgr, transforms: [ToTensor, "
           "{name: Normalize, mean: [0.5], std: [0.25]}]}\n";
  };
  write("c.yaml",
        "model: {name: ppocrv4_det_deploy, scale: 0.34}\ndata:\n  batch_size: 4\n  train: " +
            data("voc_boxes") + "  eval: " + data("voc_boxes") +
            "optimizer: {name: adam}\nlr: {learning_rate: 5.0e-3}\neval_every: 12\nepochs: 6\n"
            "loss: {main: bce}\nlog_every: 1\n");
  const train::RunResult result = train::run((folder_ / "c.yaml").string(),
                                             {.output = (folder_ / "out").string(), .threads = 2});
  ASSERT_EQ(result.evaluation.size(), 3U);
  EXPECT_EQ(result.evaluation[0].first, "hmean");
  std::vector<double> losses;
  std::ifstream log(folder_ / "out/log.jsonl");
  for (std::string line; std::getline(log, line);)
    if (const size_t at = line.find("\"loss\":"); at != std::string::npos)
      losses.push_back(std::stod(line.substr(at + 7)));
  ASSERT_EQ(losses.size(), 12U);
  EXPECT_LT(losses[10] + losses[11], 0.85 * (losses[0] + losses[1]));
  ocr::Options options;
  options.models = test::ocr_models().string();
  options.det = result.exported;
  (void)ocr::create_pipeline(options)->run(ocr::read_image((folder_ / "p/0.png").string()));
}

}  // namespace
}  // namespace trireme
