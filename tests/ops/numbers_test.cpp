// Normalisations, softmax, pools and reductions against plain double loops, in sizes that reach
// every vector tail and every way of cutting the work.
#include <cmath>

#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/op_test.h"
#include "ops/pool.h"
#include "ops/reduce.h"

namespace trireme::test {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64};

std::string name(std::string_view op, const Shape& shape, DType dtype) {
  return std::string(op) + shape.str() + ' ' + std::string(name_of(dtype));
}

TEST(Softmax, RowsOfEveryLength) {
  for (const int64_t n : {1, 2, 15, 16, 17, 31, 40, 64, 100, 512, 6625}) {
    const Shape shape{7, n};
    for (const DType dtype : kDTypes) {
      const Array x = ramp(shape, 3, dtype);
      const std::vector<double> values = doubles_of(x);
      std::vector<double> want(values.size()), log_want(values.size());
      for (size_t r = 0; r < 7; ++r) {
        double sum = 0;
        const size_t first = r * static_cast<size_t>(n), end = first + static_cast<size_t>(n);
        for (size_t i = first; i < end; ++i) sum += std::exp(values[i]);
        for (size_t i = first; i < end; ++i)
          want[i] = std::exp(values[i]) / sum, log_want[i] = values[i] - std::log(sum);
      }
      const auto record = [](const auto& v) {
        return std::vector{ops::softmax(v[0], -1), ops::log_softmax(v[0], 1)};
      };
      const auto y = run_ops(record, {x});
      const double t = tolerance_of(dtype);
      expect_near(y[0], want, dtype == DType::kFloat16 ? 1e-7 : 0, 2 * t,
                  name("softmax", shape, dtype));
      expect_near(y[1], log_want, t, t, name("log_softmax", shape, dtype));
    }
  }
}

TEST(Softmax, LargeValuesAndMasks) {
  const float huge = std::numeric_limits<float>::infinity();
  const std::vector<float> values{1e4f, 1e4f, -1e30f, -huge, 0, -huge, -huge, 2};
  const Array x = Array::from(Shape{2, 4}, std::span<const float>(values), DType::kFloat32);
  const auto y = run_ops([](const auto& v) { return std::vector{ops::softmax(v[0], 1)}; }, {x});
  const double e = std::exp(-2.0);
  expect_near(y[0], {0.5, 0.5, 0, 0, e / (1 + e), 0, 0, 1 / (1 + e)}, 1e-7, 1e-6, "softmax");
}

TEST(LayerNorm, RowsOfEveryLength) {
  for (const int64_t n : {1, 16, 33, 120, 768, 1000}) {
    const Shape shape{3, 2, n};
    for (const DType dtype : kDTypes) {
      const Array x = ramp(shape, 3, dtype), scale = ramp({n}, 5), bias = ramp({n}, 6, dtype);
      const auto v = doubles_of(x), s = doubles_of(scale), b = doubles_of(bias);
      std::vector<double> want(v.size());
      const auto size = static_cast<size_t>(n);
      for (size_t first = 0; first < v.size(); first += size) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < size; ++i) mean += v[first + i] / static_cast<double>(n);
        for (size_t i = 0; i < size; ++i)
          variance += std::pow(v[first + i] - mean, 2) / static_cast<double>(n);
        for (size_t i = 0; i < size; ++i)
          want[first + i] = (v[first + i] - mean) / std::sqrt(variance + 1e-5) * s[i] + b[i];
      }
      for (const bool constants : {false, true}) {
        const auto record = [](const auto& in) {
          return std::vector{ops::layer_norm(in[0], in[1], in[2], 2, 1e-5)};
        };
        const double t = 2 * tolerance_of(dtype);
        expect_near(run_ops(record, {x, scale, bias}, {Layout::kPlain, constants})[0], want, t, t,
                    name("layer_norm", shape, dtype));
      }
    }
  }
}

