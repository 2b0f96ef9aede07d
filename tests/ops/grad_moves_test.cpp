// Gradients of operators that move elements: shapes, slices, borders, indices.
#include <cmath>

#include "base/parallel.h"
#include "ops/assign.h"
#include "ops/grad_test.h"
#include "ops/index.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme::test {
namespace {

using Values = std::vector<Value*>;
using namespace ops;

Sample of_one(const std::string& name, const Shape& shape, const std::function<Value*(Value*)>& f) {
  return {name, [f](const Values& x) { return Values{f(x[0])}; }, {noise(shape, 3)}};
}

// Squared, so that second derivatives are not all zero.
Sample squared(const std::string& name, const Shape& shape,
               const std::function<Value*(Value*)>& f) {
  return of_one(name, shape, [f](Value* x) { return square(f(x)); });
}

std::vector<Sample> shapes() {
  std::vector<Sample> list = {
      squared("reshape", {2, 3, 4},
              [](Value* x) {
                return reshape(x, {4, -1});
              }),
      squared("reshape to a number", {1, 1}, [](Value* x) { return reshape(x, {}); }),
      squared("transpose", {2, 3, 4},
              [](Value* x) {
                return transpose(x, {2, 0, 1});
              }),
      squared("transpose of a picture", {2, 3, 2, 2},
              [](Value* x) {
                return transpose(x, {0, 2, 3, 1});
              }),
      squared("slice", {4, 5},
              [](Value* x) {
                return slice(x, {0, 1}, {1, 0}, {3, 4});
              }),
      squared("slice of a picture", {2, 3, 4, 4},
              [](Value* x) {
                return slice(x, {1, 3}, {1, 1}, {3, 4});
              }),
      squared("slice by 2", {7, 3}, [](Value* x) { return slice(x, {0}, {1}, {7}, {2}); }),
      squared("slice by 3 short of the end", {2, 8},
              [](Value* x) { return slice(x, {1}, {0}, {8}, {3}); }),
      squared("slice backwards", {2, 7, 2},
              [](Value* x) {
                return slice(x, {1, 2}, {6, 0}, {0, 1}, {-2, 1});
              }),
      of_one("slice of nothing", {3, 2},
             [](Value* x) {
               return concat({slice(x, {0}, {1}, {1}), x}, 0);
             }),
      squared("flip", {2, 3, 2, 2},
              [](Value* x) {
                return flip(x, {1, 3});
              }),
      squared("expand", {3, 1},
              [](Value* x) {
                return expand(x, {2, 3, 4});
              }),
      squared("expand a number", {},
              [](Value* x) {
                return expand(x, {2, 3});
              }),
      squared("tile", {2, 3},
              [](Value* x) {
                return tile(x, {2, 2, 3});
              }),
      squared("pad", {2, 3},
              [](Value* x) {
                return pad(x, {1, 0, 2, 1}, "constant", 0.5);
              }),
      squared("pad of a picture", {2, 3, 3, 3},
              [](Value* x) {
                return pad(x, {0, 0, 0, 0, 1, 2, 0, 1}, "constant", 0);
              }),
      squared("pad that crops", {4, 5},
              [](Value* x) {
                return pad(x, {-1, 1, 0, -2}, "constant", 0);
              }),
      squared("pad, reflect", {2, 4, 5},
              [](Value* x) {
                return pad(x, {0, 0, 2, 1, 1, 4}, "reflect", 0);
              }),
      squared("pad, replicate", {2, 4, 5},
              [](Value* x) {
                return pad(x, {0, 0, 2, 1, 1, 6}, "replicate", 0);
              }),
      squared("pad, circular", {2, 4, 5},
              [](Value* x) {
                return pad(x, {0, 0, 2, 1, 1, 5}, "circular", 0);
              }),
      squared("pad, reflect and crop", {6},
              [](Value* x) {
                return pad(x, {3, -2}, "reflect", 0);
              }),
      squared("assign", {2, 3}, [](Value* x) { return assign(x); }),
      squared("reorder", {2, 3, 2, 2}, [](Value* x) { return reorder(x, Layout::kPlain); }),
      squared("roll", {3, 4},
              [](Value* x) {
                return roll(x, {1, -5}, {0, 1});
              }),
      squared("roll flat", {3, 4}, [](Value* x) { return roll(x, {5}, {}); }),
      squared("tril", {2, 3, 4}, [](Value* x) { return tril(x, 1); }),
      squared("triu", {3, 3}, [](Value* x) { return triu(x, -1); }),
      squared("diagonal", {2, 3, 4}, [](Value* x) { return diagonal(x, 1, 1, 2); }),
      squared("diagonal below", {4, 2, 3}, [](Value* x) { return diagonal(x, -2, 0, 2); }),
      squared("diag_embed", {2, 3}, [](Value* x) { return diag_embed(x, -1, 0, 2); }),
      squared("diag", {3}, [](Value* x) { return diag(x, 1, 2.0); }),
      squared("repeat_interleave", {2, 3}, [](Value* x) { return repeat_interleave(x, 3, 0); }),
  };
  list.push_back({"concat",
                  [](const Values& x) { return Values{square(concat(x, 1))}; },
                  {noise({2, 3, 2, 2}, 1), noise({2, 1, 2, 2}, 2), noise({2, 2, 2, 2}, 3)}});
  list.push_back({"stack of the same and another",
                  [](const Values& x) {
                    return Values{square(stack({x[0], x[1], x[0]}, 0))};
                  },
                  {noise({2, 3}, 1), noise({2, 3}, 2)}});
  list.push_back({"split",
                  [](const Values& x) {
                    return split(square(x[0]), {1, 2, 2}, 1);
                  },
                  {noise({2, 5}, 1)}});
  list.push_back({"later",
                  [](const Values& x) { return Values{square(later(x[0], x[1]))}; },
                  {noise({2, 3}, 1), noise({2}, 2)},
                  {.fixed = {1}}});
  list.push_back({"unbind and meshgrid",
                  [](const Values& x) { return meshgrid(unbind(square(x[0]), 0)); },
                  {noise({2, 3}, 1)}});
  return list;
}

std::vector<Sample> indices() {
  const auto two = [](const std::string& name, Array x, Array index,
                      const std::function<Value*(Value*, Value*)>& f) {
    return Sample{name,
                  [f](const Values& v) { return Values{square(f(v[0], v[1]))}; },
                  {std::move(x), std::move(index)}};
  };
  const auto three = [](const std::string& name, Array x, Array index, Array values,
                        const std::function<Value*(Value*, Value*, Value*)>& f) {
    return Sample{name,
                  [f](const Values& v) { return Values{square(f(v[0], v[1], v[2]))}; },
                  {std::move(x), std::move(index), std::move(values)}};
  };
  return {
      two("gather", noise({4, 3}), ints({5}, {0, 2, 2, -1, 2}),
          [](Value* x, Value* i) { return gather(x, i, 0); }),
      two("gather along 1, index of rank 2", noise({2, 4, 3}), ints({2, 2}, {1, 1, 3, 0}),
          [](Value* x, Value* i) { return gather(x, i, 1); }),
      two("gather by a number", noise({4, 3}), ints({}, {2}),
          [](Value* x, Value* i) { return gather(x, i, 0); }),
      two("gather_nd", noise({3, 4, 2}), ints({3, 2}, {0, 1, 2, 3, 0, 1}),
          [](Value* x, Value* i) { return gather_nd(x, i); }),
      two("embedding", noise({5, 3}), ints({2, 3}, {0, 4, 4, 1, 2, 4}),
          [](Value* x, Value* i) { return embedding(x, i); }),
      two("embedding with padding", noise({5, 3}), ints({2, 2}, {0, 4, 1, 4}),
          [](Value* x, Value* i) { return embedding(x, i, 4); }),
      two("take_along_axis", noise({3, 4}), ints({3, 3}, {0, 0, 3, 1, -1, 2, 3, 3, 3}),
          [](Value* x, Value* i) { return take_along_axis(x, i, 1); }),
      two("take_along_axis, broadcast", noise({3, 4}), ints({1, 2}, {2, 0}),
          [](Value* x, Value* i) { return take_along_axis(x, i, 1); }),
      two("index_sample", noise({2, 4}), ints({2, 2}, {0, 3, 2, 2}),
          [](Value* x, Value* i) { return index_sample(x, i); }),
      three("put_along_axis", noise({3, 4}), ints({3, 2}, {0, 3, 1, 2, 3, 0}), noise({3, 2}, 8),
            [](Value* x, Value* i, Value* v) { return put_along_axis(x, i, v, 1, false); }),
      three("put_along_axis, add", noise({2, 4, 2}), ints({2, 2, 2}, {0, 3, 0, 2, 3, 0, 1, 0}),
            noise({2, 2, 2}, 8),
            [](Value* x, Value* i, Value* v) { return put_along_axis(x, i, v, 1, true); }),
      three("put_along_axis of a number", noise({3, 4}), ints({3, 1}, {0, 3, 1}), noise({1, 1}, 8),
            [](Value* x, Value* i, Value* v) { return put_along_axis(x, i, v, 1, false); }),
      three("index_add", noise({4, 3}), ints({3}, {1, 1, 3}), noise({3, 3}, 8),
            [](Value* x, Value* i, Value* v) { return index_add(x, i, v, 0); }),
      three("index_add inside", noise({2, 4, 3}), ints({2}, {3, 3}), noise({2, 2, 3}, 8),
            [](Value* x, Value* i, Value* v) { return index_add(x, i, v, 1); }),
      three("scatter", noise({4, 3}), ints({2}, {3, 1}), noise({2, 3}, 8),
            [](Value* x, Value* i, Value* v) { return scatter(x, i, v); }),
      three("scatter that adds", noise({4, 3}), ints({3}, {3, 1, 3}), noise({3, 3}, 8),
            [](Value* x, Value* i, Value* v) { return scatter(x, i, v, false); }),
      three("scatter_nd_add", noise({3, 4, 2}), ints({3, 2}, {0, 1, 2, 3, 0, 1}), noise({3, 2}, 8),
            [](Value* x, Value* i, Value* v) { return scatter_nd_add(x, i, v); }),
      three("masked_fill", noise({2, 3}), ints({2, 3}, {0, 1, 1, 0, 0, 1}), noise({}, 8),
            [](Value* x, Value* m, Value* v) { return masked_fill(x, cast(m, DType::kBool), v); }),
      {"topk",
       [](const Values& x) { return Values{square(topk(x[0], 2, 1, true, true)[0])}; },
       {noise({2, 5, 2})}},
      {"sort",
       [](const Values& x) { return Values{square(sort(x[0], 0, false)[0])}; },
       {noise({5, 2})}},
      {"sort a number",
       [](const Values& x) { return Values{square(sort(x[0], 0, false)[0])}; },
       {noise({})}},
  };
}

const SampleList shape_list(shapes), index_list(indices);

}  // namespace

