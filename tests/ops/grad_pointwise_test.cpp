// Gradients of the pointwise operators.
#include <cmath>

#include "ops/grad_test.h"
#include "ops/pointwise.h"

namespace trireme::test {
namespace {

using Values = std::vector<Value*>;
using Unary = Value* (*)(Value*, double, double);
using Binary = Value* (*)(Value*, Value*);

Sample unary(const std::string& name, Unary f, double low, double high, double a = 0, double b = 0,
             GradOptions options = {}) {
  return {name,
          [=](const Values& x) { return Values{f(x[0], a, b)}; },
          {noise({2, 3, 2, 5}, 3, low, high)},
          options};
}

std::vector<Sample> smooth() {
  const GradOptions once{.second = false};
  using namespace ops;
  std::vector<Sample> list = {
      unary("sigmoid", sigmoid, -6, 6),
      unary("swish", swish, -5, 5, 1),
      unary("swish with beta", swish, -5, 5, 1.7),
      unary("mish", mish, -6, 6, 0, 0, once),
      unary("gelu", gelu, -3, 3),
      unary("gelu_tanh", gelu_tanh, -3, 3, 0, 0, once),
      unary("tanh", tanh, -3, 3),
      unary("softplus", softplus, -6, 6, 1, 20),
      unary("softplus with beta and threshold", softplus, -6, 6, 1.5, 4),
      unary("exp", exp, -3, 3),
      unary("log", log, 0.25, 4),
      unary("sqrt", sqrt, 0.25, 4),
      unary("rsqrt", rsqrt, 0.25, 4),
      unary("square", square, -2, 2),
      unary("erf", erf, -2, 2),
      unary("sin", sin, -4, 4),
      unary("cos", cos, -4, 4),
      unary("reciprocal", reciprocal, 0.5, 3),
      unary("affine", affine, -2, 2, -1.5, 0.25),
      unary("pow 3", pow, -2, 2, 3),
      unary("pow 2.5", pow, 0.25, 2, 2.5),
      unary("pow -1", pow, 0.5, 2, -1),
      unary("pow 1", pow, -2, 2, 1),
      unary("log1p", log1p, -0.75, 4),
      unary("log2", log2, 0.25, 4),
      unary("log10", log10, 0.25, 4),
      unary("expm1", expm1, -2, 2),
      unary("tan", tan, -1.25, 1.25),
      unary("asin", asin, -0.9, 0.9, 0, 0, once),
      unary("acos", acos, -0.9, 0.9, 0, 0, once),
      unary("atan", atan, -3, 3),
      unary("sinh", sinh, -2, 2),
      unary("cosh", cosh, -2, 2),
      unary("asinh", asinh, -3, 3, 0, 0, once),
      unary("acosh", acosh, 1.25, 4, 0, 0, once),
      unary("atanh", atanh, -0.9, 0.9, 0, 0, once),
      unary("logsigmoid", logsigmoid, -6, 6),
      unary("softsign", softsign, -3, 3, 0, 0, once),
      unary("tanhshrink", tanhshrink, -3, 3, 0, 0, once),
  };
  list.push_back({"of one number",
                  [](const Values& x) { return Values{tanh(mish(x[0]))}; },
                  {noise({}, 5)},
                  once});
  list.push_back({"of no number",
                  [](const Values& x) { return Values{multiply(x[0], sigmoid(x[1]))}; },
                  {noise({0, 3}), noise({0, 1})}});
  return list;
}

std::vector<Sample> with_kinks() {
  const GradOptions once{.second = false};
  using namespace ops;
  return {
      unary("relu", relu, -2, 2),
      unary("relu6", relu6, -2, 8),
      unary("leaky_relu", leaky_relu, -2, 2, 0.01),
      unary("leaky_relu, falling", leaky_relu, -2, 2, -0.5),
      unary("elu", elu, -3, 3, 1.25),
      unary("elu, falling", elu, -3, 3, -0.5),
      unary("hardsigmoid", hardsigmoid, -5, 5, 1.0 / 6, 0.5),
      unary("hardswish", hardswish, -5, 5),
      unary("abs", abs, -2, 2),
      unary("clip", clip, -2, 2, -1, 0.5),
      unary("selu", selu, -3, 3, 1.0507009873554805, 1.6732632423543772),
      unary("celu", celu, -3, 3, 1.5),
      unary("hardtanh", hardtanh, -2, 2, -1, 0.5),
      unary("hardshrink", hardshrink, -2, 2, 0.5),
      unary("softshrink", softshrink, -2, 2, 0.5),
      unary("thresholded_relu", thresholded_relu, -2, 2, 1),
  };
}

void add_binary(std::vector<Sample>& list, const std::string& name, Binary f, double low,
                double high, double low_y, double high_y) {
  const auto record = [=](const Values& x) { return Values{f(x[0], x[1])}; };
  const auto x = [&](const Shape& s) { return noise(s, 2, low, high); };
  const auto y = [&](const Shape& s) { return noise(s, 9, low_y, high_y); };
  list.push_back({name, record, {x({2, 3, 2, 3}), y({2, 3, 2, 3})}});
  list.push_back({name + " by channel", record, {x({2, 3, 2, 2}), y({3, 1, 1})}});
  list.push_back({name + " outer", record, {x({3, 1}), y({1, 4})}});
  list.push_back({name + " of a number", record, {x({}), y({2, 3})}});
}

std::vector<Sample> binary() {
  using namespace ops;
  std::vector<Sample> list;
  add_binary(list, "add", add, -2, 2, -2, 2);
  add_binary(list, "subtract", subtract, -2, 2, -2, 2);
  add_binary(list, "multiply", multiply, -2, 2, -2, 2);
  add_binary(list, "divide", divide, -2, 2, 0.5, 2);
  add_binary(list, "maximum", maximum, -2, 2, -1.5, 1.75);
  add_binary(list, "minimum", minimum, -2, 2, -1.5, 1.75);
  add_binary(list, "fmax", fmax, -2, 2, -1.5, 1.75);
  add_binary(list, "fmin", fmin, -2, 2, -1.5, 1.75);
  add_binary(list, "elementwise_pow", elementwise_pow, 0.5, 2, -2, 2);
  add_binary(list, "remainder", remainder, -3, 3, 0.9, 1.1);
  add_binary(list, "atan2", atan2, 0.25, 2, -2, 2);
  add_binary(list, "prelu", prelu, -2, 2, 0.1, 0.5);
  list.push_back({"where",
                  [](const Values& x) {
                    return Values{
                        where(greater_than(x[0], scalar(0, x[0]->type.dtype)), x[1], x[2])};
                  },
                  {noise({2, 3, 2, 3}, 4), noise({2, 3, 2, 3}, 5), noise({3, 1, 1}, 6)},
                  {.fixed = {0}}});
  list.push_back(
      {"cast there and back",
       [](const Values& x) { return Values{cast(cast(x[0], DType::kFloat64), x[0]->type.dtype)}; },
       {noise({2, 3})}});
  return list;
}

const SampleList smooth_list(smooth), kink_list(with_kinks), binary_list(binary);

}  // namespace

TEST(Gradient, Smooth) { smooth_list.check(); }
TEST(Gradient, WithKinks) { kink_list.check(); }
TEST(Gradient, Binary) { binary_list.check(); }

// What Paddle 3.3.1 answers at kinks and far out.
TEST(Gradient, ConventionsArePaddles) {
  using namespace ops;
  using Doubles = std::vector<double>;
  const auto array = [](const Doubles& v) {
    return Array::from<double>({static_cast<int64_t>(v.size())}, v, DType::kFloat64);
  };
  struct Case {
    const char* name;
    Unary f;
    double a, b;
    Doubles x, y, dx;
  };
  const double s = 1.0507009873554805, t = 1.6732632423543772;
  const Case cases[] = {
      {"relu", relu, 0, 0, {0, -1, 1}, {0, 0, 1}, {0, 0, 1}},
      {"relu6", relu6, 0, 0, {0, 6, 3, 7}, {0, 6, 3, 6}, {0, 0, 1, 0}},
      {"leaky_relu", leaky_relu, 0.1, 0, {0, -1}, {0, -0.1}, {1, 0.1}},
      {"elu", elu, 1.5, 0, {0, -1}, {0, -0.9481808382428365}, {1.5, 0.5518191617571635}},
      {"hardsigmoid", hardsigmoid, 0.1666667, 0.5, {-3, 3, 0}, {0, 1, 0.5}, {0, 0, 0.1666667}},
      {"hardswish", hardswish, 0, 0, {-3, 3, 0}, {0, 3, 0}, {0, 1, 0.5}},
      {"abs", abs, 0, 0, {0, -1}, {0, 1}, {0, -1}},
      {"clip", clip, -1, 1, {-1, 1, 0, 2}, {-1, 1, 0, 1}, {1, 1, 1, 0}},
      {"hardtanh", hardtanh, -1, 1, {-1, 1, 0, 2}, {-1, 1, 0, 1}, {0, 0, 1, 0}},
      {"selu", selu, s, t, {0, -1, 1}, {0, -1.1113307378125625, s}, {s * t, 0.64676860303, s}},
      {"celu", celu, 1.5, 0, {0, -1, 1}, {0, -0.729874321451112, 1}, {1, 0.513417119032592, 1}},
      {"hardshrink", hardshrink, 0.5, 0, {0.5, -0.5, 0.6, 0}, {0.5, -0.5, 0.6, 0}, {1, 1, 1, 0}},
      {"softshrink", softshrink, 0.5, 0, {0.5, -0.5, 0.75, 0}, {0, 0, 0.25, 0}, {0, 0, 1, 0}},
      {"thresholded_relu", thresholded_relu, 1, 0, {1, 0, 2}, {0, 0, 2}, {0, 0, 1}},
      {"softplus",
       softplus,
       1,
       2,
       {2, 3, 1.9},
       {2.1269280110429727, 3, 2.0393867582829603},
       {0.8807970779778823, 1, 0.8698915256370021}},
      {"sqrt", sqrt, 0, 0, {0, 4}, {0, 2}, {HUGE_VAL, 0.25}},
      {"softsign", softsign, 0, 0, {0, -2}, {0, -2.0 / 3}, {1, 1.0 / 9}},
      {"tanhshrink", tanhshrink, 0, 0, {0, 1}, {0, 0.23840584404423515}, {0, 0.5800256583859739}},
      {"logsigmoid",
       logsigmoid,
       0,
       0,
       {0, -50, 50},
       {-0.6931471805599453, -50, 0},
       {0.5, 1, 1.9287498479639178e-22}},
      {"pow 0", pow, 0, 0, {0, 2}, {1, 1}, {0, 0}},
      {"pow 2", pow, 2, 0, {0, -2}, {0, 4}, {0, -4}},
      {"mish",
       mish,
       0,
       0,
       {-30, -1, 0, 30},
       {-2.8072868906519e-12, -0.30340146137410895, 0, 30},
       {-2.713710661e-12, 0.059216755877395, 0.6, 1}},
      {"gelu", gelu, 0, 0, {0, 1}, {0, 0.8413447460685429}, {0.5, 1.0833154705876864}},
  };
  for (const Case& c : cases) {
    const Record record = [&](const Values& x) { return Values{c.f(x[0], c.a, c.b)}; };
    expect_near(run_ops(record, {array(c.x)})[0], c.y, 1e-15, 1e-9, c.name);
    expect_near(gradients_of(record, {array(c.x)})[0], c.dx, 1e-15, 1e-9, c.name);
  }
  struct Pair {
    const char* name;
    Binary f;
    Doubles x, y, z, dx, dy;
  };
  const Pair pairs[] = {
      {"maximum", maximum, {1, 2, 0}, {1, 1, 3}, {1, 2, 3}, {0.5, 1, 0}, {0.5, 0, 1}},
      {"minimum", minimum, {1, 2, 0}, {1, 1, 3}, {1, 1, 0}, {0.5, 0, 1}, {0.5, 1, 0}},
      {"fmax", fmax, {1, 2, NAN}, {1, 1, 3}, {1, 2, 3}, {1, 1, 0}, {0, 0, 1}},
      {"fmin", fmin, {1, 2, NAN}, {1, 1, 3}, {1, 1, 3}, {1, 0, 0}, {0, 1, 1}},
      {"elementwise_pow",
       elementwise_pow,
       {0, 2, 0},
       {2, 3, 0},
       {0, 8, 1},
       {0, 12, 0},
       {0, 5.545177444479562, 0}},
      {"remainder", remainder, {5.5, -5.5}, {2, 2}, {1.5, 0.5}, {1, 1}, {-2, 3}},
      {"atan2",
       atan2,
       {1, -1},
       {2, -2},
       {0.4636476090008061, -2.677945044588987},
       {0.4, -0.4},
       {-0.2, 0.2}},
      {"prelu", prelu, {0, -1, 1}, {0.25, 0.25, 0.25}, {0, -0.25, 1}, {0.25, 0.25, 1}, {0, -1, 0}},
  };
  for (const Pair& c : pairs) {
    const Record record = [&](const Values& x) { return Values{c.f(x[0], x[1])}; };
    const std::vector<Array> in = {array(c.x), array(c.y)}, d = gradients_of(record, in);
    expect_near(run_ops(record, in)[0], c.z, 1e-15, 1e-12, c.name);
    expect_near(d[0], c.dx, 1e-15, 1e-12, c.name);
    expect_near(d[1], c.dy, 1e-15, 1e-12, c.name);
  }
}

// The vectorised float32 forms beside float64's library functions, also where they cancel.
TEST(Pointwise, SingleBesideDouble) {
  using namespace ops;
  struct Case {
    const char* name;
    Unary f;
    double low, high;
  };
  const Case cases[] = {{"log1p", log1p, -0.9, 5},
                        {"log1p near 0", log1p, -1e-4, 1e-4},
                        {"expm1", expm1, -5, 5},
                        {"expm1 near 0", expm1, -1e-4, 1e-4},
                        {"sinh", sinh, -5, 5},
                        {"sinh near 0", sinh, -1e-3, 1e-3},
                        {"cosh", cosh, -5, 5},
                        {"asinh", asinh, -50, 50},
                        {"asinh near 0", asinh, -1e-3, 1e-3},
                        {"acosh", acosh, 1.01, 50},
                        {"atanh", atanh, -0.95, 0.95},
                        {"tan", tan, -1.5, 1.5},
                        {"asin", asin, -1, 1},
                        {"acos", acos, -1, 1},
                        {"atan", atan, -20, 20},
                        {"log2", log2, 0.01, 50},
                        {"log10", log10, 0.01, 50},
                        {"logsigmoid", logsigmoid, -20, 20},
                        {"softsign", softsign, -9, 9},
                        {"mish", mish, -20, 25}};
  for (const Case& c : cases) {
    Array x(DType::kFloat32, {999});
    for (int i = 0; i < 999; ++i)
      x.as<float>()[i] = static_cast<float>(c.low + (c.high - c.low) * (i + 0.5) / 999);
    const Record record = [&](const Values& v) { return Values{c.f(v[0], 0, 0)}; };
    const Array want = run_ops(record, {x.to(DType::kFloat64)})[0];
    expect_near(run_ops(record, {x})[0], doubles_of(want), 1e-9, 3e-6, c.name);
  }
}

TEST(Pointwise, RoundGoesToEven) {
  const Array x =
      Array::from<float>({5}, std::vector<float>{0.5, 1.5, 2.5, -1.5, 0.75}, DType::kFloat32);
  const Record record = [](const Values& v) { return Values{ops::round(v[0]), ops::trunc(v[0])}; };
  const std::vector<Array> got = run_ops(record, {x});
  EXPECT_EQ(doubles_of(got[0]), (std::vector<double>{0, 2, 2, -2, 1}));
  EXPECT_EQ(doubles_of(got[1]), (std::vector<double>{0, 1, 2, -1, 0}));
}

TEST(Pointwise, KindsOfNumbers) {
  const Array x =
      Array::from<float>({4}, std::vector<float>{1, HUGE_VALF, -HUGE_VALF, NAN}, DType::kFloat32);
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kFloat64}) {
    const std::vector<Array> got = run_ops(
        [](const Values& v) {
          return Values{ops::isnan(v[0]), ops::isinf(v[0]), ops::isfinite(v[0])};
        },
        {x.to(dtype)});
    EXPECT_EQ(doubles_of(got[0]), (std::vector<double>{0, 0, 0, 1}));
    EXPECT_EQ(doubles_of(got[1]), (std::vector<double>{0, 1, 1, 0}));
    EXPECT_EQ(doubles_of(got[2]), (std::vector<double>{1, 0, 0, 0}));
  }
}

