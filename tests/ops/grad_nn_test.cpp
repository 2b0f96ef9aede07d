// Gradients of convolutions, pools, norms, softmax, resizing, recurrent layers and losses that a
// library or a kernel of their own serves.
#include "ops/conv.h"

#include "ops/grad_test.h"
#include "ops/norm.h"
#include "ops/pool.h"

namespace trireme::test {
namespace {

using Values = std::vector<Value*>;

Value* at(const Values& x, size_t i) { return i < x.size() ? x[i] : nullptr; }

Record conv(const Conv2dAttrs& a) {
  return [a](const Values& x) { return Values{ops::conv2d(x[0], x[1], at(x, 2), a)}; };
}
Record conv_transpose(const Conv2dAttrs& a) {
  return [a](const Values& x) { return Values{ops::conv2d_transpose(x[0], x[1], at(x, 2), a)}; };
}

const SampleList convolutions([] {
  return std::vector<Sample>{
      {"plain", conv({}), {noise({2, 3, 5, 4}), noise({4, 3, 3, 3}, 2), noise({4}, 3)}},
      {"one pixel wide", conv({}), {noise({2, 5, 3, 4}), noise({6, 5, 1, 1}, 2)}},
      {"padded", conv({.paddings = {1, 0, 2, 1}}), {noise({1, 2, 4, 5}), noise({3, 2, 3, 3}, 2)}},
      {"strided",
       conv({.strides = {2, 2}, .paddings = {1, 1, 1, 1}}),
       {noise({2, 2, 6, 7}), noise({3, 2, 3, 3}, 2), noise({3}, 3)}},
      {"strided 1x1", conv({.strides = {2, 2}}), {noise({1, 3, 5, 4}), noise({4, 3, 1, 1}, 2)}},
      {"two strides",
       conv({.strides = {2, 1}, .paddings = {2, 2, 2, 2}}),
       {noise({1, 2, 6, 5}), noise({2, 2, 5, 5}, 2)}},
      {"dilated",
       conv({.paddings = {2, 2, 2, 2}, .dilations = {2, 2}}),
       {noise({1, 2, 5, 6}), noise({2, 2, 3, 3}, 2)}},
      {"dilated and strided",
       conv({.strides = {2, 3}, .paddings = {1, 2, 2, 1}, .dilations = {3, 2}}),
       {noise({1, 2, 8, 9}), noise({2, 2, 3, 3}, 2)}},
      {"groups",
       conv({.paddings = {1, 1, 1, 1}, .groups = 2}),
       {noise({1, 4, 4, 3}), noise({6, 2, 3, 3}, 2)}},
      {"depthwise",
       conv({.paddings = {1, 1, 1, 1}, .groups = 3}),
       {noise({2, 3, 4, 5}), noise({3, 1, 3, 3}, 2), noise({3}, 3)}},
      {"depthwise strided",
       conv({.strides = {2, 1}, .paddings = {2, 2, 2, 2}, .groups = 2}),
       {noise({1, 2, 5, 6}), noise({2, 1, 5, 5}, 2)}},
      {"one channel",
       conv({.paddings = {1, 1, 1, 1}}),
       {noise({2, 1, 5, 5}), noise({2, 1, 3, 3}, 2)}},
      {"rest of the stride",
       conv({.strides = {3, 3}}),
       {noise({1, 1, 6, 7}), noise({2, 1, 2, 2}, 2)}},
      {"transposed",
       conv_transpose({}),
       {noise({1, 3, 3, 2}), noise({3, 2, 3, 3}, 2), noise({2}, 3)}},
      {"transposed kernel is stride",
       conv_transpose({.strides = {2, 2}}),
       {noise({2, 2, 3, 2}), noise({2, 3, 2, 2}, 2)}},
      {"transposed strided",
       conv_transpose({.strides = {2, 2}, .paddings = {1, 0, 1, 1}, .output_padding = {1, 0}}),
       {noise({1, 2, 3, 4}), noise({2, 2, 3, 3}, 2)}},
      {"transposed groups",
       conv_transpose({.strides = {2, 1}, .paddings = {1, 1, 1, 1}, .groups = 2}),
       {noise({1, 4, 3, 3}), noise({4, 2, 3, 3}, 2)}},
      {"of the weight",
       [](const Values& x) {
         return Values{ops::conv2d_wgrad(x[0], x[1], {.strides = {2, 1}, .kernel = {2, 3}})};
       },
       {noise({2, 2, 4, 5}), noise({2, 3, 2, 3}, 2)}},
  };
});

TEST(Gradient, Convolutions) { convolutions.check(); }

const SampleList batch_norms([] {
  const Record train = [](const Values& x) {
    return Values{ops::batch_norm_train(x[0], x[1], x[2], x[3], x[4], 0.9, 1e-5)[2]};
  };
  const Record given = [](const Values& x) {
    return Values{ops::batch_norm(x[0], x[1], x[2], x[3], x[4], 1e-3)};
  };
  const GradOptions options{.second = false, .fixed = {0, 1}};
  const auto inputs = [](const Shape& x) {
    const Shape c{x[1]};
    return std::vector<Array>{noise(c, 1), noise(c, 2, 0.5, 2), noise(x, 3), noise(c, 4),
                              noise(c, 5)};
  };
  const auto given_inputs = [](const Shape& x) {
    const Shape c{x[1]};
    return std::vector<Array>{noise(x, 3), noise(c, 4), noise(c, 5), noise(c, 1),
                              noise(c, 2, 0.5, 2)};
  };
  return std::vector<Sample>{
      {"pictures", train, inputs({2, 3, 3, 4}), options},
      {"many channels", train, inputs({2, 19, 2, 1}), options},
      {"rows", train, inputs({5, 4}), options},
      {"signals", train, inputs({3, 2, 5}), options},
      {"given statistics", given, given_inputs({2, 3, 2, 2}), {.second = false}},
      {"given statistics of rows", given, given_inputs({3, 4}), {.second = false}},
  };
});

TEST(Gradient, BatchNorm) { batch_norms.check(); }

const SampleList rows([] {
  const auto layer = [](int64_t axis) -> Record {
    return [axis](const Values& x) {
      return Values{ops::layer_norm(x[0], at(x, 1), at(x, 2), axis, 1e-4)};
    };
  };
  const auto soft = [](bool log, int64_t axis) -> Record {
    return [log, axis](const Values& x) {
      return Values{log ? ops::log_softmax(x[0], axis) : ops::softmax(x[0], axis)};
    };
  };
  const GradOptions no_second{.second = false};
  return std::vector<Sample>{
      {"layer_norm", layer(1), {noise({5, 21}), noise({21}, 2), noise({21}, 3)}, no_second},
      {"layer_norm of two dimensions",
       layer(1),
       {noise({2, 3, 4}), noise({3, 4}, 2), noise({12}, 3)},
       no_second},
      {"layer_norm, no scale", layer(2), {noise({2, 2, 5}), {}, noise({5}, 3)}, no_second},
      {"layer_norm alone", layer(0), {noise({7})}, no_second},
      {"softmax", soft(false, -1), {noise({3, 19})}},
      {"softmax, middle", soft(false, 1), {noise({2, 4, 3})}},
      {"log_softmax", soft(true, -1), {noise({3, 18})}},
      {"log_softmax, first", soft(true, 0), {noise({4, 3})}},
  };
});

TEST(Gradient, Rows) { rows.check(); }

Record pool(const Pool2dAttrs& a) {
  return [a](const Values& x) { return Values{ops::pool2d(x[0], a)}; };
}

const SampleList pools([] {
  const GradOptions no_second{.second = false};
  const Array x = noise({2, 3, 7, 6});
  return std::vector<Sample>{
      {"max", pool({.kernel = {2, 2}, .strides = {2, 2}}), {x}, no_second},
      {"overlapping max",
       pool({.kernel = {3, 3}, .strides = {2, 2}, .paddings = {1, 1, 1, 1}}),
       {x},
       no_second},
      {"max, ceil mode",
       pool({.kernel = {2, 3}, .strides = {2, 2}, .ceil_mode = true}),
       {x},
       no_second},
      {"adaptive max", pool({.kernel = {3, 2}, .adaptive = true}), {x}, no_second},
      {"global max", pool({.kernel = {1, 1}, .adaptive = true}), {x}, no_second},
      {"average", pool({.pooling_type = "avg", .kernel = {2, 2}, .strides = {2, 2}}), {x}},
      {"average, padding left out",
       pool({.pooling_type = "avg", .kernel = {3, 2}, .strides = {2, 1}, .paddings = {1, 1, 1, 0}}),
       {x}},
      {"average, padding counted",
       pool({.pooling_type = "avg",
             .kernel = {3, 3},
             .strides = {2, 2},
             .paddings = {1, 1, 1, 1},
             .ceil_mode = true,
             .exclusive = false}),
       {x}},
      {"adaptive average", pool({.pooling_type = "avg", .kernel = {3, 4}, .adaptive = true}), {x}},
      {"global average", pool({.pooling_type = "avg", .kernel = {1, 1}, .adaptive = true}), {x}},
      {"max with index",
       [](const Values& v) {
         return Values{ops::max_pool2d_with_index(v[0], {.kernel = {3, 3}, .strides = {2, 2}})[0]};
       },
       {noise({1, 19, 5, 5})},
       no_second},
  };
});

TEST(Gradient, Pools) { pools.check(); }

TEST(Gradient, TheFirstOfEqualMaximaGetsIt) {
  Array x(DType::kFloat64, {1, 1, 2, 2});
  std::fill_n(x.as<double>(), 4, 1.0);
  expect_near(gradients_of(pool({.kernel = {2, 2}}), {x})[0], {1, 0, 0, 0}, 0, 0, "ties");
}

TEST(MaxPool2dWithIndex, PlacesCountInThePlane) {
  const std::vector<float> values{1, 5, 2, 0, 3, 4, 9, 8, 7, 6, 5, 4};
  const Array x = Array::from({1, 1, 3, 4}, std::span<const float>(values), DType::kFloat32);
  const std::vector<Array> r = run_ops(
      [](const Values& v) {
        return ops::max_pool2d_with_index(v[0], {.kernel = {2, 2}, .paddings = {1, 0, 0, 0}});
      },
      {x});
  expect_near(r[0], {5, 5, 2, 5, 9, 9, 7, 9, 9}, 0, 0, "maxima");
  expect_near(r[1], {1, 1, 2, 1, 6, 6, 8, 6, 6}, 0, 0, "places");
}

// Values of real Paddle 3.3.1: BatchNorm1D in training, momentum 0.9.
TEST(BatchNormTrain, StatisticsAreMovedAsPaddleDoes) {
  const auto array = [](const Shape& s, std::vector<float> v) {
    return Array::from(s, std::span<const float>(v), DType::kFloat32);
  };
  const std::vector<Array> r = run_ops(
      [](const Values& x) {
        return ops::batch_norm_train(x[0], x[1], x[2], x[3], x[4], 0.9, 1e-5);
      },
      {array({2}, {0, 0}), array({2}, {1, 1}), array({3, 2}, {1, 2, 3, 5, 4, 4}),
       array({2}, {1, 1}), array({2}, {0, 0})});
  expect_near(r[0], {0.26666674, 0.36666676}, 1e-6, 0, "mean");
  expect_near(r[1], {1.0555556, 1.0555556}, 1e-6, 0, "variance");
}

// Sizes that reach the vector kernels' blocks, float32 beside float64.
TEST(Gradient, LargeConvolutions) {
  const auto check = [](const Conv2dAttrs& a, const Shape& x, const Shape& w) {
    SCOPED_TRACE(x.str() + w.str());
    const auto run = [&](DType dtype, bool spread) {
      return run_ops(
          [&](const Values& v) {
            Conv2dAttrs by_weight = a;
            by_weight.kernel = {w[2], w[3]};
            Value* y = ops::conv2d(v[0], v[1], nullptr, a);
            return Values{ops::conv2d_dgrad(y, v[1], v[0], a),
                          ops::conv2d_wgrad(v[0], y, by_weight)};
          },
          {noise(x).to(dtype), noise(w, 2, -0.1, 0.1).to(dtype)},
          {.layout = spread ? Layout::kChannelsLast : Layout::kPlain, .spread = spread});
    };
    const std::vector<Array> want = run(DType::kFloat64, false), got = run(DType::kFloat32, true);
    for (size_t k = 0; k < want.size(); ++k) {
      double largest = 0;
      for (const double v : doubles_of(want[k])) largest = std::max(largest, std::abs(v));
      expect_near(got[k], doubles_of(want[k]), 1e-5 * largest, 1e-5, "result");
    }
  };
  check({.paddings = {1, 1, 1, 1}}, {2, 40, 14, 13}, {50, 40, 3, 3});
  check({.strides = {2, 2}, .paddings = {1, 1, 1, 1}}, {2, 32, 15, 14}, {70, 32, 3, 3});
  check({.strides = {2, 2}, .paddings = {3, 3, 3, 3}}, {2, 3, 40, 44}, {24, 3, 7, 7});
  check({}, {3, 70, 20, 21}, {33, 70, 1, 1});
  check({.paddings = {1, 1, 1, 1}}, {9, 64, 7, 7}, {64, 64, 3, 3});
  check({.paddings = {2, 2, 2, 2}, .groups = 40}, {2, 40, 9, 30}, {40, 1, 5, 5});
  check({.strides = {2, 1}, .paddings = {4, 4, 4, 4}, .groups = 20}, {2, 20, 12, 20},
        {20, 1, 9, 9});
  check({.paddings = {1, 1, 1, 1}, .groups = 4}, {2, 48, 12, 12}, {64, 12, 3, 3});
}

}  // namespace
}  // namespace trireme::test
