// layer_norm of contiguous rows: the vector forms that layer_norm.cpp chooses from at plan time.
#pragma once

#include <cstdint>

namespace trireme {

// y = (x - mean) / sqrt(variance + epsilon) * scale + bias of `rows` rows of n elements, in place
// allowed; scale and bias have n elements or are null. bfloat16 comes as its bits.
void layer_norm_rows_avx512(const float* x, const float* scale, const float* bias, float* y,
                            int64_t rows, int64_t n, float epsilon);
void layer_norm_rows_avx512(const uint16_t* x, const float* scale, const float* bias, uint16_t* y,
                            int64_t rows, int64_t n, float epsilon);

}  // namespace trireme
