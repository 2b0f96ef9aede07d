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
                    return Values{where(greater_than(x[0], scalar(0, x[0]->type.dtype)), x[1],
                                        x[2])};
                  },
                  {noise({2, 3, 2, 3}, 4), noise({2, 3, 2, 3}, 5), noise({3, 1, 1}, 6)},
                  {.fixed = {0}}});
  list.push_back({"cast there and back",
                  [](const Values& x) { return Values{cast(cast(x[0], DType::kFloat64),
                                                           x[0]->type.dtype)}; },
                  {noise({2, 3})}});
  return list;
}

const SampleList smooth_list(smooth), kink_list(with_kinks), binary_list(binary);

}  // namespace

TEST(Gradient, Smooth) { smooth_list.check(); }
TEST(Gradient, WithKinks) { kink_list.check(); }
TEST(Gradient, Binary) { binary_list.check(); }

}  // namespace trireme::test
