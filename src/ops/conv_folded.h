// Convolutions of few channels and stride 2, folded: four neighbouring pixels become one of four
// times the channels, the kernel half as high and wide, the stride 1. Tensor cores that take
// channels in fours of float32 then have twelve of them to multiply, where a first convolution
// gives them three and a zero. The products are the same ones, and some by zero.
#pragma once

#include <array>
#include <vector>

#include "device/cpu/conv.h"
#include "ops/cuda_choice.h"

namespace trireme::cuda {

struct Folding {
  cpu::ConvSpec spec;             // the convolution; dtype is not looked at
  std::array<int64_t, 4> x{};     // strides of the picture as it lies: n, c, h, w, in elements
  int64_t channels = 0;           // of the folded picture: 4 * spec.ic, or more, with zeros
  std::array<int64_t, 2> size{};  // of the folded picture
  std::array<int64_t, 2> kernel{};
  std::array<int64_t, 2> before{};  // folded zeros in front: the copy has the padding
  std::array<int64_t, 2> shift{};   // where in the first folded pixels the kernel begins

  Folding() = default;
  Folding(const cpu::ConvSpec& spec, const std::array<int64_t, 4>& x, int64_t channels);

  // [n, size, channels], from float32.
  size_t picture_bytes() const;
  void fold_picture(const void* x, void* folded, void* stream) const;
  // [oc, kernel, channels] from and to [oc, ic, kh, kw], all float32.
  size_t weight_bytes() const;
  void fold_weight(const void* weight, void* folded, void* stream) const;
  void unfold_weight(const void* folded, void* weight, void* stream) const;
};

// cuDNN's convolution of a folded picture, with TF32, in each way that is worth timing: twelve
// channels, or sixteen. Empty where it does not serve, and for constant weights. `x`, `weight`:
// places among the node's inputs.
std::vector<Alternative> folded_conv(const Prepare& p, const Node& conv, const Type& result, int x,
                                     int weight);
std::vector<Alternative> folded_conv_wgrad(const Prepare& p, const cpu::ConvSpec& conv);

// Whether folding is possible: stride 2, no dilation, no groups, up to four channels.
bool may_fold(const cpu::ConvSpec& spec);

}  // namespace trireme::cuda
