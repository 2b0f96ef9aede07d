// Operators that move elements, against the obvious loops, in sizes that reach every blocked and
// vector path.
#include "base/parallel.h"
#include "ops/index.h"
#include "ops/op_test.h"
#include "ops/pool.h"
#include "ops/shape.h"

namespace trireme::test {
namespace {

constexpr DType kSizes[] = {DType::kUInt8, DType::kBFloat16, DType::kFloat32, DType::kInt64};

// Different values as far as the dtype can tell them apart.
Array count_up(const Shape& shape, DType dtype) {
  Array t(DType::kInt64, shape);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.as<int64_t>()[i] = dtype == DType::kBFloat16 ? i % 251 : i;
  return t.to(dtype);
}

std::vector<int64_t> strides_of(const Shape& shape) {
  std::vector<int64_t> s(static_cast<size_t>(shape.rank()), 1);
  for (int d = shape.rank() - 1; d > 0; --d)
    s[static_cast<size_t>(d - 1)] = s[static_cast<size_t>(d)] * shape[d];
  return s;
}

// result[index] = x[from(index)] for every index of the shape.
std::vector<double> gathered(const Array& x, const Shape& shape,
                             const std::function<int64_t(const std::vector<int64_t>&)>& from) {
  const std::vector<double> values = doubles_of(x);
  std::vector<double> result;
  std::vector<int64_t> index(static_cast<size_t>(shape.rank()), 0);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    result.push_back(values[static_cast<size_t>(from(index))]);
    for (size_t d = index.size(); d-- > 0;) {
      if (++index[d] < shape[static_cast<int>(d)]) break;
      index[d] = 0;
    }
  }
  return result;
}

TEST(Transpose, EveryBlockAndTail) {
  const std::pair<Shape, std::vector<int64_t>> cases[] = {{{70, 133}, {1, 0}},
                                                          {{3, 200}, {1, 0}},
                                                          {{200, 3}, {1, 0}},
                                                          {{2, 9, 65}, {0, 2, 1}},
                                                          {{1, 7, 5, 64}, {0, 2, 1, 3}},
                                                          {{4, 33, 5, 18}, {0, 2, 3, 1}},
                                                          {{4, 5, 18, 33}, {0, 3, 1, 2}},
                                                          {{3, 4, 5, 6, 7}, {4, 2, 0, 3, 1}},
                                                          {{1, 1, 5}, {2, 1, 0}},
                                                          {{0, 3}, {1, 0}},
                                                          {{}, {}}};
  for (const auto& [shape, perm] : cases) {
    const std::vector<int64_t> strides = strides_of(shape);
    for (const DType dtype : kSizes) {
      const Array x = count_up(shape, dtype);
      const Array y =
          run_ops([&](const auto& v) { return std::vector{ops::transpose(v[0], perm)}; }, {x})[0];
      const auto want = gathered(x, y.shape(), [&](const std::vector<int64_t>& index) {
        int64_t at = 0;
        for (size_t d = 0; d < perm.size(); ++d)
          at += index[d] * strides[static_cast<size_t>(perm[d])];
        return at;
      });
      expect_near(y, want, 0, 0, shape.str());
    }
  }
}

TEST(Reorder, BothWays) {
  for (const Shape& shape :
       {Shape{2, 3, 40, 50}, Shape{1, 24, 33, 31}, Shape{2, 97, 8, 9}, Shape{1, 4, 7}}) {
    for (const DType dtype : kSizes) {
      const Array x = count_up(shape, dtype);
      const auto there_and_back = [](const std::vector<Value*>& v) {
        Value* last = ops::reorder(v[0], Layout::kChannelsLast);
        return std::vector{last, ops::reorder(last, Layout::kPlain)};
      };
      // The test's executor brings a channels-last result back to row-major by itself.
      for (const Array& y : run_ops(there_and_back, {x}))
        expect_near(y, doubles_of(x), 0, 0, shape.str());
    }
  }
}

TEST(Concat, ChannelsOfEveryWidth) {
  const std::vector<Array> xs{ramp({2, 1, 9, 30}, 1), ramp({2, 24, 9, 30}, 2), ramp({2, 0, 9, 30}),
                              ramp({2, 37, 9, 30}, 3), ramp({2, 130, 9, 30}, 4)};
  for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
    const Array y =
        run_ops([](const auto& v) { return std::vector{ops::concat(v, 1)}; }, xs, {layout})[0];
    ASSERT_EQ(y.shape(), (Shape{2, 192, 9, 30}));
    std::vector<double> want;
    for (int64_t n = 0; n < 2; ++n) {
      for (const Array& x : xs) {
        const auto values = doubles_of(x);
        const auto part = static_cast<int64_t>(values.size() / 2);
        want.insert(want.end(), values.begin() + n * part, values.begin() + (n + 1) * part);
      }
    }
    expect_near(y, want, 0, 0, "concat");
  }
}

