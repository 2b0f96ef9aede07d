// Softmax of contiguous rows: the vector forms that softmax.cpp chooses from at plan time.
#pragma once

#include <cstdint>

namespace trireme {

// y = softmax(x) of `rows` rows of `n` elements, in place allowed; `log`: log_softmax. bfloat16
// comes as its bits.
void softmax_rows_avx512(const float* x, float* y, int64_t rows, int64_t n, bool log);
void softmax_rows_avx512(const uint16_t* x, uint16_t* y, int64_t rows, int64_t n, bool log);

// One row, and the logarithm of its sum of exponentials as max + log_sum. Not in place.
void softmax_row_avx512(const float* x, float* y, int64_t n, float& max, float& log_sum);

// Attention's row, in place: x = softmax(x * scale + mask); mask: null, or n elements `step` (0 or
// 1) apart. Returns the logarithm of the sum of the exponentials before the division.
float attention_row_avx512(float* x, int64_t n, float scale, const float* mask, int64_t step);

}  // namespace trireme
