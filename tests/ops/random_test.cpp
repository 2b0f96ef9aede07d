// Random operators: known numbers, distributions, and that a state says all.
#include "ops/random.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/op_test.h"
#include "ops/random_rows.h"

namespace trireme::test {
namespace {

using Values = std::vector<Value*>;

Array state(int64_t seed, int64_t offset) {
  const std::vector<int64_t> v{seed, offset};
  return Array::from({2}, std::span<const int64_t>(v), DType::kInt64);
}

std::vector<double> draw(const Record& record, const Array& s) {
  return doubles_of(run_ops(record, {s})[0]);
}

// The known answer of Random123 for a counter and a key of zeros.
TEST(Random, IsPhilox) {
  uint32_t numbers[kRandomBlock];
  random_rows().block({0, 0, 0}, 0, numbers);
  EXPECT_EQ(numbers[0], 0x6627e8d5u);
  EXPECT_EQ(numbers[16], 0xe169c58du);
  EXPECT_EQ(numbers[32], 0xbc57ac4cu);
  EXPECT_EQ(numbers[48], 0x9b00dbd8u);
}

TEST(Random, IsTheSameOnEveryProcessor) {
  uint32_t a[kRandomBlock], b[kRandomBlock];
  const RandomStream s{0x123456789abcdef0, 0xfedcba9876543210, 77};
  for (const uint64_t block : {uint64_t{3}, uint64_t{1} << 30}) {
    random_rows_baseline().block(s, block, a);
    random_rows().block(s, block, b);
    EXPECT_TRUE(std::equal(a, a + kRandomBlock, b));
  }
}

TEST(Random, UniformFillsItsRange) {
  const Record r = [](const Values& v) {
    return Values{ops::uniform(v[0], {.shape = {101, 99}, .min = -1, .max = 3})};
  };
  const std::vector<double> x = draw(r, state(7, 1));
  double sum = 0, squares = 0;
  for (const double v : x) {
    EXPECT_GE(v, -1);
    EXPECT_LT(v, 3);
    sum += v;
    squares += (v - 1) * (v - 1);
  }
  EXPECT_NEAR(sum / 9999, 1, 0.05);
  EXPECT_NEAR(squares / 9999, 16.0 / 12, 0.05);
  EXPECT_EQ(x, draw(r, state(7, 1)));
  EXPECT_NE(x, draw(r, state(7, 2)));
  EXPECT_NE(x, draw(r, state(8, 1)));
}

TEST(Random, GaussianHasItsMoments) {
  const std::vector<double> x = draw(
      [](const Values& v) {
        return Values{ops::gaussian(v[0], {.shape = {20011}, .min = 2, .max = 3})};
      },
      state(1, 0));
  double mean = 0, squares = 0, fourth = 0;
  for (const double v : x) mean += v / 20011;
  for (const double v : x) {
    const double z = (v - 2) / 3;
    squares += z * z / 20011;
    fourth += z * z * z * z / 20011;
  }
  EXPECT_NEAR(mean, 2, 0.06);
  EXPECT_NEAR(squares, 1, 0.04);
  EXPECT_NEAR(fourth, 3, 0.25);
}

TEST(Random, IntegersAndPermutations) {
  const std::vector<double> x = draw(
      [](const Values& v) {
        return Values{
            ops::randint(v[0], {.shape = {5000}, .dtype = DType::kInt64, .low = -2, .high = 3})};
      },
      state(3, 0));
  for (int v = -2; v < 3; ++v) EXPECT_NEAR(std::count(x.begin(), x.end(), v), 1000, 150) << v;
  std::vector<double> p =
      draw([](const Values& v) { return Values{ops::randperm(v[0], 1000, DType::kInt32, 4)}; },
           state(3, 0));
  std::vector<double> want(1000);
  std::iota(want.begin(), want.end(), 0);
  EXPECT_NE(p, want);
  std::sort(p.begin(), p.end());
  EXPECT_EQ(p, want);
}

TEST(Random, BernoulliFollowsItsProbabilities) {
  Array p(DType::kFloat32, {3000});
  for (int i = 0; i < 3000; ++i) p.as<float>()[i] = static_cast<float>(i % 3) / 2;
  const std::vector<double> x = doubles_of(run_ops(
      [](const Values& v) { return Values{ops::bernoulli(v[0], v[1], 0)}; }, {p, state(5, 5)})[0]);
  double sum[3] = {};
  for (size_t i = 0; i < 3000; ++i) sum[i % 3] += x[i];
  EXPECT_EQ(sum[0], 0);
  EXPECT_NEAR(sum[1], 500, 70);
  EXPECT_EQ(sum[2], 1000);
}

TEST(Dropout, ScalesWhatItKeepsAndDropsTheSameInEveryDtype) {
  const Array x = ramp({64, 50});
  std::vector<std::vector<double>> masks;
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
    for (const char* mode : {"upscale_in_train", "downscale_in_infer"}) {
      const double scale = std::string(mode) == "upscale_in_train" ? 4.0 / 3 : 1;
      const std::vector<double> y = doubles_of(run_ops(
          [&](const Values& v) {
            return Values{ops::dropout(v[0], v[1], {.p = 0.25, .mode = mode, .index = 9})};
          },
          {x.to(dtype), state(1, 2)})[0]);
      const std::vector<double> in = doubles_of(x);
      std::vector<double> mask;
      for (size_t i = 0; i < in.size(); ++i) {
        mask.push_back(y[i] == 0 && in[i] != 0);
        if (y[i] != 0) { EXPECT_NEAR(y[i], in[i] * scale, 0.01 * std::abs(in[i])); }
      }
      masks.push_back(mask);
      EXPECT_NEAR(std::accumulate(mask.begin(), mask.end(), 0.0), 800, 90);
    }
  }
  for (const auto& m : masks) EXPECT_EQ(m, masks[0]);
}

TEST(Dropout, AxisDropsWholeChannels) {
  Array x(DType::kFloat32, {4, 32, 3, 5});
  std::fill_n(x.as<float>(), x.numel(), 1.f);
  const std::vector<double> y = doubles_of(run_ops(
      [](const Values& v) {
        return Values{ops::dropout(v[0], v[1], {.p = 0.5, .axis = {1, 0}})};
      },
      {x, state(1, 2)})[0]);
  int dropped = 0;
  for (size_t c = 0; c < 128; ++c) {
    for (size_t i = 1; i < 15; ++i) EXPECT_EQ(y[15 * c + i], y[15 * c]);
    dropped += y[15 * c] == 0;
  }
  EXPECT_NEAR(dropped, 64, 25);
}

}  // namespace
}  // namespace trireme::test