TEST(Gradient, Shapes) { shape_list.check(); }
TEST(Gradient, Indices) { index_list.check(); }

// Many ids on few rows: added in order, so the same bits on one thread and on two.
TEST(Scatter, SumsDoNotDependOnThreads) {
  constexpr int64_t kIds = 5000, kRows = 37, kWidth = 33;
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < kIds; ++i) ids.push_back(i * i % kRows);
  const Array dout = noise({kIds, kWidth}), index = ints({kIds}, ids);
  std::vector<float> want(kRows * kWidth, 0);
  for (int64_t i = 0; i < kIds; ++i)
    for (int64_t k = 0; k < kWidth && ids[static_cast<size_t>(i)] != 4; ++k)
      want[static_cast<size_t>(ids[static_cast<size_t>(i)] * kWidth + k)] +=
          dout.as<float>()[i * kWidth + k];
  const Record record = [](const Values& v) {
    return Values{embedding_grad(v[0], v[1], kRows, 4),
                  index_add(full({kRows, kWidth}, 1, DType::kFloat32), v[0], v[1], 0)};
  };
  const int before = num_threads();
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    const std::vector<Array> got = run_ops(record, {index, dout});
    EXPECT_TRUE(std::equal(want.begin(), want.end(), got[0].as<float>())) << threads;
    EXPECT_NEAR(got[1].as<float>()[0], want[0] + 1, 1e-3);
  }
  set_num_threads(before);
}

