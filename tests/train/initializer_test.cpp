// Initialisers: determinism, spread, Paddle's fans.
#include "trireme/nn_initializer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "trireme/nn.h"

namespace trireme {
namespace {

namespace I = nn::initializer;

struct Spread {
  double mean = 0, std = 0, low = INFINITY, high = -INFINITY;
};
Spread spread(const nn::Initializer& make, const Shape& shape) {
  const Array a = make(shape, DType::kFloat32);
  Spread s;
  double squares = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double v = a.as<float>()[i];
    s.mean += v;
    squares += v * v;
    s.low = std::min(s.low, v);
    s.high = std::max(s.high, v);
  }
  s.mean /= static_cast<double>(a.numel());
  s.std = std::sqrt(squares / static_cast<double>(a.numel()) - s.mean * s.mean);
  return s;
}

TEST(Initializer, FollowsTheSeed) {
  const auto weight = [] { return nn::Linear(7, 5).weight.numpy(); };
  seed(11);
  const Array first = weight(), second = weight();
  seed(11);
  const Array again = weight();
  EXPECT_EQ(std::memcmp(first.data(), again.data(), first.bytes()), 0);
  EXPECT_NE(std::memcmp(first.data(), second.data(), first.bytes()), 0);
}

TEST(Initializer, SpreadsAsItSays) {
  seed(1);
  const Shape shape{200, 100};
  Spread s = spread(I::Normal(1, 2), shape);
  EXPECT_NEAR(s.mean, 1, 0.05);
  EXPECT_NEAR(s.std, 2, 0.05);
  s = spread(I::TruncatedNormal(0, 1, -1, 2), shape);
  EXPECT_GE(s.low, -1);
  EXPECT_LE(s.high, 2);
  s = spread(I::Uniform(-3, 1), shape);
  EXPECT_NEAR(s.low, -3, 0.01);
  EXPECT_NEAR(s.high, 1, 0.01);
  EXPECT_NEAR(spread(I::XavierUniform(), shape).high, std::sqrt(6.0 / 300), 1e-3);
  EXPECT_NEAR(spread(I::XavierNormal(), shape).std, std::sqrt(2.0 / 300), 2e-3);
  // A kernel [200, 20, 5, 1]: fan in 20 * 5.
  EXPECT_NEAR(spread(I::KaimingNormal(), Shape{200, 20, 5, 1}).std, std::sqrt(2.0 / 100), 2e-3);
  EXPECT_NEAR(spread(I::KaimingUniform(), Shape{200, 20, 5, 1}).high, std::sqrt(6.0 / 100), 2e-3);
}

TEST(Initializer, OrthogonalRowsAndDirac) {
  seed(4);
  const Array q = I::Orthogonal(2)(Shape{3, 5}, DType::kFloat32);
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      double dot = 0;
      for (int k = 0; k < 5; ++k) dot += q.as<float>()[i * 5 + k] * q.as<float>()[j * 5 + k];
      EXPECT_NEAR(dot, i == j ? 4 : 0, 1e-5);
    }
  const Array d = I::Dirac()(Shape{3, 2, 3}, DType::kFloat32);
  const float want[] = {0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
  EXPECT_EQ(std::memcmp(d.data(), want, sizeof want), 0);
}

TEST(Initializer, TheGlobalOneTakesTheLayersPlace) {
  I::set_global_initializer(I::Constant(3), I::Constant(4));
  const nn::Linear layer(2, 2);
  const nn::Linear own(2, 2, {.weight_attr = {.initializer = I::Constant(1)}});
  I::set_global_initializer({});
  EXPECT_EQ(layer.weight.numpy().as<float>()[0], 3);
  EXPECT_EQ(layer.bias.numpy().as<float>()[0], 4);
  EXPECT_EQ(own.weight.numpy().as<float>()[0], 1);
  EXPECT_EQ(nn::Linear(2, 2).bias.numpy().as<float>()[0], 0);
}

TEST(Initializer, BadArgumentsAreErrors) {
  EXPECT_THROW((void)I::TruncatedNormal(0, 1, 5, 6), Error);
  EXPECT_THROW((void)I::calculate_gain("cube"), Error);
  EXPECT_THROW((void)I::Orthogonal()(Shape{3}, DType::kFloat32), Error);
}

}  // namespace
}  // namespace trireme
