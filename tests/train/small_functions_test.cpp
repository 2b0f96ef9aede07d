// nn.utils, metrics of two classes, chained streams, amp's questions, Bilinear.
#include <gtest/gtest.h>

#include <cmath>

#include "trireme/amp.h"
#include "trireme/io.h"
#include "trireme/metric.h"
#include "trireme/nn_initializer.h"
#include "trireme/nn_utils.h"

namespace trireme {
namespace {

Tensor parameter(const std::vector<float>& values) {
  Tensor t = to_tensor(values);
  t.set_stop_gradient(false);
  return t;
}

TEST(Utils, ClipGradNorm) {
  const Tensor a = parameter({1, 2}), b = parameter({3}), unused = parameter({5});
  (sum(a * to_tensor(std::vector<float>{3, 0})) + sum(b * 4.0)).backward();
  const Tensor norm = nn::utils::clip_grad_norm_({a, b, unused}, 1);
  EXPECT_NEAR(norm.item(), 5, 1e-5);
  EXPECT_NEAR(a.grad().numpy().as<float>()[0], 0.6, 1e-5);
  EXPECT_NEAR(b.grad().item(), 0.8, 1e-5);
  (void)nn::utils::clip_grad_norm_({a, b}, 10);  // within: nothing changes
  EXPECT_NEAR(b.grad().item(), 0.8, 1e-5);
  nn::utils::clip_grad_value_({a, b}, 0.7);
  EXPECT_NEAR(a.grad().numpy().as<float>()[0], 0.6, 1e-5);
  EXPECT_NEAR(b.grad().item(), 0.7, 1e-5);
  Tensor(b).set_grad(to_tensor(std::vector<float>{INFINITY}));
  EXPECT_THROW((void)nn::utils::clip_grad_norm_({b}, 1, 2, true), Error);
}

TEST(Utils, ParametersAsAVector) {
  const Tensor a = parameter({1, 2}), b = parameter({3});
  const Tensor v = nn::utils::parameters_to_vector({a, b});
  EXPECT_EQ(v.shape(), Shape{3});
  nn::utils::vector_to_parameters(v * 2.0, {a, b});
  EXPECT_EQ(a.numpy().as<float>()[1], 4);
  EXPECT_EQ(b.item(), 6);
  EXPECT_THROW(nn::utils::vector_to_parameters(v, {a}), Error);
}

TEST(Metrics, PrecisionAndRecallAreAsPaddles) {
  const std::vector<float> said = {.1F, .5F, .6F, .7F, .2F};
  const std::vector<int64_t> is = {0, 1, 1, 0, 1};
  const Array p = Array::from<float>({5}, said, DType::kFloat32);
  const Array y = Array::from<int64_t>({5}, is, DType::kInt64);
  metric::Precision precision;
  metric::Recall recall;
  EXPECT_EQ(precision.accumulate()[0].second, 0);
  precision.update(p, y);
  recall.update(p, y);
  EXPECT_NEAR(precision.accumulate()[0].second, 2.0 / 3, 1e-12);
  EXPECT_NEAR(recall.accumulate()[0].second, 1.0 / 3, 1e-12);
  recall.reset();
  EXPECT_EQ(recall.accumulate()[0].second, 0);
  EXPECT_THROW(precision.update(p, Array::from<int64_t>({5}, std::vector<int64_t>{0, 1, 2, 0, 0},
                                                        DType::kInt64)),
               Error);
}

TEST(Metrics, AccuracyOfABatch) {
  const Array x =
      Array::from<float>({2, 3}, std::vector<float>{.1F, .6F, .3F, .5F, .2F, .3F}, DType::kFloat32);
  const Array y = Array::from<int64_t>({2, 1}, std::vector<int64_t>{1, 2}, DType::kInt64);
  EXPECT_EQ(metric::accuracy(x, y), 0.5);
  EXPECT_EQ(metric::accuracy(x, y, 2), 1);
}

struct Count : io::IterableDataset {
  int64_t from, to;
  Count(int64_t a, int64_t b) : from(a), to(b) {}
  struct Stream : io::SampleStream {
    int64_t at, end;
    Stream(int64_t a, int64_t b) : at(a), end(b) {}
    bool next(io::Sample& sample, RandomStream&) override {
      if (at == end) return false;
      sample = {Array::from<int64_t>({}, std::vector<int64_t>{at++}, DType::kInt64)};
      return true;
    }
  };
  std::unique_ptr<io::SampleStream> stream(int64_t) const override {
    return std::make_unique<Stream>(from, to);
  }
};

TEST(Streams, AChainIsOneAfterAnother) {
  const io::ChainDataset chain({std::make_shared<Count>(0, 2), std::make_shared<Count>(9, 9),
                                std::make_shared<Count>(5, 8)});
  const auto stream = chain.stream(0);
  RandomStream random(0);
  std::vector<int64_t> seen;
  for (io::Sample s; stream->next(s, random);) seen.push_back(*s[0].as<int64_t>());
  EXPECT_EQ(seen, (std::vector<int64_t>{0, 1, 5, 6, 7}));
}

TEST(AutoCast, SaysWhatIsOn) {
  EXPECT_FALSE(amp::is_autocast_enabled());
  const amp::auto_cast guard({.dtype = DType::kBFloat16});
  EXPECT_TRUE(amp::is_autocast_enabled());
  EXPECT_EQ(amp::get_autocast_dtype(), DType::kBFloat16);
  EXPECT_FALSE(amp::is_float16_supported("cpu"));
}

TEST(Initializer, BilinearMagnifies) {
  const Array a = nn::initializer::Bilinear()({1, 1, 4, 4}, DType::kFloat32);
  const float line[] = {0.25F, 0.75F, 0.75F, 0.25F};
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 4; ++x) EXPECT_NEAR(a.as<float>()[4 * y + x], line[y] * line[x], 1e-6);
  const Array b = nn::initializer::Bilinear()({1, 1, 3, 3}, DType::kFloat32);
  EXPECT_NEAR(b.as<float>()[4], 0.5625, 1e-6);
}

}  // namespace
}  // namespace trireme