// Groups over pictures: the statistics of each must survive any number of pixels.
TEST(GroupNorm, BothLayoutsAgreeWithDoubles) {
  for (const auto& [shape, groups] : {std::pair{Shape{2, 6, 33, 31}, 3},
                                      {Shape{1, 64, 20, 5}, 32},
                                      {Shape{1, 90, 9, 7}, 2},
                                      {Shape{2, 5, 40}, 5}}) {
    const int64_t per_group = shape.numel() / shape[0] / groups,
                  pixels = shape.numel() / shape[0] / shape[1];
    for (const DType dtype : kDTypes) {
      const Array x = ramp(shape, 3, dtype), scale = ramp({shape[1]}, 5),
                  bias = ramp({shape[1]}, 6);
      const auto v = doubles_of(x), s = doubles_of(scale), b = doubles_of(bias);
      std::vector<double> want(v.size());
      for (int64_t first = 0; first < shape.numel(); first += per_group) {
        double mean = 0, variance = 0;
        for (int64_t i = first; i < first + per_group; ++i)
          mean += v[size_t(i)] / static_cast<double>(per_group);
        for (int64_t i = first; i < first + per_group; ++i)
          variance += std::pow(v[size_t(i)] - mean, 2) / static_cast<double>(per_group);
        for (int64_t i = first; i < first + per_group; ++i) {
          const auto c = static_cast<size_t>(i / pixels % shape[1]);
          want[size_t(i)] = (v[size_t(i)] - mean) / std::sqrt(variance + 1e-5) * s[c] + b[c];
        }
      }
      for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
        const auto record = [&](const auto& in) {
          return std::vector{ops::group_norm(in[0], in[1], in[2], groups, 1e-5)};
        };
        const double t = 4 * tolerance_of(dtype);
        expect_near(run_ops(record, {x, scale, bias}, {layout})[0], want, t, t,
                    name("group_norm", shape, dtype));
      }
    }
  }
}

// Sums of every set of dimensions of one shape.
std::vector<double> reference_sum(const Array& x, unsigned axes) {
  const Shape& shape = x.shape();
  const auto values = doubles_of(x);
  int64_t kept = 1;
  for (int d = 0; d < shape.rank(); ++d) kept *= axes >> d & 1u ? 1 : shape[d];
  std::vector<double> sums(static_cast<size_t>(kept), 0);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    int64_t rest = i, at = 0, step = 1;
    for (int d = shape.rank() - 1; d >= 0; --d) {
      const int64_t index = rest % shape[d];
      rest /= shape[d];
      if (axes >> d & 1u) continue;
      at += index * step;
      step *= shape[d];
    }
    sums[static_cast<size_t>(at)] += values[static_cast<size_t>(i)];
  }
  return sums;
}

TEST(Reduce, EverySetOfAxesInBothLayouts) {
  for (const Shape& shape :
       {Shape{2, 5, 3, 7}, Shape{1, 70, 9, 20}, Shape{3, 1, 40, 41}, Shape{2, 1100, 2, 16}}) {
    for (unsigned axes = 1; axes < 16; ++axes) {
      std::vector<int64_t> axis;
      int64_t n = 1;
      for (int d = 0; d < 4; ++d)
        if (axes >> d & 1u) axis.push_back(d), n *= shape[d];
      for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
        const Array x = ramp(shape, 1, dtype);
        std::vector<double> want = reference_sum(x, axes);
        for (double& w : want) w /= static_cast<double>(n);
        for (const bool keepdim : {false, true}) {
          for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
            const auto record = [&](const auto& v) {
              return std::vector{ops::reduce(ops::mean_op, v[0], axis, keepdim)};
            };
            expect_near(run_ops(record, {x}, {layout})[0], want, 1e-6, tolerance_of(dtype),
                        name("mean", shape, dtype) + " axes " + std::to_string(axes));
          }
        }
      }
    }
  }
}

TEST(Reduce, LongSumsKeepTheirDigits) {
  Array x(DType::kFloat32, Shape{1, 3, 1000, 1000});
  for (int64_t i = 0; i < x.numel(); ++i) x.as<float>()[i] = 0.1f;
  for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
    const auto record = [](const auto& v) {
      return std::vector{ops::reduce(ops::sum_op, v[0], {2, 3}, true)};
    };
    expect_near(run_ops(record, {x}, {layout})[0], std::vector<double>(3, 1e6 * double{0.1f}), 0,
                1e-5, "sum");
  }
}

TEST(Reduce, NaNStaysAndIntegersAreExact) {
  const std::vector<float> values{1, NAN, 3, 2};
  const Array x = Array::from(Shape{4}, std::span<const float>(values), DType::kFloat32);
  const auto both = [](const auto& v) {
    return std::vector{ops::reduce(ops::max_op, v[0], {}, false),
                       ops::reduce(ops::min_op, v[0], {}, false)};
  };
  for (const Array& y : run_ops(both, {x})) EXPECT_TRUE(std::isnan(y.as<float>()[0]));
  const std::vector<int64_t> large{(int64_t{1} << 53) + 1, 1, -5};
  const auto sum =
      run_ops([](const auto& v) { return std::vector{ops::reduce(ops::sum_op, v[0], {0}, false)}; },
              {Array::from(Shape{3}, std::span<const int64_t>(large), DType::kInt64)});
  EXPECT_EQ(sum[0].as<int64_t>()[0], (int64_t{1} << 53) - 3);
}

