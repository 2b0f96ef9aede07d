// Transposition of a block: vectors of 128-bit lanes hold 4x4 (or 8x8) squares, transposed by
// unpacking.
#include "ops/transpose_block.h"

#include "ops/avx512.h"

namespace trireme {
namespace {

constexpr uint64_t mask_of(int64_t n) { return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; }

// Stores lane j of each register as the run of `bytes` bytes at column j * step + k of the
// destination.
template <int K, class T>
inline void store_lanes(__m512i v, T* dst, int64_t dst_stride, int64_t step, int64_t columns,
                        __mmask16 bytes) {
  if (K < columns)
    _mm_mask_storeu_epi8(dst + K * dst_stride, bytes, _mm512_extracti32x4_epi32(v, 0));
  if (K + step < columns)
    _mm_mask_storeu_epi8(dst + (K + step) * dst_stride, bytes, _mm512_extracti32x4_epi32(v, 1));
  if (K + 2 * step < columns)
    _mm_mask_storeu_epi8(dst + (K + 2 * step) * dst_stride, bytes, _mm512_extracti32x4_epi32(v, 2));
  if (K + 3 * step < columns)
    _mm_mask_storeu_epi8(dst + (K + 3 * step) * dst_stride, bytes, _mm512_extracti32x4_epi32(v, 3));
}

// v[k], lane j: the elements of column 4j + k of 4 rows.
inline void square4(const uint32_t* src, int64_t stride, int64_t rows, __mmask16 columns,
                    __m512i* v) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i a = rows > 0 ? _mm512_maskz_loadu_epi32(columns, src) : zero;
  const __m512i b = rows > 1 ? _mm512_maskz_loadu_epi32(columns, src + stride) : zero;
  const __m512i c = rows > 2 ? _mm512_maskz_loadu_epi32(columns, src + 2 * stride) : zero;
  const __m512i d = rows > 3 ? _mm512_maskz_loadu_epi32(columns, src + 3 * stride) : zero;
  const __m512i p = _mm512_unpacklo_epi32(a, b), q = _mm512_unpackhi_epi32(a, b);
  const __m512i r = _mm512_unpacklo_epi32(c, d), s = _mm512_unpackhi_epi32(c, d);
  v[0] = _mm512_unpacklo_epi64(p, r);
  v[1] = _mm512_unpackhi_epi64(p, r);
  v[2] = _mm512_unpacklo_epi64(q, s);
  v[3] = _mm512_unpackhi_epi64(q, s);
}

// Up to 16 rows and columns: whole cache lines are written, so that rows a power of two apart do
// not evict each other.
inline void square16(const uint32_t* src, int64_t stride, uint32_t* dst, int64_t dst_stride,
                     int64_t rows, int64_t columns) {
  __m512i v[4][4];
  for (int64_t g = 0; g < 4; ++g)
    square4(src + 4 * g * stride, stride, rows - 4 * g, lanes(columns), v[g]);
  const __mmask16 out = lanes(rows);
  for (int64_t k = 0; k < 4; ++k) {
    const __m512i a = _mm512_shuffle_i32x4(v[0][k], v[1][k], 0x44),
                  b = _mm512_shuffle_i32x4(v[0][k], v[1][k], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(v[2][k], v[3][k], 0x44),
                  d = _mm512_shuffle_i32x4(v[2][k], v[3][k], 0xee);
    const __m512i column[4] = {_mm512_shuffle_i32x4(a, c, 0x88), _mm512_shuffle_i32x4(a, c, 0xdd),
                               _mm512_shuffle_i32x4(b, d, 0x88), _mm512_shuffle_i32x4(b, d, 0xdd)};
    for (int64_t j = 0; j < 4; ++j)
      if (4 * j + k < columns)
        _mm512_mask_storeu_epi32(dst + (4 * j + k) * dst_stride, out, column[j]);
  }
}

// 8 rows of up to 32 columns.
inline void square8(const uint16_t* src, int64_t stride, uint16_t* dst, int64_t dst_stride,
                    int64_t rows, int64_t columns) {
  const auto in = static_cast<__mmask32>(mask_of(columns < 32 ? columns : 32));
  __m512i v[8], w[8];
  for (int64_t r = 0; r < 8; ++r)
    v[r] = r < rows ? _mm512_maskz_loadu_epi16(in, src + r * stride) : _mm512_setzero_si512();
  for (int r = 0; r < 4; ++r) {
    w[r] = _mm512_unpacklo_epi16(v[2 * r], v[2 * r + 1]);      // columns 0..3 of rows 2r, 2r + 1
    w[r + 4] = _mm512_unpackhi_epi16(v[2 * r], v[2 * r + 1]);  // columns 4..7
  }
  for (int h = 0; h < 8; h += 4) {
    v[h + 0] = _mm512_unpacklo_epi32(w[h], w[h + 1]);
    v[h + 1] = _mm512_unpackhi_epi32(w[h], w[h + 1]);
    v[h + 2] = _mm512_unpacklo_epi32(w[h + 2], w[h + 3]);
    v[h + 3] = _mm512_unpackhi_epi32(w[h + 2], w[h + 3]);
  }
  const auto bytes = static_cast<__mmask16>(mask_of(2 * (rows < 8 ? rows : 8)));
  store_lanes<0>(_mm512_unpacklo_epi64(v[0], v[2]), dst, dst_stride, 8, columns, bytes);
  store_lanes<1>(_mm512_unpackhi_epi64(v[0], v[2]), dst, dst_stride, 8, columns, bytes);
  store_lanes<2>(_mm512_unpacklo_epi64(v[1], v[3]), dst, dst_stride, 8, columns, bytes);
  store_lanes<3>(_mm512_unpackhi_epi64(v[1], v[3]), dst, dst_stride, 8, columns, bytes);
  store_lanes<4>(_mm512_unpacklo_epi64(v[4], v[6]), dst, dst_stride, 8, columns, bytes);
  store_lanes<5>(_mm512_unpackhi_epi64(v[4], v[6]), dst, dst_stride, 8, columns, bytes);
  store_lanes<6>(_mm512_unpacklo_epi64(v[5], v[7]), dst, dst_stride, 8, columns, bytes);
  store_lanes<7>(_mm512_unpackhi_epi64(v[5], v[7]), dst, dst_stride, 8, columns, bytes);
}

}  // namespace

void transpose_block_avx512(const uint32_t* src, int64_t src_stride, uint32_t* dst,
                            int64_t dst_stride, int64_t rows, int64_t columns) {
  for (int64_t c = 0; c < columns; c += 16)
    for (int64_t r = 0; r < rows; r += 16)
      square16(src + r * src_stride + c, src_stride, dst + c * dst_stride + r, dst_stride, rows - r,
               columns - c);
}

void transpose_block_avx512(const uint16_t* src, int64_t src_stride, uint16_t* dst,
                            int64_t dst_stride, int64_t rows, int64_t columns) {
  for (int64_t c = 0; c < columns; c += 32)
    for (int64_t r = 0; r < rows; r += 8)
      square8(src + r * src_stride + c, src_stride, dst + c * dst_stride + r, dst_stride, rows - r,
              columns - c);
}

}  // namespace trireme
