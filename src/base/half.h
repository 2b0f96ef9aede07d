// Scalar conversions of float16 and bfloat16; the vector forms are in the kernels.
#pragma once

#include <bit>
#include <cstdint>

namespace trireme {

inline float bf16_to_float(uint16_t h) {
  return std::bit_cast<float>(static_cast<uint32_t>(h) << 16);
}

inline uint16_t float_to_bf16(float f) {
  const uint32_t u = std::bit_cast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t>((u >> 16) | 0x40);                      // NaN stays NaN
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);  // to nearest even
}

float half_to_float(uint16_t h);
uint16_t float_to_half(float f);

}  // namespace trireme