TEST(Pool, GlobalAndWindowsOfManyChannels) {
  for (const int64_t channels : {1, 8, 16, 24, 67, 512}) {
    const Shape shape{2, channels, 13, 11};
    for (const DType dtype : kDTypes) {
      const Array x = ramp(shape, 2, dtype);
      std::vector<double> mean = reference_sum(x, 0b1100);
      for (double& m : mean) m /= 13 * 11;
      const Pool2dAttrs global{.pooling_type = "avg", .kernel = {1, 1}, .adaptive = true};
      const Pool2dAttrs window{
          .pooling_type = "max", .kernel = {3, 3}, .strides = {2, 2}, .paddings = {1, 1, 1, 1}};
      const auto average = [&](const auto& v) { return std::vector{ops::pool2d(v[0], global)}; };
      const auto maximum = [&](const auto& v) { return std::vector{ops::pool2d(v[0], window)}; };
      const auto plain = doubles_of(run_ops(maximum, {x})[0]);
      for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast})
        expect_near(run_ops(average, {x}, {layout})[0], mean, 1e-6, tolerance_of(dtype),
                    name("avg", shape, dtype));
      expect_near(run_ops(maximum, {x}, {Layout::kChannelsLast})[0], plain, 0, 0,
                  name("max", shape, dtype));
    }
  }
}

// bfloat16 is compared as integers.
TEST(Pool, TheLargestOfBothSignsAndInfinities) {
  const float inf = INFINITY;
  const std::vector<float> pixels{-inf, -inf, -2, -1, -0.f, 0.5f, inf, -3};
  const Shape shape{1, 40, 1, 8};
  std::vector<float> values;
  for (int64_t c = 0; c < shape[1]; ++c) values.insert(values.end(), pixels.begin(), pixels.end());
  const Array x = Array::from<float>(shape, values, DType::kFloat32).to(DType::kBFloat16);
  const auto largest = [](const auto& v) {
    return std::vector{
        ops::pool2d(v[0], {.pooling_type = "max", .kernel = {1, 2}, .strides = {1, 2}})};
  };
  std::vector<double> want;
  for (int64_t c = 0; c < shape[1]; ++c)
    for (const double v : {-INFINITY, -1.0f, 0.5f, INFINITY}) want.push_back(v);
  expect_near(run_ops(largest, {x}, {Layout::kChannelsLast})[0], want, 0, 0, "bfloat16");
}

TEST(Norms, ErrorsTellWhatWasExpected) {
  Graph graph;
  const BuilderScope scope(graph);
  Value* x = graph.add_input({DType::kFloat32, {2, 12, 4, 4}});
  Value* ints = graph.add_input({DType::kInt32, {2, 12}});
  Value* v = graph.add_input({DType::kFloat32, {16}});
  const std::pair<std::function<void()>, const char*> cases[] = {
      {[&] { ops::batch_norm(x, v, v, v, v, 1e-5); }, "[batch_norm] scale expects [12], got [16]"},
      {[&] { ops::layer_norm(x, v, v, 3, 1e-5); },
       "[layer_norm] scale expects 4 elements, got [16]"},
      {[&] { ops::group_norm(x, nullptr, nullptr, 5, 1e-5); },
       "[group_norm] groups expects a divisor of the 12 channels, got 5"},
      {[&] { ops::softmax(ints, 0); }, "[softmax] x expects a floating dtype, got int32"},
      {[&] { ops::softmax(x, 4); }, "[softmax] axis expects a value in [-4, 4), got 4"},
      {[&] { ops::reduce(ops::mean_op, ints, {0}, false); },
       "[mean] x expects a floating dtype, got int32"}};
  for (const auto& [f, text] : cases) EXPECT_EQ(error_of(f), text);
}

// Such weights took a hundred times as long; 1e-40 as much as vanishes beside 1.
TEST(Matmul, WeightsBelowTheSmallestNormalNumberCountAsZero) {
  const Array x = Array::from<float>({1, 1, 2}, std::vector<float>{1e35f, 1}, DType::kFloat32);
  const Array w =
      Array::from<float>({2, 2}, std::vector<float>{1e-40f, 0.5f, 1, -1e-40f}, DType::kFloat32);
  const auto y =
      run_ops([](const auto& v) { return std::vector{ops::matmul(v[0], v[1], nullptr)}; }, {x, w},
              {.constants = true});
  expect_near(y[0], {1, 5e34}, 0, 1e-6, "matmul");
  EXPECT_EQ(w.as<float>()[0], 1e-40f);  // the caller's stay
}

}  // namespace
}  // namespace trireme::test
