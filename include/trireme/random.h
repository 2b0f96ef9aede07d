// Random tensors of this thread's generator (seed() in trireme/tensor.h), on the current device.
// They stand in plans as operators: each run of a step draws new numbers.
#pragma once

#include "trireme/ops.h"

namespace trireme {

Tensor uniform(const Ints& shape, DType dtype = DType::kFloat32, double min = 0, double max = 1);
Tensor rand(const Ints& shape, DType dtype = DType::kFloat32);             // of [0, 1)
Tensor randn(const Ints& shape, DType dtype = DType::kFloat32);            // normal, 0 and 1
Tensor standard_normal(const Ints& shape, DType dtype = DType::kFloat32);  // randn
Tensor normal(double mean, double std, const Ints& shape, DType dtype = DType::kFloat32);
Tensor randint(int64_t low, int64_t high, const Ints& shape,
               DType dtype = DType::kInt64);  // of [low, high)
Tensor randperm(int64_t n, DType dtype = DType::kInt64);
Tensor bernoulli(const Tensor& x);  // 1 with probability x, else 0
// Classes drawn with weights x [classes] or [N, classes]: int64 [num_samples] or [N, num_samples].
// Without replacement a row needs as many positive weights as are drawn.
Tensor multinomial(const Tensor& x, int64_t num_samples = 1, bool replacement = false);

}  // namespace trireme
