// Sums of columns: the vector form that reductions and global pools over pixels use in
// channels-last.
#pragma once

#include <cstdint>

namespace trireme {

// sum[c] += x[r * stride + c] for r < rows, c < n. bfloat16 comes as its bits.
void add_rows_avx512(const float* x, int64_t rows, int64_t n, int64_t stride, float* sum);
void add_rows_avx512(const uint16_t* x, int64_t rows, int64_t n, int64_t stride, float* sum);

}  // namespace trireme
