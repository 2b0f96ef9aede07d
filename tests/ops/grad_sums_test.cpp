// Gradients of reductions, running sums and products, matrix products, cross entropy.
#include <cmath>

#include "ops/cross_entropy.h"
#include "ops/grad_test.h"
#include "ops/index.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace trireme::test {
namespace {

using Values = std::vector<Value*>;
using namespace ops;

// Squared, so that second derivatives are not all zero.
Sample squared(const std::string& name, const Shape& shape, const std::function<Value*(Value*)>& f,
               GradOptions options = {}) {
  return {
      name, [f](const Values& x) { return Values{square(f(x[0]))}; }, {noise(shape, 3)}, options};
}

std::vector<Sample> reductions() {
  std::vector<Sample> list;
  for (const Op* op : {&sum_op, &mean_op, &max_op, &min_op, &prod_op}) {
    const std::string name(op->name);
    const auto f = [&](std::vector<int64_t> axes, bool keepdim) {
      return [=](Value* x) { return reduce(*op, x, axes, keepdim); };
    };
    list.push_back(squared(name + " of all", {2, 3}, f({}, false)));
    list.push_back(squared(name + " along 1", {2, 3, 2, 2}, f({1}, true)));
    list.push_back(squared(name + " of pixels", {2, 3, 2, 2}, f({2, 3}, false)));
    list.push_back(squared(name + " along 0 and 2", {2, 3, 2}, f({0, 2}, false)));
    list.push_back(squared(name + " of a number", {}, f({}, false)));
    list.push_back(squared(name + " along a dimension of 1", {3, 1}, f({1}, true)));
  }
  list.push_back(
      {"prod with zeros",
       [](const Values& x) { return Values{reduce(prod_op, subtract(x[0], x[1]), {1}, false)}; },
       {Array::from<float>({3, 3}, std::vector<float>{1, 2, 3, 1, 2, 4, 5, 6, 7}, DType::kFloat32),
        Array::from<float>({3}, std::vector<float>{1, 2, 0.5}, DType::kFloat32)}});
  list.push_back(
      squared("cumsum", {2, 4}, [](Value* x) { return cumsum(x, 1, false, false, false); }));
  list.push_back(squared("cumsum exclusive, reverse", {4, 2},
                         [](Value* x) { return cumsum(x, 0, false, true, true); }));
  list.push_back(
      squared("cumsum flat", {2, 3}, [](Value* x) { return cumsum(x, 0, true, false, false); }));
  const GradOptions once{.second = false};
  for (const bool exclusive : {false, true})
    for (const bool reverse : {false, true})
      list.push_back(squared(
          "cumprod", {2, 4, 2}, [=](Value* x) { return cumprod(x, 1, exclusive, reverse); }, once));
  list.push_back(
      squared("variance", {2, 3, 2}, [](Value* x) { return variance(x, {1}, true, false); }));
  list.push_back(squared("deviation", {2, 3},
                         [](Value* x) { return standard_deviation(x, {}, false, true); }));
  list.push_back(squared("logsumexp", {2, 3}, [](Value* x) { return logsumexp(x, {1}, false); }));
  for (const double p : {1.0, 2.0, 3.0, HUGE_VAL})
    list.push_back(squared(
        "norm", {2, 3}, [=](Value* x) { return norm(x, p, {1}, false); },
        p == 3.0 ? once : GradOptions{}));
  return list;
}

std::vector<Sample> products() {
  std::vector<Sample> list;
  const auto add = [&](const std::string& name, const Shape& x, const Shape& y, bool tx, bool ty,
                       bool bias) {
    std::vector<Array> inputs = {noise(x, 1), noise(y, 2)};
    if (bias) inputs.push_back(noise({ty ? y[y.rank() - 2] : y.back()}, 3));
    list.push_back(
        {name,
         [=](const Values& v) { return Values{matmul(v[0], v[1], bias ? v[2] : nullptr, tx, ty)}; },
         inputs});
  };
  for (const bool tx : {false, true})
    for (const bool ty : {false, true}) {
      const std::string name = std::string("matmul") + (tx ? " x^T" : "") + (ty ? " y^T" : "");
      const auto shape = [](std::vector<int64_t> s, int64_t m, int64_t k, bool turned) {
        s.insert(s.end(), {turned ? k : m, turned ? m : k});
        return Shape(std::span(s));
      };
      add(name, shape({}, 3, 4, tx), shape({}, 4, 2, ty), tx, ty, true);
      add(name + ", batches", shape({2, 2}, 3, 2, tx), shape({2, 2}, 2, 3, ty), tx, ty, false);
      add(name + ", one y", shape({2}, 3, 4, tx), shape({}, 4, 2, ty), tx, ty, true);
      add(name + ", one x", shape({}, 3, 4, tx), shape({2}, 4, 2, ty), tx, ty, false);
      add(name + ", broadcast", shape({2, 1}, 2, 3, tx), shape({3}, 3, 2, ty), tx, ty, false);
      add(name + ", batch of 1", shape({2}, 2, 3, tx), shape({1}, 3, 2, ty), tx, ty, false);
    }
  add("row times matrix", {4}, {4, 3}, false, false, true);
  add("row times matrices", {4}, {2, 4, 3}, false, false, false);
  add("matrix times column", {3, 4}, {4}, false, false, false);
  add("matrices times column", {2, 3, 4}, {4}, false, false, false);
  add("inner product", {4}, {4}, false, false, false);
  add("no rows", {0, 3}, {3, 2}, false, false, true);
  add("nothing to sum", {2, 0}, {0, 3}, false, false, false);
  return list;
}

std::vector<Sample> cross_entropies() {
  const auto hard = [](const std::string& name, Array logits, Array label, int64_t axis,
                       int64_t ignored = -100) {
    return Sample{name,
                  [=](const Values& x) {
                    return Values{cross_entropy_with_softmax(x[0], x[1], false, ignored, axis)[1]};
                  },
                  {std::move(logits), std::move(label)}};
  };
  std::vector<Sample> list = {
      hard("hard labels", noise({4, 5}), ints({4, 1}, {0, 4, 2, 2}), -1),
      hard("labels without the axis", noise({4, 33}), ints({4}, {0, 32, 2, 16}), -1),
      hard("ignored labels", noise({4, 3}), ints({4}, {0, 1, 2, 1}), -1, 1),
      hard("pixels", noise({2, 3, 2, 2}), ints({2, 2, 2}, {0, 1, 2, 1, 1, 0, 2, 2}), 1),
      hard("one class", noise({2, 1}), ints({2}, {0, 0}), -1)};
  list.push_back(
      {"soft labels",
       [](const Values& x) { return Values{cross_entropy_with_softmax(x[0], x[1], true)[1]}; },
       {noise({3, 4}), noise({3, 4}, 2, 0, 1)},
       {.fixed = {1}}});
  list.push_back({"softmax too",
                  [](const Values& x) { return cross_entropy_with_softmax(x[0], x[1]); },
                  {noise({3, 4}), ints({3}, {1, 0, 3})}});
  return list;
}

const SampleList reduction_list(reductions), product_list(products),
    cross_entropy_list(cross_entropies);

Array floats(const Shape& shape, const std::vector<float>& values) {
  return Array::from<float>(shape, values, DType::kFloat32);
}

}  // namespace

