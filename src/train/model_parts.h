// What several networks are made of.
#pragma once

#include <string>

#include "trireme/nn.h"

namespace trireme::models {

// v rounded to a multiple of `divisor`, by less than a tenth downwards.
int64_t make_divisible(double v, int64_t divisor = 8);

struct ConvNorm {
  nn::Sizes stride = 1;
  int64_t groups = 1;
  std::string activation = "relu";  // "relu6", "hardswish", "" for none
  nn::BatchNormOptions norm{};
};
// Paddle's ConvNormActivation: a convolution without bias under "0", batch norm "1", activation.
nn::Sequential conv_norm(int64_t in, int64_t out, int64_t kernel, const ConvNorm& options = {});

}  // namespace trireme::models
