// Products of small matrices, one at a time: where a library's start costs more than the work.
#pragma once

#include <cstdint>

namespace trireme {

// c[i][j] = sum over l of a[i][l] b[l][j] (+ bias[j]), float32. Strides in elements; c's columns
// are contiguous. `packed` holds packed_floats(k, n), 64-byte aligned.
struct SmallProduct {
  int64_t m, n, k;
  int64_t a_row, a_column, b_row, b_column, c_row;
};

inline int64_t packed_floats(int64_t k, int64_t n) { return k * ((n + 15) / 16 * 16); }

void small_product_avx512(const SmallProduct& s, const float* a, const float* b, const float* bias,
                          float* packed, float* c);

}  // namespace trireme
