// Philox 4x32-10 (Salmon et al., SC 2011), 64 numbers at a time; the same numbers on every
// processor.
#pragma once

#include <cstdint>

namespace trireme {

// Element e of a stream is number e % 64 of block e / 64.
constexpr int64_t kRandomBlock = 64;

struct RandomStream {
  uint64_t seed, offset;
  uint32_t index;
};

struct RandomRows {
  void (*block)(const RandomStream& s, uint64_t block, uint32_t* numbers);  // 64 of them
  // y = number >= threshold ? x * scale : 0 for n elements from the start of `block` on.
  void (*dropout)(const RandomStream& s, uint64_t block, uint32_t threshold, float scale,
                  const float* x, float* y, int64_t n);
};

const RandomRows& random_rows_avx512();
const RandomRows& random_rows_baseline();
const RandomRows& random_rows();  // the best for this processor

}  // namespace trireme