TEST(Pointwise, Bits) {
  const Array x = ints({3}, {12, -1, 5}), y = ints({3}, {10, 7, 2});
  const std::vector<Array> got = run_ops(
      [](const Values& v) {
        return Values{ops::bitwise_and(v[0], v[1]), ops::bitwise_or(v[0], v[1]),
                      ops::bitwise_xor(v[0], v[1]), ops::bitwise_not(v[0]), ops::sign(v[0])};
      },
      {x, y});
  EXPECT_EQ(doubles_of(got[0]), (std::vector<double>{8, 7, 0}));
  EXPECT_EQ(doubles_of(got[1]), (std::vector<double>{14, -1, 7}));
  EXPECT_EQ(doubles_of(got[2]), (std::vector<double>{6, -8, 7}));
  EXPECT_EQ(doubles_of(got[3]), (std::vector<double>{-13, 0, -6}));
  EXPECT_EQ(doubles_of(got[4]), (std::vector<double>{1, -1, 1}));
  EXPECT_EQ(error_of([] {
              run_ops([](const Values& v) { return Values{ops::bitwise_not(v[0])}; }, {noise({2})});
            }),
            "[bitwise_not] expects integers, got float32");
}

// Through every piece of the approximations, over their ends and far beyond.
TEST(Gradient, GeluInFloat32) {
  std::vector<float> x;
  for (int i = -900; i <= 900; ++i) x.push_back(static_cast<float>(i) / 128);
  for (const float far : {1e4f, -1e4f, 1e30f, -1e30f, -0.0f}) x.push_back(far);
  std::vector<double> want, slope;
  for (const double v : x) {
    const double phi = 0.5 * std::erfc(-v / std::sqrt(2.0));
    want.push_back(v * phi);
    slope.push_back(phi + v * std::exp(-0.5 * v * v) / std::sqrt(2 * std::acos(-1.0)));
  }
  const Record record = [](const Values& v) { return Values{ops::gelu(v[0], 0, 0)}; };
  const Array a = Array::from<float>({static_cast<int64_t>(x.size())}, x, DType::kFloat32);
  expect_near(run_ops(record, {a})[0], want, 4e-7, 2e-7, "gelu");
  expect_near(gradients_of(record, {a})[0], slope, 4e-7, 2e-7, "gelu_grad");
  const Array bad = Array::from<float>({2}, std::vector<float>{NAN, INFINITY}, DType::kFloat32);
  expect_near(run_ops(record, {bad})[0], {NAN, INFINITY}, 0, 0, "gelu of what is not finite");
}

}  // namespace trireme::test