TEST(Scatter, ErrorsTellWhatWasExpected) {
  const auto run = [](const Record& r, const std::vector<Array>& in) {
    return error_of([&] { run_ops(r, in); });
  };
  EXPECT_EQ(run([](const Values& v) { return Values{index_add(v[0], v[1], v[2], 0)}; },
                {noise({3, 2}), ints({2}, {0, 3}), noise({2, 2})}),
            "[index_add] index 1 expects a value in [-3, 3), got 3");
  EXPECT_EQ(run([](const Values& v) { return Values{index_add(v[0], v[1], v[2], 0)}; },
                {noise({3, 2}), ints({2}, {0, 1}), noise({2, 3})}),
            "[index_add] values expect shape [2, 2], got [2, 3]");
  EXPECT_EQ(run([](const Values& v) { return Values{take_along_axis(v[0], v[1], 0)}; },
                {noise({3, 2}), ints({1, 2}, {0, -4})}),
            "[take_along_axis] index 1 expects a value in [-3, 3), got -4");
  EXPECT_EQ(run([](const Values& v) { return Values{diagonal(v[0], 0, 1, 1)}; }, {noise({3, 2})}),
            "[diagonal] axes expect two dimensions of [3, 2], got 1 and 1");
}

TEST(Orders, SortAndSearch) {
  const Array x =
      Array::from<float>({2, 4}, std::vector<float>{3, 1, 2, 1, 0, 5, NAN, 4}, DType::kFloat32);
  const std::vector<Array> got = run_ops(
      [](const Values& v) {
        const Values up = sort(v[0], 1, false), down = sort(v[0], 1, true);
        return Values{up[0], up[1], down[1], searchsorted(v[1], v[2], false),
                      searchsorted(v[1], v[2], true)};
      },
      {x, Array::from<float>({4}, std::vector<float>{1, 2, 2, 5}, DType::kFloat32),
       Array::from<float>({2, 3}, std::vector<float>{0, 1, 2, 3, 5, 9}, DType::kFloat32)});
  const double nan = NAN;
  expect_near(got[0], {1, 1, 2, 3, 0, 4, 5, nan}, 0, 0, "values");
  EXPECT_EQ(doubles_of(got[1]), (std::vector<double>{1, 3, 2, 0, 0, 3, 1, 2}));
  EXPECT_EQ(doubles_of(got[2]), (std::vector<double>{0, 2, 1, 3, 2, 1, 3, 0}));
  EXPECT_EQ(doubles_of(got[3]), (std::vector<double>{0, 0, 1, 3, 3, 4}));
  EXPECT_EQ(doubles_of(got[4]), (std::vector<double>{0, 1, 3, 3, 4, 4}));
}

