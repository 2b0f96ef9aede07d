// Operators on matrices: what they give put together again, and their gradients.
#include <cmath>

#include "ops/grad_test.h"
#include "ops/linalg.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace trireme::test {
namespace {

using Values = std::vector<Value*>;
using namespace ops;

// Far from singular, symmetric and positive definite: x x^T + 3.
Value* definite(Value* x) {
  const int64_t n = x->type.shape.back();
  return add(matmul(x, x, nullptr, false, true), affine(eye(n, n, x->type.dtype), 3, 0));
}

std::vector<Sample> matrices() {
  const GradOptions loose{.tolerance = 1e-5, .float32 = 1e-3};
  const GradOptions once{.tolerance = 1e-5, .float32 = 2e-3, .second = false};
  std::vector<Sample> list;
  const auto add_sample = [&](const std::string& name, Record record, const Shape& shape,
                              const GradOptions& options, int64_t seed = 3) {
    list.push_back({name, std::move(record), {noise(shape, seed, -1, 1)}, options});
  };
  add_sample(
      "inverse", [](const Values& x) { return Values{inverse(definite(x[0]))}; }, {2, 3, 3}, loose);
  add_sample(
      "determinant", [](const Values& x) { return Values{determinant(definite(x[0]))}; }, {2, 3, 3},
      loose);
  list.push_back({"solve",
                  [](const Values& x) { return Values{solve(definite(x[0]), x[1])}; },
                  {noise({3, 3}, 3, -1, 1), noise({2, 3, 2}, 4)},
                  loose});
  for (const bool upper : {false, true})
    add_sample(
        "cholesky", [=](const Values& x) { return Values{cholesky(definite(x[0]), upper)}; },
        {2, 3, 3}, once);
  // Squares, which have no sign.
  for (const Shape& shape : {Shape{3, 3}, Shape{2, 4, 3}, Shape{3, 4}})
    add_sample(
        "svd",
        [](const Values& x) {
          const Values r = svd(x[0]);
          return Values{square(r[0]), r[1], square(r[2])};
        },
        shape, once);
  for (const Shape& shape : {Shape{2, 4, 3}, Shape{3, 4}})
    add_sample(
        "svd full",
        [](const Values& x) {
          const Values r = svd(x[0], true);
          const int64_t rank = x[0]->type.shape.rank();
          return Values{square(slice(r[0], {rank - 1}, {0}, {3})), r[1],
                        square(slice(r[2], {rank - 2}, {0}, {3}))};
        },
        shape, once);
  for (const bool complete : {false, true})
    for (const Shape& shape : {Shape{3, 3}, Shape{2, 3, 5}}) {
      add_sample(
          "qr", [=](const Values& x) { return qr(x[0], complete); }, shape, once);
      for (const size_t one : {0U, 1U})
        add_sample(
            "qr, one of two", [=](const Values& x) { return Values{qr(x[0], complete)[one]}; },
            shape, once);
    }
  for (const Shape& shape : {Shape{2, 4, 3}})
    add_sample(
        "qr", [](const Values& x) { return qr(x[0]); }, shape, once);
  for (const bool upper : {false, true})
    add_sample(
        "eigh",
        [=](const Values& x) {
          const Values r = eigh(add(x[0], transposed(x[0])), upper);
          return Values{r[0], square(r[1])};
        },
        {2, 3, 3}, once);
  return list;
}

TEST(Gradient, QrOfHighMatricesInFullHasNone) {
  try {
    gradients_of([](const Values& x) { return qr(x[0], true); }, {noise({4, 3}, 3)});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnimplemented);
    EXPECT_NE(std::string(e.what()).find("[qr] mode 'complete' has no gradient"),
              std::string::npos);
  }
}

const SampleList list(matrices);
TEST(Gradient, Matrices) { list.check(); }

std::vector<Array> results(const std::function<Values(const Values&)>& f,
                           const std::vector<Array>& inputs) {
  Graph graph;
  graph.fold_below = int64_t{1} << 40;
  const BuilderScope scope(graph);
  Values in;
  for (const Array& a : inputs) in.push_back(constant(a));
  std::vector<Array> out;
  for (const Value* v : f(in)) out.push_back(*constant_of(v));
  return out;
}

void expect_near(const Array& a, const Array& b, double within) {
  ASSERT_EQ(a.shape(), b.shape());
  const Array x = a.to(DType::kFloat64), y = b.to(DType::kFloat64);
  for (int64_t i = 0; i < x.numel(); ++i)
    ASSERT_NEAR(x.as<double>()[i], y.as<double>()[i], within) << i;
}

Array unit(int64_t batch, int64_t n, DType dtype) {
  Array a(DType::kFloat64, {batch, n, n});
  for (int64_t i = 0; i < a.numel(); ++i) a.as<double>()[i] = i % (n * n) % (n + 1) == 0 ? 1 : 0;
  return a.to(dtype);
}

class Decomposition : public testing::TestWithParam<std::tuple<DType, Shape>> {};

