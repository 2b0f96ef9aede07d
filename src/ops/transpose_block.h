// Transposition of a block that fits the cache, with vectors.
#pragma once

#include <cstdint>

namespace trireme {

// dst[c * dst_stride + r] = src[r * src_stride + c] for r < rows, c < columns.
void transpose_block_avx512(const uint32_t* src, int64_t src_stride, uint32_t* dst,
                            int64_t dst_stride, int64_t rows, int64_t columns);
void transpose_block_avx512(const uint16_t* src, int64_t src_stride, uint16_t* dst,
                            int64_t dst_stride, int64_t rows, int64_t columns);

}  // namespace trireme
