// Random tensors of the current generator, as tensors' functions.
#pragma once

#include <string>

#include "trireme/ops.h"

namespace trireme::nn {

// The dropout operator (ops/random.h): one choice for each place of the dimensions in `axis`, of
// all when that is empty.
Tensor random_dropout(const Tensor& x, double p, const Ints& axis = {},
                      const std::string& mode = "upscale_in_train");

// Uniform numbers of x's shape, dtype and device.
Tensor random_uniform(const Tensor& x, double min, double max);

}  // namespace trireme::nn
