// Transposed convolutions to few channels (gradients of a network's first convolutions): lanes that
// hold output channels alone would be mostly empty, so they hold a kernel row's taps as well.
#pragma once

#include <cstdint>
#include <memory>

#include "device/cpu/conv.h"

namespace trireme::cpu::f32 {

// Whether weights are packed for it; no matter how large the picture is.
bool is_narrow(const ConvSpec& spec);
std::unique_ptr<Conv> make_narrow(const ConvSpec& spec, const Epilogue& epilogue);
size_t narrow_packed_bytes(const ConvSpec& spec);
void narrow_pack(const ConvSpec& spec, const float* weight, void* packed);

struct NarrowImage {
  int64_t h, w, ic, ldx;  // input
  int64_t oc, kh, width;  // width: taps of a kernel's row times oc, at most 32
  int64_t row;            // elements between rows of the output
};
// Adds an image's result to y. weight: [kh][ic][width rounded up to 16], zeros at the end.
void narrow_image(const NarrowImage& a, const float* x, const float* weight, float* y);

}  // namespace trireme::cpu::f32
