// Convolutions of few pixels, as of one picture, by a kernel of our own: library kernels leave most
// of a GPU idle there and start one after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "trireme/types.h"

namespace trireme::cuda {

// y = relu(x * weight + residual + bias), rounded once. Pictures are channels-last, weights
// [o, kh, kw, c]; groups and dilations are 1; c and o are multiples of 8.
struct FewPixelsConv {
  DType dtype = DType::kFloat16;  // or bfloat16; the bias is of float32
  int n = 0, h = 0, w = 0, c = 0, oh = 0, ow = 0, o = 0;
  int kh = 1, kw = 1, stride_h = 1, stride_w = 1, top = 0, left = 0;
  bool relu = false;

  int64_t pixels() const { return int64_t{n} * oh * ow; }
  int64_t terms() const { return int64_t{kh} * kw * c; }  // of each sum
};

// How the work is cut: a block makes a tile of `rows` pixels by `columns` channels, or does so
// together with others, each of which adds up a part of the terms (split: 1, 2, 4 or 8).
struct FewPixelsTiling {
  int rows = 0, columns = 0, split = 1;
  std::string str() const;  // "64x32/4"
};

// All tilings that compute it; none: the kernel does not serve, whatever the device.
std::vector<FewPixelsTiling> few_pixels_tilings(const FewPixelsConv& conv);
// Those worth timing on a device with so many multiprocessors: 24 at most.
std::vector<FewPixelsTiling> likely_tilings(const FewPixelsConv& conv, int multiprocessors);

// 16-byte aligned, on the device. Weight and bias must be constants: they are read while the kernel
// in front still runs. The bias and the residual may be null; y may be the residual.
struct FewPixelsArgs {
  const void *x = nullptr, *weight = nullptr, *bias = nullptr, *residual = nullptr;
  void* y = nullptr;
};

// The convolution on the active device, of compute capability 9.0 or newer; null where it has too
// little shared memory for the tiling.
using FewPixelsKernel = std::function<void(const FewPixelsArgs&, void* stream)>;
FewPixelsKernel few_pixels_kernel(const FewPixelsConv& conv, const FewPixelsTiling& tiling);

}  // namespace trireme::cuda
