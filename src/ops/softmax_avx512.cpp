// Softmax of contiguous rows with AVX-512.
#include "ops/avx512.h"
#include "ops/softmax_rows.h"

namespace trireme {
namespace {

template <class T> float row_max(const T* x, int64_t n) {
  const Vector low = _mm512_set1_ps(-__builtin_inff());
  Vector a = low, b = low;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    a = _mm512_max_ps(a, load(x + i, 0xffff));
    b = _mm512_max_ps(b, load(x + i + 16, 0xffff));
  }
  for (; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    a = _mm512_mask_max_ps(a, m, a, load(x + i, m));
  }
  return _mm512_reduce_max_ps(_mm512_max_ps(a, b));
}

// exp(x - max), written to `keep` when it is float, and its sum.
float row_exp(const float* x, float* keep, int64_t n, float max) {
  const Vector top = _mm512_set1_ps(max);
  Vector a = _mm512_setzero_ps(), b = a;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const Vector e = exp(_mm512_sub_ps(load(x + i, 0xffff), top));
    const Vector f = exp(_mm512_sub_ps(load(x + i + 16, 0xffff), top));
    if (keep) {
      store(keep + i, 0xffff, e);
      store(keep + i + 16, 0xffff, f);
    }
    a = _mm512_add_ps(a, e);
    b = _mm512_add_ps(b, f);
  }
  for (; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    const Vector e = exp(_mm512_sub_ps(load(x + i, m), top));
    if (keep) store(keep + i, m, e);
    a = _mm512_mask_add_ps(a, m, a, e);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

float row_exp(const uint16_t* x, uint16_t*, int64_t n, float max) {
  const Vector top = _mm512_set1_ps(max);
  Vector a = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    a = _mm512_mask_add_ps(a, m, a, exp(_mm512_sub_ps(load(x + i, m), top)));
  }
  return _mm512_reduce_add_ps(a);
}

void row_scale(const float*, float* y, int64_t n, float, float factor) {
  const Vector f = _mm512_set1_ps(factor);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    store(y + i, m, _mm512_mul_ps(load(y + i, m), f));
  }
}

// A second exp is cheaper than a row of floats beside the bfloat16 row.
void row_scale(const uint16_t* x, uint16_t* y, int64_t n, float max, float factor) {
  const Vector f = _mm512_set1_ps(factor), top = _mm512_set1_ps(max);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    store(y + i, m, _mm512_mul_ps(exp(_mm512_sub_ps(load(x + i, m), top)), f));
  }
}

template <class T> void row_shift(const T* x, T* y, int64_t n, float shift) {
  const Vector s = _mm512_set1_ps(shift);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    store(y + i, m, _mm512_sub_ps(load(x + i, m), s));
  }
}

template <class T> void softmax_rows(const T* x, T* y, int64_t rows, int64_t n, bool log) {
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    const float max = row_max(x, n);
    if (log) {
      row_shift(x, y, n, max + __builtin_logf(row_exp(x, static_cast<T*>(nullptr), n, max)));
    } else {
      row_scale(x, y, n, max, 1.f / row_exp(x, y, n, max));
    }
  }
}

}  // namespace

void softmax_rows_avx512(const float* x, float* y, int64_t rows, int64_t n, bool log) {
  softmax_rows(x, y, rows, n, log);
}
void softmax_rows_avx512(const uint16_t* x, uint16_t* y, int64_t rows, int64_t n, bool log) {
  softmax_rows(x, y, rows, n, log);
}

}  // namespace trireme
