// The end of every bfloat16 kernel: float32 accumulators -> bias, activation, residual -> bfloat16.
#pragma once

#include <cstdint>

#include "device/cpu/conv.h"

namespace trireme::cpu::bf16 {

// A block of at most 32 columns (channels) and any number of rows (pixels).
struct EpilogueBlock {
  const float* acc;  // row r at acc + r * acc_ld, 64-byte aligned
  int64_t acc_ld;
  int64_t rows, cols;
  const float* bias;         // of the first column, or null
  const uint16_t* residual;  // of the first element; unused when the epilogue has none
  int64_t ldr;
  uint16_t* y;
  int64_t ldy;
};

using EpilogueFn = void (*)(const Epilogue&, const EpilogueBlock&);

// `split` blocks hold columns 0, 2, .. 30 in their first 16 floats and 1, 3, .. 31 in the rest.
EpilogueFn find_epilogue(Act act, bool split);

}  // namespace trireme::cpu::bf16
