// Products of two computed matrices against a plain double-precision one.
#include "device/cpu/product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "device/cpu/conv.h"

namespace trireme::cpu {
namespace {

struct Shape3 {
  int64_t m, n, k;
};

std::vector<float> random_floats(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = uniform(random);
  return v;
}

// Rows of c and of the operands are `gap` elements longer than they need be; what lies between the
// rows of c, and behind the scratch memory, must stay.
void check(const Shape3& d, bool turn_a, bool turn_b, bool with_bias, int64_t gap) {
  SCOPED_TRACE(std::to_string(d.m) + 'x' + std::to_string(d.k) + 'x' + std::to_string(d.n) +
               (turn_a ? " a'" : "") + (turn_b ? " b'" : ""));
  const int64_t lda = (turn_a ? d.m : d.k) + gap, ldb = (turn_b ? d.k : d.n) + gap, ldc = d.n + gap;
  const auto a = random_floats((turn_a ? d.k : d.m) * lda, 1);
  const auto b = random_floats((turn_b ? d.n : d.k) * ldb, 2), bias = random_floats(d.n, 3);
  const ProductSpec spec{
      d.m, d.n, d.k, turn_a ? 1 : lda, turn_a ? lda : 1, turn_b ? 1 : ldb, turn_b ? ldb : 1, ldc};
  const auto product = Product::create(spec);
  ASSERT_NE(product, nullptr);
  constexpr float kGuard = 12345.5f;
  std::vector<float> c(static_cast<size_t>(d.m * ldc), kGuard);
  const size_t floats = product->scratch_bytes() / sizeof(float);
  std::vector<float> memory(floats + 64, kGuard);
  auto* scratch =
      reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
  product->run(a.data(), b.data(), with_bias ? bias.data() : nullptr, c.data(), scratch);
  for (const float* p = scratch + floats; p < memory.data() + memory.size(); ++p)
    ASSERT_EQ(*p, kGuard);
  const auto at = [](const std::vector<float>& v, int64_t i) { return v[static_cast<size_t>(i)]; };
  for (int64_t i = 0; i < d.m; ++i) {
    for (int64_t j = 0; j < ldc; ++j) {
      const float got = at(c, i * ldc + j);
      if (j >= d.n) {
        ASSERT_EQ(got, kGuard);
        continue;
      }
      double sum = with_bias ? at(bias, j) : 0;
      for (int64_t k = 0; k < d.k; ++k)
        sum += double(at(a, turn_a ? k * lda + i : i * lda + k)) *
               double(at(b, turn_b ? j * ldb + k : k * ldb + j));
      ASSERT_NEAR(got, sum, 2e-6 * std::sqrt(static_cast<double>(d.k)) * 4 + 2e-6) << i << ' ' << j;
    }
  }
}

class ProductTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!cpu_supports(DType::kFloat32)) GTEST_SKIP() << "needs AVX-512";
    before_ = num_threads();
    set_num_threads(GetParam());
  }
  void TearDown() override {
    if (before_ > 0) set_num_threads(before_);
  }
  int before_ = 0;
};

TEST_P(ProductTest, MatchesThePlainOne) {
  for (const Shape3& d : {Shape3{1, 1, 1},
                          {3, 2, 5},
                          {16, 2, 256},
                          {17, 33, 65},
                          {64, 120, 400},
                          {400, 120, 64},
                          {100, 96, 1300},
                          {7, 300, 31},
                          {130, 80, 300},
                          {300, 48, 17}})
    for (int i = 0; i < 8; ++i) check(d, i & 1, i & 2, i & 4, i % 3);
}

// A small result of a long sum: each thread sums a part.
TEST_P(ProductTest, MatchesWithSharesOfTheSum) {
  for (const Shape3& d : {Shape3{40, 50, 2000}, {256, 256, 1537}})
    for (int i = 0; i < 4; ++i) check(d, true, i & 1, i & 2, i);
}

// Too large to be packed at once: some columns at a time.
TEST_P(ProductTest, MatchesWithALargeRightSide) {
  for (const Shape3& d : {Shape3{20, 2500, 200}, {33, 6625, 96}, {5, 1000, 1200}})
    for (int i = 0; i < 4; ++i) check(d, i & 1, i & 2, i == 1, 0);
}

// The left side is too large to be turned at once as well.
TEST_P(ProductTest, MatchesWithTwoLargeSides) { check({600, 450, 1000}, true, false, true, 0); }