TEST(Gradient, Reductions) { reduction_list.check(); }
TEST(Gradient, Products) { product_list.check(); }
TEST(Gradient, CrossEntropy) { cross_entropy_list.check(); }

// Loss and gradient of half logits beside those of the same logits in float32.
TEST(CrossEntropyHalf, IsThatOfTheWidenedLogits) {
  const CrossEntropyAttrs a{.ignore_index = 2, .axis = 1};
  for (const DType half : {DType::kFloat16, DType::kBFloat16})
    for (const int64_t classes : {5, 64, 6625}) {
      const Array x = noise({4, classes}, 3, -8, 8).to(half), label = ints({4, 1}, {0, 4, 2, 1});
      const Array slope = noise({4, 1}, 4, 0.5, 1);
      const std::vector<Array> want = run_ops(
          [&](const std::vector<Value*>& v) {
            const auto r = record(ops::cross_entropy_with_softmax_op, {v[0], v[1]}, a);
            return std::vector<Value*>{
                r[1], record1(ops::cross_entropy_with_softmax_grad_op, {v[1], r[0], v[2]}, a)};
          },
          {x.to(DType::kFloat32), label, slope});
      const std::vector<Array> got = run_ops(
          [&](const std::vector<Value*>& v) {
            const auto r = record(ops::cross_entropy_half_op, {v[0], v[1]}, a);
            return std::vector<Value*>{
                r[0], record1(ops::cross_entropy_half_grad_op, {v[0], v[1], r[1], v[2]}, a)};
          },
          {x, label, slope});
      expect_near(got[0], doubles_of(want[0]), 1e-6, 1e-5, "loss");
      expect_near(got[1], doubles_of(want[1]), 1e-6, half == DType::kFloat16 ? 1e-3 : 8e-3,
                  "gradient");
    }
}

// Equal elements share the gradient, as in Paddle 3.3.1 (max and amax alike).
TEST(Gradient, EqualLargestElements) {
  const auto record = [](const Values& v) { return Values{reduce(max_op, v[0], {1}, false)}; };
  const std::vector<Array> got = gradients_of(record, {floats({2, 3}, {1, 3, 3, 2, 0, 1})});
  EXPECT_EQ(doubles_of(got[0]), (std::vector<double>{0, 0.5, 0.5, 1, 0, 0}));
}

TEST(Gradient, NormOfZerosHasNone) {
  for (const double p : {2.0, 3.0}) {
    const auto record = [=](const Values& v) { return Values{norm(v[0], p, {}, false)}; };
    const std::vector<Array> got = gradients_of(record, {floats({2}, {0, 0})});
    EXPECT_EQ(doubles_of(got[0]), (std::vector<double>{0, 0}));
  }
}

TEST(Products, TransposedBatchesOfOddSizes) {
  const Array x = ramp({2, 3, 37, 35}, 1), y = ramp({2, 3, 21, 35}, 2);
  const auto record = [](const Values& v) {
    return Values{matmul(v[0], v[1], nullptr, false, true)};
  };
  const Array want = run_ops(record, {x.to(DType::kFloat64), y.to(DType::kFloat64)})[0];
  expect_near(run_ops(record, {x, y})[0], doubles_of(want), 1e-5, 1e-5, "x y^T");
}

TEST(Gradient, CrossEntropyOfLargeLogits) {
  const Array x = floats({2, 3}, {1000, -1000, 0, -3000, -3001, -3002});
  const auto record = [](const Values& v) { return cross_entropy_with_softmax(v[0], v[1]); };
  const std::vector<Array> out = run_ops(record, {x, ints({2}, {1, 0})});
  expect_near(out[1], {2000, 0.40760596444}, 0, 1e-6, "loss");
}

TEST(Gradient, CrossEntropyRefusesLabelsOutside) {
  const auto record = [](const Values& v) { return cross_entropy_with_softmax(v[0], v[1]); };
  EXPECT_EQ(error_of([&] {
              run_ops(record, {noise({2, 3}), ints({2}, {0, 3})});
            }),
            "[cross_entropy_with_softmax] label 1 expects a class in [0, 3) or -100, got 3");
}

}  // namespace trireme::test