TEST(Diagonals, OfEveryKind) {
  const std::vector<Array> got = run_ops(
      [](const Values& v) {
        return Values{diag(v[0], 1, 7),        eye(2, 3, DType::kFloat32),
                      diagonal(v[1], 5, 0, 1), linspace(0, 1, 5, DType::kFloat32),
                      tril(v[1], -1),          roll(v[1], {1}, {})};
      },
      {Array::from<float>({2}, std::vector<float>{1, 2}, DType::kFloat32),
       Array::from<float>({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6}, DType::kFloat32)});
  EXPECT_EQ(doubles_of(got[0]), (std::vector<double>{7, 1, 7, 7, 7, 2, 7, 7, 7}));
  EXPECT_EQ(doubles_of(got[1]), (std::vector<double>{1, 0, 0, 0, 1, 0}));
  EXPECT_EQ(got[2].numel(), 0);
  EXPECT_EQ(doubles_of(got[3]), (std::vector<double>{0, 0.25, 0.5, 0.75, 1}));
  EXPECT_EQ(doubles_of(got[4]), (std::vector<double>{0, 0, 0, 4, 0, 0}));
  EXPECT_EQ(doubles_of(got[5]), (std::vector<double>{6, 1, 2, 3, 4, 5}));
}

}  // namespace trireme::test
