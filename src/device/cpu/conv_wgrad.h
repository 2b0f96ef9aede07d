// The gradient of a convolution with respect to its weights, on channels-last data.
#pragma once

#include <memory>

#include "device/cpu/conv.h"

namespace trireme::cpu {

// dw[o, c, ky, kx] = sum over images and pixels of dy[.., o] x[.. window .., c].
class ConvWgrad {
 public:
  virtual ~ConvWgrad() = default;
  // x and dy have the spec's dtype and geometry; dw is float32 in Paddle's layout
  // [oc, ic / groups, kh, kw] and is overwritten. `scratch`: scratch_bytes(), 64-byte aligned.
  virtual void run(const void* x, const void* dy, float* dw, void* scratch) const = 0;
  virtual size_t scratch_bytes() const = 0;

  // Ours for AVX-512, else oneDNN's. `spec` is that of the forward convolution, float32 or
  // bfloat16, not transposed, not planar, with dense pixels.
  static std::unique_ptr<ConvWgrad> create(const ConvSpec& spec);
};

std::unique_ptr<ConvWgrad> dnn_conv_wgrad(const ConvSpec& spec);  // dnn.cpp

}  // namespace trireme::cpu