// What follows a product, on the numbers that it would have left; the residual may lie in c.
TEST_P(ProductTest, TakesInTheResidual) {
  for (const Shape3& d : {Shape3{37, 40, 50}, {20, 2500, 200}, {40, 48, 1300}})
    for (const bool in_place : {false, true}) {
      const auto a = random_floats(d.m * d.k, 1), b = random_floats(d.k * d.n, 2),
                 bias = random_floats(d.n, 3), r = random_floats(d.m * d.n, 4);
      const ProductSpec spec{d.m, d.n, d.k, d.k, 1, d.n, 1, d.n};
      const Epilogue epilogue{.residual = Epilogue::kBeforeAct};
      const auto plain = Product::create(spec), summed = Product::create(spec, epilogue);
      ASSERT_NE(summed, nullptr);
      std::vector<float> scratch(summed->scratch_bytes() / sizeof(float) + 16);
      auto* aligned =
          reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
      std::vector<float> want(r.size()), got = r;
      plain->run(a.data(), b.data(), bias.data(), want.data(), aligned);
      summed->run(a.data(), b.data(), bias.data(), got.data(), aligned,
                  in_place ? got.data() : r.data());
      for (size_t i = 0; i < r.size(); ++i) ASSERT_NEAR(got[i], want[i] + r[i], 2e-4f) << i;
    }
}

TEST_P(ProductTest, TakesInTheGradientOfGelu) {
  for (const Shape3& d : {Shape3{37, 40, 50}, {20, 2500, 200}, {33, 17, 1300}}) {
    const auto a = random_floats(d.m * d.k, 1), b = random_floats(d.k * d.n, 2);
    auto z = random_floats(d.m * d.n, 4);
    for (float& v : z) v *= 4;
    const ProductSpec spec{d.m, d.n, d.k, d.k, 1, d.n, 1, d.n};
    const auto plain = Product::create(spec),
               scaled = Product::create(spec, {.residual = Epilogue::kGeluGrad});
    ASSERT_NE(scaled, nullptr);
    std::vector<float> scratch(scaled->scratch_bytes() / sizeof(float) + 16);
    auto* aligned =
        reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
    std::vector<float> want(z.size()), got(z.size());
    plain->run(a.data(), b.data(), nullptr, want.data(), aligned);
    scaled->run(a.data(), b.data(), nullptr, got.data(), aligned, z.data());
    for (size_t i = 0; i < z.size(); ++i) {
      const double v = z[i], slope = 0.5 * std::erfc(-v / std::sqrt(2.0)) +
                                     v * std::exp(-0.5 * v * v) / std::sqrt(2 * std::acos(-1.0));
      ASSERT_NEAR(got[i], want[i] * slope, 2e-6 * std::abs(want[i]) + 1e-7) << i << ' ' << v;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ProductTest, ::testing::Values(1, 2, 3));

TEST(Product, SmallOnesInTurn) {
  if (!cpu_supports(DType::kFloat32)) GTEST_SKIP() << "needs AVX-512";
  for (const Shape3& d : {Shape3{1, 1, 1}, {64, 64, 64}, {40, 17, 33}, {5, 96, 7}, {30, 80, 64}})
    for (int i = 0; i < 8; ++i) {
      const bool turn_a = i & 1, turn_b = i & 2;
      SCOPED_TRACE(std::to_string(d.m) + 'x' + std::to_string(d.k) + 'x' + std::to_string(d.n) +
                   ' ' + std::to_string(i));
      const int64_t lda = (turn_a ? d.m : d.k) + 3, ldb = (turn_b ? d.k : d.n) + 5, ldc = d.n + 1;
      const auto a = random_floats((turn_a ? d.k : d.m) * lda, 1),
                 b = random_floats((turn_b ? d.n : d.k) * ldb, 2), bias = random_floats(d.n, 3);
      const ProductSpec spec{
          d.m, d.n, d.k, turn_a ? 1 : lda, turn_a ? lda : 1, turn_b ? 1 : ldb, turn_b ? ldb : 1,
          ldc};
      ASSERT_TRUE(serves_small_product(spec));
      std::vector<float> memory(small_product_bytes(spec) / sizeof(float) + 16);
      void* scratch =
          reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
      std::vector<float> c(static_cast<size_t>(d.m * ldc), 7.f);
      small_product(spec, a.data(), b.data(), i & 4 ? bias.data() : nullptr, c.data(), scratch,
                    i & 4 ? a.data() : nullptr, nullptr);
      for (int64_t row = 0; row < d.m; ++row)
        for (int64_t j = 0; j < ldc; ++j) {
          double sum = j < d.n && i & 4 ? bias[static_cast<size_t>(j)] : 0;
          for (int64_t k = 0; k < d.k && j < d.n; ++k)
            sum += double(a[static_cast<size_t>(turn_a ? k * lda + row : row * lda + k)]) *
                   double(b[static_cast<size_t>(turn_b ? j * ldb + k : k * ldb + j)]);
          ASSERT_NEAR(c[static_cast<size_t>(row * ldc + j)], j < d.n ? sum : 7, 1e-4) << row << j;
        }
    }
}

TEST(Product, LeavesOtherStridesAlone) {
  EXPECT_EQ(Product::create({4, 4, 4, 8, 2, 4, 1, 4}), nullptr);
}

}  // namespace
}  // namespace trireme::cpu