TEST(Slice, ChannelsLastResultOfOneChannel) {
  const Array x = ramp({2, 5, 3, 4});
  for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
    const auto channel = [](const auto& v) { return std::vector{ops::slice(v[0], {1}, {2}, {3})}; };
    const Array y = run_ops(channel, {x}, {layout})[0];
    const auto want = gathered(
        x, y.shape(), [](const auto& i) { return ((i[0] * 5 + 2) * 3 + i[2]) * 4 + i[3]; });
    expect_near(y, want, 0, 0, "channel 2");
  }
}

TEST(Slice, NumPyBounds) {
  const Array x = count_up({6}, DType::kInt64);
  const std::tuple<int64_t, int64_t, int64_t, std::vector<double>> cases[] = {
      {-1, -7, -1, {5, 4, 3, 2, 1, 0}},
      {5, -1, -1, {}},
      {4, 0, -2, {4, 2}},
      {5, -8, -2, {5, 3, 1}},
      {10, -100, -1, {5, 4, 3, 2, 1, 0}},
      {2, 100, 3, {2, 5}},
      {7, 9, 1, {}},
      {-100, 2, 1, {0, 1}},
      {0, INT64_MAX, 1, {0, 1, 2, 3, 4, 5}},
      {INT64_MAX, INT64_MIN, -1, {5, 4, 3, 2, 1, 0}}};
  for (const auto& [start, end, stride, want] : cases) {
    const auto record = [&](const auto& v) {
      return std::vector{ops::slice(v[0], {0}, {start}, {end}, {stride})};
    };
    expect_near(run_ops(record, {x})[0], want, 0, 0,
                std::to_string(start) + ':' + std::to_string(end));
  }
}

TEST(Nearest, DoublesPixelsInBothLayouts) {
  const Array x = ramp({2, 24, 10, 11});
  for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
    for (const int64_t f : {2, 4}) {
      InterpAttrs a{{10 * f, 11 * f}, {static_cast<double>(f), static_cast<double>(f)}};
      const Array y =
          run_ops([&](const auto& v) { return std::vector{ops::nearest_interp(v[0], a)}; }, {x},
                  {layout})[0];
      const auto want = gathered(x, y.shape(), [&](const auto& i) {
        return ((i[0] * 24 + i[1]) * 10 + i[2] / f) * 11 + i[3] / f;
      });
      expect_near(y, want, 0, 0, "nearest");
    }
  }
}

TEST(Embedding, RefusesIdsOutsideTheTable) {
  const Array table = ramp({5, 300});
  const auto record = [](const auto& v) { return std::vector{ops::embedding(v[0], v[1])}; };
  const std::vector<int64_t> bad{0, 5}, negative{-1, 0};
  for (const auto& ids : {bad, negative}) {
    const Array t = Array::from(Shape{2}, std::span<const int64_t>(ids), DType::kInt64);
    EXPECT_NE(error_of([&] {
                run_ops(record, {table, t});
              }).find("[embedding] id"),
              std::string::npos);
  }
}

