// One predictor over thousands of shapes: memory stays flat, weights are folded and packed once.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <random>

#include "support/data.h"
#include "trireme/inference.h"

namespace trireme::inference {
namespace {

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

Array zeros(const Shape& shape) {
  Array t(DType::kFloat32, shape);
  std::memset(t.data(), 0, t.bytes());
  return t;
}

// Runs `count` pictures of random sizes and returns resident bytes after the first 500 and at the
// end.
std::pair<int64_t, int64_t> soak(Predictor& predictor, int count, int64_t fixed_height) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int64_t> side(1, 10);
  int64_t after_500 = 0;
  for (int i = 0; i < count; ++i) {
    const int64_t height = fixed_height ? fixed_height : 32 * side(random),
                  width = 32 * side(random) + (fixed_height ? i % 32 : 0);
    predictor.get_input_handle("x")->share_external_data(zeros({1, 3, height, width}));
    predictor.run();
    if (i == 500) after_500 = resident_bytes();
  }
  return {after_500, resident_bytes()};
}

TEST(SlowSoak, DetectorMemoryStaysFlatOver5000Sizes) {
  TRI_NEEDS_OCR_MODELS();
  const std::string model = (test::ocr_models() / "det").string();
  Config config(model);
  config.set_cpu_math_library_num_threads(1);  // the two run beside each other
  const auto predictor = create_predictor(config);
  const auto [early, late] = soak(*predictor, 5000, 0);
  EXPECT_LE(static_cast<double>(late), 1.05 * static_cast<double>(early));
}

TEST(SlowSoak, RecognizerMemoryStaysFlatOver5000Widths) {
  TRI_NEEDS_OCR_MODELS();
  const std::string model = (test::ocr_models() / "rec").string();
  Config config(model);
  config.set_cpu_math_library_num_threads(1);  // the two run beside each other
  const auto predictor = create_predictor(config);
  const auto [early, late] = soak(*predictor, 5000, 48);
  EXPECT_LE(static_cast<double>(late), 1.05 * static_cast<double>(early));
}

// Weights that `clean` scales were folded anew for every shape once; their number must not grow
// with the shapes.
TEST(Weights, AreFoldedAndPackedOnceForAllShapes) {
  TRI_NEEDS_OCR_MODELS();
  const std::string model = (test::ocr_models() / "rec").string();
  const auto predictor = create_predictor(Config(model));
  (void)predictor->run({zeros({1, 3, 48, 320})});
  const int64_t first = predictor->stats().weight_bytes;
  (void)predictor->run({zeros({1, 3, 48, 352})});
  (void)predictor->run({zeros({2, 3, 48, 96})});
  EXPECT_EQ(predictor->stats().weight_bytes, first);
}

}  // namespace
}  // namespace trireme::inference
