// Activations.
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "runtime/call.h"
#include "trireme/nn_functional.h"

namespace trireme::nn::functional {
namespace {

using Unary = Value* (*)(Value*, double, double);

Tensor apply(Unary f, const Tensor& x, double alpha = 0, double beta = 0) {
  return call([&](Value* v) { return f(v, alpha, beta); }, x);
}

}  // namespace

Tensor relu(const Tensor& x) { return apply(ops::relu, x); }
Tensor relu6(const Tensor& x) { return apply(ops::relu6, x); }
Tensor leaky_relu(const Tensor& x, double slope) { return apply(ops::leaky_relu, x, slope); }
Tensor elu(const Tensor& x, double alpha) { return apply(ops::elu, x, alpha); }
Tensor celu(const Tensor& x, double alpha) {
  TRI_CHECK(alpha != 0, "[celu] alpha expects another number than 0");
  return apply(ops::celu, x, alpha);
}
Tensor selu(const Tensor& x, double scale, double alpha) {
  return apply(ops::selu, x, scale, alpha);
}
Tensor gelu(const Tensor& x, bool approximate) {
  return apply(approximate ? ops::gelu_tanh : ops::gelu, x);
}
Tensor silu(const Tensor& x) { return apply(ops::swish, x, 1); }
Tensor swish(const Tensor& x) { return apply(ops::swish, x, 1); }
Tensor mish(const Tensor& x) { return apply(ops::mish, x); }
Tensor hardswish(const Tensor& x) { return apply(ops::hardswish, x); }
Tensor hardsigmoid(const Tensor& x, double slope, double offset) {
  return apply(ops::hardsigmoid, x, slope, offset);
}
Tensor hardtanh(const Tensor& x, double min, double max) { return clip(x, min, max); }
Tensor hardshrink(const Tensor& x, double threshold) {
  return apply(ops::hardshrink, x, threshold);
}
Tensor softshrink(const Tensor& x, double threshold) {
  return apply(ops::softshrink, x, threshold);
}
Tensor tanhshrink(const Tensor& x) { return apply(ops::tanhshrink, x); }
Tensor thresholded_relu(const Tensor& x, double threshold, double value) {
  return apply(ops::thresholded_relu, x, threshold, value);
}
Tensor softplus(const Tensor& x, double beta, double threshold) {
  return apply(ops::softplus, x, beta, threshold);
}
Tensor softsign(const Tensor& x) { return apply(ops::softsign, x); }
Tensor log_sigmoid(const Tensor& x) { return apply(ops::logsigmoid, x); }

Tensor prelu(const Tensor& x, const Tensor& weight) {
  TRI_CHECK(weight.numel() == 1 || (x.ndim() >= 2 && weight.numel() == x.size(1)),
            "[prelu] weight expects one number, or one for each channel of " + x.shape().str() +
                ", got " + weight.shape().str());
  Ints shape(static_cast<size_t>(std::max(x.ndim(), 1)), 1);
  if (weight.numel() > 1) shape[1] = weight.numel();
  return call([](Value* v, Value* w) { return ops::prelu(v, w); }, x, reshape(weight, shape));
}

Tensor glu(const Tensor& x, int64_t axis) {
  const std::vector<Tensor> half = chunk(x, 2, axis);
  return half[0] * sigmoid(half[1]);
}
Tensor swiglu(const Tensor& x, const Tensor& y) {
  if (y.defined()) return silu(x) * y;
  const std::vector<Tensor> half = chunk(x, 2, -1);
  return silu(half[0]) * half[1];
}

Tensor softmax(const Tensor& x, int64_t axis) {
  return call([&](Value* v) { return ops::softmax(v, axis); }, x);
}
Tensor log_softmax(const Tensor& x, int64_t axis) {
  return call([&](Value* v) { return ops::log_softmax(v, axis); }, x);
}

Tensor activation(const std::string& name, const Tensor& x) {
  struct Entry {
    const char* name;
    Tensor (*f)(const Tensor&);
  };
  static constexpr Entry entries[] = {
      {"relu", [](const Tensor& t) { return relu(t); }},
      {"relu6", [](const Tensor& t) { return relu6(t); }},
      {"leaky_relu", [](const Tensor& t) { return leaky_relu(t); }},
      {"elu", [](const Tensor& t) { return elu(t); }},
      {"selu", [](const Tensor& t) { return selu(t); }},
      {"gelu", [](const Tensor& t) { return gelu(t); }},
      {"silu", [](const Tensor& t) { return silu(t); }},
      {"swish", [](const Tensor& t) { return swish(t); }},
      {"mish", [](const Tensor& t) { return mish(t); }},
      {"hardswish", [](const Tensor& t) { return hardswish(t); }},
      {"hardsigmoid", [](const Tensor& t) { return hardsigmoid(t); }},
      {"sigmoid", [](const Tensor& t) { return sigmoid(t); }},
      {"tanh", [](const Tensor& t) { return tanh(t); }},
      {"softplus", [](const Tensor& t) { return softplus(t); }},
      {"softsign", [](const Tensor& t) { return softsign(t); }},
      {"", [](const Tensor& t) { return t; }},
  };
  for (const Entry& e : entries)
    if (name == e.name) return e.f(x);
  fail(Code::kInvalidArgument, "[activation] there is no activation '" + name + "'");
}

}  // namespace trireme::nn::functional
