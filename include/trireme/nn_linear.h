// Layers that other layers are made of: Linear, LayerNorm, Dropout.
#pragma once

#include <string>

#include "trireme/layer.h"
#include "trireme/nn_functional.h"

namespace trireme::nn {

struct LinearOptions {
  ParamAttr weight_attr{}, bias_attr{};
};
// weight [in, out], Xavier uniform; bias [out], zeros.
struct Linear : Layer {
  Tensor weight, bias;
  Linear(int64_t in_features, int64_t out_features, const LinearOptions& options = {});
  Tensor forward(const Tensor& x) override { return functional::linear(x, weight, bias); }
};

struct LayerNormOptions {
  double epsilon = 1e-5;
  ParamAttr weight_attr{}, bias_attr{};
};
// weight and bias have the normalised elements, flat: Paddle's [product of normalized_shape].
struct LayerNorm : Layer {
  Tensor weight, bias;
  explicit LayerNorm(const Sizes& shape, const LayerNormOptions& options = {});
  Tensor forward(const Tensor& x) override {
    return functional::layer_norm(x, normalized_shape, weight, bias, epsilon);
  }
  Ints normalized_shape;
  double epsilon;
};

struct DropoutOptions {
  Ints axis{};
  std::string mode = "upscale_in_train";
};
struct Dropout : Layer {
  double p;
  DropoutOptions o;
  explicit Dropout(double probability = 0.5, const DropoutOptions& options = {})
      : Layer("dropout"), p(probability), o(options) {}
  Tensor forward(const Tensor& x) override {
    return functional::dropout(x, p, o.axis, training(), o.mode);
  }
};

}  // namespace trireme::nn
