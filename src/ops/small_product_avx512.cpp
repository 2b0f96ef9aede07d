// Small products: b is packed into rows of whole vectors, then blocks of 4 rows by up to 4 vectors
// of c stay in registers.
#include "ops/avx512.h"
#include "ops/small_product.h"
#include "ops/transpose_block.h"

namespace trireme {
namespace {

template <int kRows, int kVectors>
void block(const SmallProduct& s, const float* a, const float* b, int64_t b_pitch,
           const float* bias, float* c, int64_t columns) {
  __m512 sum[kRows][kVectors];
  const auto mask_of = [&](int v) {
    const int64_t left = columns - 16 * v;
    return static_cast<__mmask16>(left >= 16 ? 0xffff : (1u << left) - 1u);
  };
  for (int v = 0; v < kVectors; ++v) {
    const __m512 start =
        bias ? _mm512_maskz_loadu_ps(mask_of(v), bias + 16 * v) : _mm512_setzero_ps();
    for (int r = 0; r < kRows; ++r) sum[r][v] = start;
  }
  for (int64_t l = 0; l < s.k; ++l) {
    __m512 row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = _mm512_load_ps(b + l * b_pitch + 16 * v);
    for (int r = 0; r < kRows; ++r) {
      const __m512 x = _mm512_set1_ps(a[r * s.a_row + l * s.a_column]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_fmadd_ps(x, row[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v)
      _mm512_mask_storeu_ps(c + r * s.c_row + 16 * v, mask_of(v), sum[r][v]);
}

template <int kVectors>
void columns_of(const SmallProduct& s, const float* a, const float* b, int64_t b_pitch,
                const float* bias, float* c, int64_t columns) {
  int64_t i = 0;
  for (; i + 4 <= s.m; i += 4)
    block<4, kVectors>(s, a + i * s.a_row, b, b_pitch, bias, c + i * s.c_row, columns);
  for (; i < s.m; ++i)
    block<1, kVectors>(s, a + i * s.a_row, b, b_pitch, bias, c + i * s.c_row, columns);
}

}  // namespace

void small_product_avx512(const SmallProduct& s, const float* a, const float* b, const float* bias,
                          float* packed, float* c) {
  const int64_t pitch = (s.n + 15) / 16 * 16;  // as packed_floats, which stays out of this file
  const bool turned = s.b_row == 1 && s.b_column != 1;
  if (turned)
    transpose_block_avx512(reinterpret_cast<const uint32_t*>(b), s.b_column,
                           reinterpret_cast<uint32_t*>(packed), pitch, s.n, s.k);
  for (int64_t l = 0; l < s.k; ++l) {
    float* row = packed + l * pitch;
    if (!turned)
      for (int64_t j = 0; j < s.n; ++j) row[j] = b[l * s.b_row + j * s.b_column];
    for (int64_t j = s.n; j < pitch; ++j) row[j] = 0;
  }
  for (int64_t j = 0; j < s.n; j += 64) {
    const int64_t columns = s.n - j < 64 ? s.n - j : 64;
    const float* start = bias ? bias + j : nullptr;
    const int64_t vectors = (columns + 15) / 16;
    if (vectors == 4) columns_of<4>(s, a, packed + j, pitch, start, c + j, columns);
    else if (vectors == 3) columns_of<3>(s, a, packed + j, pitch, start, c + j, columns);
    else if (vectors == 2) columns_of<2>(s, a, packed + j, pitch, start, c + j, columns);
    else columns_of<1>(s, a, packed + j, pitch, start, c + j, columns);
  }
}

}  // namespace trireme
