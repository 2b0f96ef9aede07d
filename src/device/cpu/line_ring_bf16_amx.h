// The first convolution of a picture: few channels, a wide window (7x7/2 of ResNet).
//
// Input rows are copied into lines of pixels with four channels each, zeros around them. What a row
// of the window sees lies side by side then, and is one step of K; the windows of 16 neighbouring
// outputs are a tile whose rows overlap. Nothing is gathered: a line serves all windows over it.
#pragma once

#include <cstdint>

#include "device/cpu/gemm_bf16_amx.h"

namespace trireme::cpu::bf16 {

constexpr int64_t kLineChannels = 4;
constexpr int64_t kMostLines = 16;  // rows of a window

// Whether a row of the window fills most of one step of K.
bool serves_lines(const ConvSpec& spec);

// The lines under one window, for one thread: input row y is line y mod kh.
struct LineRing {
  uint16_t* memory = nullptr;     // ring_bytes()
  int64_t held[kMostLines] = {};  // which row of the batch a line holds, plus one
};
int64_t ring_bytes(const ConvSpec& spec);

// Pixel -left of an input row (inside the picture), from the ring or made now; as long as the tiles
// of an output row read.
const uint16_t* line_of(const ConvSpec& spec, const uint16_t* x, int64_t image, int64_t y,
                        LineRing& ring);

}  // namespace trireme::cpu::bf16
