// Depthwise convolution of bfloat16 pictures, accumulated in float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cpu/epilogue_bf16_amx.h"

namespace trireme::cpu::bf16 {

// Packed weights: [32 channels][tap][32] floats, even channels before odd ones; when at most 16
// channels are left at the end, [tap][16] in their order.
size_t packed_depthwise_bytes(const ConvSpec& spec);
void pack_depthwise(const ConvSpec& spec, const float* weight, void* packed);

struct DepthwiseArgs {
  const uint16_t* x;
  const float* weight;
  const float* bias;         // or null
  const uint16_t* residual;  // laid out by output pixel, or null
  int64_t ldr;
};

class Depthwise {
 public:
  Depthwise(const ConvSpec& spec, const Epilogue& epilogue);
  // Output pixels [begin, end) of the whole batch; pixel `begin` goes to y.
  void run(const DepthwiseArgs& args, int64_t begin, int64_t end, uint16_t* y, int64_t ldy) const;

  struct Block;
  using BlockFn = void (*)(const Block&, float* acc);

 private:
  ConvSpec spec_;
  Epilogue epilogue_;
  EpilogueFn finish_, finish_half_;
  // For many or few columns, inside the picture or with checks, 32 channels or at most 16.
  BlockFn block_[2][2][2];  // [few][checked][half]
};

}  // namespace trireme::cpu::bf16