TEST(Topk, EqualElementsStayInOrder) {
  const std::vector<int64_t> values{3, 9, 3, 9, 9, 1, 3};
  const Array x =
      Array::from(Shape{7}, std::span<const int64_t>(values), DType::kInt64).to(DType::kFloat32);
  const auto y = run_ops([](const auto& v) { return ops::topk(v[0], 5, 0, true, true); }, {x});
  expect_near(y[0], {9, 9, 9, 3, 3}, 0, 0, "values");
  expect_near(y[1], {1, 3, 4, 0, 2}, 0, 0, "indices");
}

TEST(Creation, Constants) {
  const auto record = [](const std::vector<Value*>& v) {
    return std::vector{ops::full({2, 2}, 1.5, DType::kFloat32), ops::full({5000}, 7, DType::kInt64),
                       ops::arange(1, 2, 0.25, DType::kFloat32),
                       ops::arange(5, 0, -2, DType::kInt64), ops::shape_of(v[0], DType::kInt32)};
  };
  const auto y = run_ops(record, {ramp({3, 4})});
  expect_near(y[0], {1.5, 1.5, 1.5, 1.5}, 0, 0, "full");
  expect_near(y[1], std::vector<double>(5000, 7), 0, 0, "large full");
  expect_near(y[2], {1, 1.25, 1.5, 1.75}, 0, 0, "arange");
  expect_near(y[3], {5, 3, 1}, 0, 0, "arange down");
  expect_near(y[4], {3, 4}, 0, 0, "shape");
}

// What each refuses, and how it says so.
TEST(Moves, ErrorsTellWhatWasExpected) {
  Graph graph;
  const BuilderScope scope(graph);
  Value* x = graph.add_input({DType::kFloat32, {2, 12, 4, 4}});
  Value* y = graph.add_input({DType::kFloat32, {2, 16, 5, 4}});
  Value* i = graph.add_input({DType::kInt64, {2}});
  const std::pair<std::function<void()>, const char*> cases[] = {
      {[&] {
         ops::concat({x, y}, 1);
       },
       "[concat] input 1 has 5 elements along axis 2, expected 4"},
      {[&] {
         ops::concat({x, i}, 1);
       },
       "[concat] input 1 is int64, expected float32"},
      {[&] {
         ops::reshape(x, {7, -1});
       },
       "[reshape] x of shape [2, 12, 4, 4] does not divide into rows of 7 elements"},
      {[&] {
         ops::reshape(x, {5, 5});
       },
       "[reshape] x of shape [2, 12, 4, 4] cannot be reshaped to [5, 5]"},
      {[&] {
         ops::transpose(x, {0, 1, 1, 3});
       },
       "[transpose] perm expects every axis of [2, 12, 4, 4] once, got 1 at 2"},
      {[&] { ops::slice(x, {4}, {0}, {1}); }, "[slice] axis expects a value in [-4, 4), got 4"},
      {[&] { ops::slice(x, {0}, {0}, {1}, {0}); },
       "[slice] strides expects values other than 0, got 0 for axis 0"},
      {[&] {
         ops::split(x, {5, 5}, 1);
       },
       "[split] sections expects sizes that add up to 12 of axis 1, got 10"},
      {[&] {
         ops::expand(x, {2, 13, 4, 4});
       },
       "[expand] x of shape [2, 12, 4, 4] cannot be expanded to [2, 13, 4, 4]"},
      {[&] {
         ops::pad(x, {0, 0, 0, 0, 4, 0, 0, 0}, "reflect", 0);
       },
       "[pad] paddings of axis 2 expects at most 3 in mode reflect, got 4 and 0"},
      {[&] { ops::gather(x, x, 0); }, "[gather] indices expect int32 or int64, got float32"},
      {[&] { ops::topk(x, 13, 1, true, true); }, "[topk] k expects 1 to 12, got 13"},
      {[&] {
         ops::pool2d(x, {.pooling_type = "max", .kernel = {5, 5}});
       },
       "[pool2d] a window of 5 does not fit 4 pixels padded by 0 and 0"}};
  for (const auto& [f, text] : cases) EXPECT_EQ(error_of(f), text);
}

}  // namespace
}  // namespace trireme::test
