// layer_norm of contiguous rows with AVX-512.
#include "ops/layer_norm_rows.h"

#include "ops/avx512.h"

namespace trireme {
namespace {

template <class T> float row_sum(const T* x, int64_t n) {
  Vector a = _mm512_setzero_ps(), b = a;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    a = _mm512_add_ps(a, load(x + i, 0xffff));
    b = _mm512_add_ps(b, load(x + i + 16, 0xffff));
  }
  for (; i < n; i += 16) a = _mm512_add_ps(a, load(x + i, lanes(n - i)));
  return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

template <class T> float row_squares(const T* x, int64_t n, float mean) {
  const Vector m = _mm512_set1_ps(mean);
  Vector a = _mm512_setzero_ps(), b = a;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const Vector d = _mm512_sub_ps(load(x + i, 0xffff), m),
                 e = _mm512_sub_ps(load(x + i + 16, 0xffff), m);
    a = _mm512_fmadd_ps(d, d, a);
    b = _mm512_fmadd_ps(e, e, b);
  }
  for (; i < n; i += 16) {
    const __mmask16 k = lanes(n - i);
    const Vector d = _mm512_maskz_sub_ps(k, load(x + i, k), m);
    a = _mm512_fmadd_ps(d, d, a);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

template <class T>
void layer_norm_rows(const T* x, const float* scale, const float* bias, T* y, int64_t rows,
                     int64_t n, float epsilon) {
  const Vector one = _mm512_set1_ps(1.f), zero = _mm512_setzero_ps();
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    const float mean = row_sum(x, n) / static_cast<float>(n);
    const float variance = row_squares(x, n, mean) / static_cast<float>(n);
    const Vector m = _mm512_set1_ps(mean),
                 f = _mm512_set1_ps(1.f / __builtin_sqrtf(variance + epsilon));
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 k = lanes(n - i);
      const Vector s = scale ? load(scale + i, k) : one, b = bias ? load(bias + i, k) : zero;
      store(y + i, k, _mm512_fmadd_ps(_mm512_mul_ps(_mm512_sub_ps(load(x + i, k), m), f), s, b));
    }
  }
}

}  // namespace

void layer_norm_rows_avx512(const float* x, const float* scale, const float* bias, float* y,
                            int64_t rows, int64_t n, float epsilon) {
  layer_norm_rows(x, scale, bias, y, rows, n, epsilon);
}
void layer_norm_rows_avx512(const uint16_t* x, const float* scale, const float* bias, uint16_t* y,
                            int64_t rows, int64_t n, float epsilon) {
  layer_norm_rows(x, scale, bias, y, rows, n, epsilon);
}

}  // namespace trireme