TEST_P(Decomposition, PutTogetherAgainIsTheMatrix) {
  const auto& [dtype, shape] = GetParam();
  const double within = dtype == DType::kFloat64 ? 1e-12 : 2e-5;
  const int64_t batch = shape[0], m = shape[1], n = shape[2];
  const Array x = noise(shape, 5).to(dtype);
  for (const bool full : {false, true}) {
    SCOPED_TRACE(full);
    const auto r = results(
        [&](const Values& v) {
          const Values d = svd(v[0], full), q = qr(v[0], full);
          const int64_t k = std::min(m, n);
          Value* u = slice(d[0], {2}, {0}, {k});
          Value* vh = slice(d[2], {1}, {0}, {k});
          return Values{matmul(multiply(u, unsqueeze(d[1], {-2})), vh),
                        matmul(d[0], d[0], nullptr, true),
                        matmul(d[2], d[2], nullptr, false, true),
                        matmul(q[0], q[1]),
                        matmul(q[0], q[0], nullptr, true),
                        subtract(q[1], triu(q[1])),
                        d[1]};
        },
        {x});
    expect_near(r[0], x, within * 4);
    expect_near(r[1], unit(batch, r[1].shape()[1], dtype), within);
    expect_near(r[2], unit(batch, r[2].shape()[1], dtype), within);
    expect_near(r[3], x, within * 4);
    expect_near(r[4], unit(batch, r[4].shape()[1], dtype), within);
    const Array below = r[5].to(DType::kFloat64), s = r[6].to(DType::kFloat64);
    for (int64_t i = 0; i < below.numel(); ++i) ASSERT_EQ(below.as<double>()[i], 0);
    for (int64_t i = 0; i < s.numel(); ++i) {
      ASSERT_GE(s.as<double>()[i], 0);
      if (i % s.shape()[1] > 0) { ASSERT_LE(s.as<double>()[i], s.as<double>()[i - 1]); }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Decomposition,
                         testing::Combine(testing::Values(DType::kFloat32, DType::kFloat64),
                                          testing::Values(Shape{1, 1, 1}, Shape{2, 5, 3},
                                                          Shape{1, 3, 7}, Shape{1, 24, 24},
                                                          Shape{3, 1, 4}, Shape{0, 2, 2})));

TEST(Matrices, SolveInverseAndEigenvectorsFit) {
  const Array x = noise({2, 6, 6}, 5).to(DType::kFloat64), y = noise({6, 3}, 6).to(DType::kFloat64);
  const auto r = results(
      [](const Values& v) {
        Value* symmetric = add(v[0], transposed(v[0]));
        const Values e = eigh(symmetric);
        const Values upper = eigh(triu(symmetric), true);
        Value* c = cholesky(definite(v[0]));
        return Values{matmul(v[0], inverse(v[0])),
                      matmul(v[0], solve(v[0], v[1])),
                      matmul(symmetric, e[1]),
                      multiply(e[1], unsqueeze(e[0], {-2})),
                      e[0],
                      upper[0],
                      matmul(c, c, nullptr, false, true),
                      definite(v[0]),
                      determinant(v[0]),
                      determinant(matmul(v[0], v[0]))};
      },
      {x, y});
  expect_near(r[0], unit(2, 6, DType::kFloat64), 1e-9);
  for (int64_t i = 0; i < r[1].numel(); ++i)
    ASSERT_NEAR(r[1].as<double>()[i], y.as<double>()[i % 18], 1e-9);
  expect_near(r[2], r[3], 1e-11);
  expect_near(r[4], r[5], 1e-11);
  expect_near(r[6], r[7], 1e-11);
  for (int64_t i = 0; i < 2; ++i)
    EXPECT_NEAR(r[9].as<double>()[i], std::pow(r[8].as<double>()[i], 2),
                1e-10 * std::abs(r[9].as<double>()[i]));
}

TEST(Matrices, SingularOnesAreNoNumbers) {
  const Array x = Array::from<float>({2, 2}, std::vector<float>{1, 2, 2, 4}, DType::kFloat32);
  const auto r = results(
      [](const Values& v) {
        return Values{inverse(v[0]),
                      determinant(v[0]),
                      svd(v[0])[1],
                      svd(v[0])[0],
                      cholesky(affine(v[0], -1, 0)),
                      determinant(affine(v[0], 0, 0))};
      },
      {x});
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(std::isnan(r[0].as<float>()[i]));
  EXPECT_EQ(r[1].as<float>()[0], 0);
  EXPECT_NEAR(r[2].as<float>()[0], 5, 1e-6);
  EXPECT_NEAR(r[2].as<float>()[1], 0, 1e-6);
  EXPECT_NEAR(r[3].as<float>()[0] * r[3].as<float>()[1] + r[3].as<float>()[2] * r[3].as<float>()[3],
              0, 1e-6);
  EXPECT_TRUE(std::isnan(r[4].as<float>()[0]));
  EXPECT_EQ(r[5].as<float>()[0], 0);
}

TEST(Matrices, BadArgumentsAreNamed) {
  const auto fails = [](const std::function<Value*(const Values&)>& f) {
    try {
      (void)results([&](const Values& v) { return Values{f(v)}; },
                    {noise({2, 3}), noise({3, 3}).to(DType::kFloat16), noise({3}), noise({3, 3}),
                     noise({2, 2})});
    } catch (const Error& e) { return std::string(e.what()); }
    return std::string("no error");
  };
  EXPECT_EQ(fails([](const Values& v) { return inverse(v[0]); }),
            "[inverse] x expects square matrices, got [2, 3]");
  EXPECT_EQ(fails([](const Values& v) { return svd(v[1])[0]; }),
            "[svd] x expects float32 or float64, got float16");
  EXPECT_EQ(fails([](const Values& v) { return determinant(v[2]); }),
            "[determinant] x expects matrices, got [3]");
  EXPECT_NE(fails([](const Values& v) { return solve(v[3], v[4]); }).find("[solve] y expects"),
            std::string::npos);
}

}  // namespace
}  // namespace trireme::test
