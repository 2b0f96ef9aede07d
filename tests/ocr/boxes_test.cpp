// From maps to boxes, reading order, crops and sizes.
#include <gtest/gtest.h>

#include <opencv2/imgproc.hpp>

#include "image/db_boxes.h"
#include "ocr/crop.h"
#include "ocr/detector.h"
#include "ocr/frame.h"

namespace trireme::ocr {
namespace {

Candidate at(float x, float y) {
  return {Box{Point{x, y}, {x + 50, y}, {x + 50, y + 20}, {x, y + 20}}, 1};
}

void expect_box(const Box& box, const Box& expected, float within) {
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(box[i].x, expected[i].x, within) << "corner " << i;
    EXPECT_NEAR(box[i].y, expected[i].y, within) << "corner " << i;
  }
}

TEST(RectangleAround, OrdersCornersClockwiseFromTopLeft) {
  const Rectangle upright = rectangle_around({{10, 10}, {50, 30}, {10, 30}, {50, 10}});
  expect_box(upright.corners, {Point{10, 10}, {50, 10}, {50, 30}, {10, 30}}, 0.01f);
  EXPECT_NEAR(upright.short_side, 20, 0.01);
  const Rectangle tilted = rectangle_around({{10, 10}, {110, 30}, {106, 50}, {6, 30}});
  expect_box(tilted.corners, {Point{10, 10}, {110, 30}, {106, 50}, {6, 30}}, 0.1f);
}

TEST(Unclip, MovesTheOutlineByAreaOverPerimeter) {
  const std::vector<cv::Point> outline =
      unclip({Point{100, 100}, {200, 100}, {200, 120}, {100, 120}}, 1.5f);
  const cv::Rect around = cv::boundingRect(outline);  // 100 * 20 * 1.5 / 240 = 12.5
  EXPECT_NEAR(around.x, 100 - 12.5, 1);
  EXPECT_NEAR(around.y, 100 - 12.5, 1);
  EXPECT_NEAR(around.width, 125, 2);
  EXPECT_NEAR(around.height, 45, 2);
  EXPECT_TRUE(unclip({Point{5, 5}, {5, 5}, {5, 5}, {5, 5}}, 1.5f).empty());
}

TEST(BoxesFromMap, FindsScalesAndScores) {
  cv::Mat map = cv::Mat::zeros(128, 256, CV_32F);
  map(cv::Rect(40, 50, 100, 20)) = 0.9f;
  map(cv::Rect(200, 10, 2, 2)) = 0.9f;     // too small
  map(cv::Rect(200, 90, 40, 20)) = 0.45f;  // a weak one
  const auto boxes = boxes_from_map(map, 512, 512, {.dilate = false});
  ASSERT_EQ(boxes.size(), 1U);
  EXPECT_NEAR(boxes[0].score, 0.9, 1e-5);
  // The core is 99 x 19 pixel distances, grown by 99 * 19 * 1.5 / 236 = 11.9, then 2 and 4 times as
  // large.
  expect_box(boxes[0].box, {Point{56, 152}, {302, 152}, {302, 324}, {56, 324}}, 6);
  EXPECT_EQ(boxes_from_map(map, 512, 512, {.box_threshold = 0.4f, .dilate = false}).size(), 2U);
  EXPECT_TRUE(boxes_from_map(cv::Mat::zeros(64, 64, CV_32F), 64, 64, {}).empty());
}

TEST(BoxesFromMap, StaysInsideThePicture) {
  cv::Mat map = cv::Mat::ones(64, 96, CV_32F);
  const auto boxes = boxes_from_map(map, 96, 64, {});
  ASSERT_EQ(boxes.size(), 1U);
  expect_box(boxes[0].box, {Point{0, 0}, {95, 0}, {95, 63}, {0, 63}}, 0);
}

TEST(ReadingOrder, LinesFromTheTopAndWordsFromTheLeft) {
  std::vector<Candidate> boxes = {at(300, 104), at(10, 200), at(150, 98), at(10, 105), at(10, 5)};
  sort_in_reading_order(boxes);
  std::vector<std::pair<float, float>> order;
  for (const Candidate& c : boxes) order.emplace_back(c.box[0].x, c.box[0].y);
  const std::vector<std::pair<float, float>> expected = {
      {10, 5}, {10, 105}, {150, 98}, {300, 104}, {10, 200}};
  EXPECT_EQ(order, expected);
}

TEST(Crop, CopiesAnUprightBoxAndTurnsAColumn) {
  cv::Mat picture(60, 80, CV_8UC3);
  cv::randu(picture, 0, 256);
  const cv::Mat line = crop(picture, {Point{10, 20}, {50, 20}, {50, 40}, {10, 40}});
  EXPECT_EQ(cv::norm(line, picture(cv::Rect(10, 20, 40, 20)), cv::NORM_INF), 0);
  const cv::Mat column = crop(picture, {Point{10, 10}, {20, 10}, {20, 50}, {10, 50}});
  ASSERT_EQ(column.size(), cv::Size(40, 10));
  EXPECT_EQ(column.at<cv::Vec3b>(9, 0), picture.at<cv::Vec3b>(10, 10));
}

TEST(Crop, TheShortWayAgreesWithTheWarp) {
  cv::Mat picture(60, 80, CV_8UC3);
  cv::randu(picture, 0, 256);
  const cv::Point2f from[] = {{10, 20}, {50, 20}, {50, 41}, {10, 41}},
                    to[] = {{0, 0}, {40, 0}, {40, 21}, {0, 21}};
  cv::Mat warped;
  cv::warpPerspective(picture, warped, cv::getPerspectiveTransform(from, to), {40, 21},
                      cv::INTER_CUBIC, cv::BORDER_REPLICATE);
  const cv::Mat line = crop(picture, {Point{10, 20}, {50, 20}, {50, 41}, {10, 41}});
  EXPECT_EQ(cv::norm(line, warped, cv::NORM_INF), 0);
}

TEST(DetectorSize, ScalesOneSideAndRoundsToMultiplesOf32) {
  EXPECT_EQ(detector_size({500, 500}, "min", 736), cv::Size(736, 736));
  EXPECT_EQ(detector_size({720, 1150}, "min", 736), cv::Size(736, 1184));
  EXPECT_EQ(detector_size({1000, 1600}, "min", 736), cv::Size(992, 1600));
  EXPECT_EQ(detector_size({1920, 1080}, "max", 960), cv::Size(960, 544));
  EXPECT_EQ(detector_size({5, 2000}, "min", 736).height, 4096);
}

TEST(Frame, MapsBoxesBackToTheOriginal) {
  const auto image = [](int width, int height) {
    return Image{
        width, height,
        std::vector<uint8_t>(static_cast<size_t>(width) * static_cast<size_t>(height) * 3)};
  };
  const Image large = image(4000, 3000);
  const Frame small = frame_of(large);
  EXPECT_EQ(small.picture.size(), cv::Size(1984, 1504));
  const auto corner = static_cast<float>(1984);
  EXPECT_NEAR(small.to_original({Point{corner, 0}, {}, {}, {}})[0].x, 4000, 0.1);
  const Image strip = image(800, 40);
  const Frame padded = frame_of(strip);
  EXPECT_EQ(padded.picture.size(), cv::Size(800, 200));
  EXPECT_EQ(padded.to_original({Point{0, 100}, {}, {}, {}})[0].y, 20);
  const Image hair = image(2000, 1);
  EXPECT_LE(frame_of(hair).picture.total(), 4'000'000U);
}

}  // namespace
}  // namespace trireme::ocr
