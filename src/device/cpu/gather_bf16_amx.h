// Copies what a block of output pixels sees into A tiles, for shapes whose activations cannot be
// loaded as tiles where they lie: odd channel counts, planar input, narrow pictures, scaled input.
#pragma once

#include <cstdint>

#include "device/cpu/gemm_bf16_amx.h"

namespace trireme::cpu::bf16 {

constexpr int64_t kTileElements = kTile * kMaxStep;  // a gathered tile: 16 rows of 64 bytes
constexpr int64_t kMaxJoined = 1536;                 // longest K of a joined layout

struct GatherJob {
  const ConvSpec* spec;
  const KLayout* layout;
  const uint16_t* x;
  int64_t group;
  const float* input_scale;  // [n, ic], or null
  uint16_t* lines;           // planar input only: line_bytes() for each task
};

// Bytes of `lines` for gather() calls of at most `pixels`.
int64_t line_bytes(const ConvSpec& spec, int64_t pixels);

// Output pixels [first, first + count) of the whole batch into tiles [pixel / 16][step]; K beyond
// the channels is zero, rows beyond `count` are left as they were.
void gather(const GatherJob& job, int64_t first, int64_t count, uint16_t* tiles);

// The A tile of up to 16 output pixels at one tap, rows of `channels` elements one after another.
struct Place {
  int64_t image, y, x;  // input row (inside the picture) and the first pixel's input column
};
void copy_tap(const ConvSpec& spec, const uint16_t* x, int64_t first_channel, int64_t channels,
              const Place& place, int64_t pixels, uint16_t* out);

}  // namespace trireme::cpu::bf16
