// What the random operators' kernels share: the state as a stream, blocks over the threads.
#pragma once

#include "base/parallel.h"
#include "ops/elements.h"
#include "ops/random_rows.h"

namespace trireme {

inline void check_state(const Infer& i, size_t k) {
  TRI_CHECK(i.dtype(k) == DType::kInt64 && i.shape(k) == Shape{2},
            message(i.op.name, "state expects int64[2], got ", i.type(k).str()));
}

inline RandomStream stream_of(const Launch& l, size_t state, int64_t index) {
  const auto* s = l.input<int64_t>(state);
  return {static_cast<uint64_t>(s[0]), static_cast<uint64_t>(s[1]), static_cast<uint32_t>(index)};
}

// f(first element, count, numbers) for each block of [0, n).
template <class F> void for_random_blocks(const RandomStream& s, int64_t n, F f) {
  const RandomRows& rows = random_rows();
  const int64_t blocks = (n + kRandomBlock - 1) / kRandomBlock;
  parallel_for(blocks, grain_of(4 * kRandomBlock), [&](int64_t begin, int64_t end, int) {
    uint32_t numbers[kRandomBlock];
    for (int64_t b = begin; b < end; ++b) {
      rows.block(s, static_cast<uint64_t>(b), numbers);
      f(b * kRandomBlock, std::min(kRandomBlock, n - b * kRandomBlock), numbers);
    }
  });
}

}  // namespace trireme
