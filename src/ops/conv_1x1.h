// Convolutions of one tap in float32 are matrix products: cuBLASLt's are up to three times as fast
// as the engines that cuDNN has for them without tensor cores.
#pragma once

#include <vector>

#include "device/cpu/conv.h"
#include "ops/cuda_choice.h"

namespace trireme::cuda {

// Operands by their places among the node's inputs; -1: absent.
struct Conv1x1 {
  const Node* conv = nullptr;  // conv2d, or conv2d_transpose
  const Type* result = nullptr;
  int x = 0, weight = 1, bias = -1, residual = -1;
  const Type* residual_type = nullptr;
  cpu::Epilogue epilogue;
};

// The product, behind copies where strides skip pixels; empty where it does not serve: other types
// than float32, larger kernels, groups, padding, pictures that are not channels-last.
std::vector<Alternative> conv_1x1(const Prepare& p, const Conv1x1& c);
// The gradient by the weights, of `conv`'s geometry: inputs are x and dy.
std::vector<Alternative> conv_1x1_wgrad(const Prepare& p, const cpu::ConvSpec& conv);

}  // namespace trireme::cuda
