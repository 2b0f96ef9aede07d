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
    // The next row, which is read faster than memory gives it.
    _mm_prefetch(reinterpret_cast<const char*>(x + n + i), _MM_HINT_T1);
    _mm_prefetch(reinterpret_cast<const char*>(x + n + i + 16), _MM_HINT_T1);
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

// Rows of at most so many bfloat16 values are widened into a buffer in the first-level cache.
constexpr int64_t kBuffer = 2048;

// e^x for x <= 0, with a relative error of about 3e-6: far below bfloat16's rounding of 2e-3, at
// half the price of exp(). NaN passes.
inline Vector rough_exp(Vector x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104.f), x);
  const Vector t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const Vector n = _mm512_roundscale_ps(t, 8);
  const Vector f = _mm512_sub_ps(t, n);
  Vector p = _mm512_set1_ps(1.33335581e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.61812911e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.55041087e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.40226507e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.93147181e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f));
  return _mm512_scalef_ps(p, n);
}

// To nearest even, in the upper halves of the lanes. A NaN here is the processor's own or a widened
// bfloat16: with nothing in its lower half it comes through unharmed.
inline __m512i rounded(Vector v) {
  const __m512i u = _mm512_castps_si512(v), one = _mm512_set1_epi32(1);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
  return _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
}

void short_row(const uint16_t* x, uint16_t* y, int64_t n) {
  alignas(64) float kept[kBuffer];
  const Vector low = _mm512_set1_ps(-__builtin_inff());
  Vector a = low, b = low;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const Vector v = load(x + i, 0xffff), w = load(x + i + 16, 0xffff);
    _mm512_store_ps(kept + i, v);
    _mm512_store_ps(kept + i + 16, w);
    a = _mm512_max_ps(a, v);
    b = _mm512_max_ps(b, w);
  }
  // Lanes beyond the row hold -inf, whose power is as good as nothing beside the maximum's.
  for (int64_t k = i; k < n; k += 16) {
    const __mmask16 m = lanes(n - k);
    const Vector v = _mm512_mask_mov_ps(low, m, load(x + k, m));
    _mm512_store_ps(kept + k, v);
    a = _mm512_max_ps(a, v);
  }
  const Vector top = _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(a, b)));
  a = b = _mm512_setzero_ps();
  for (i = 0; i + 32 <= n; i += 32) {
    const Vector e = rough_exp(_mm512_sub_ps(_mm512_load_ps(kept + i), top));
    const Vector f = rough_exp(_mm512_sub_ps(_mm512_load_ps(kept + i + 16), top));
    _mm512_store_ps(kept + i, e);
    _mm512_store_ps(kept + i + 16, f);
    a = _mm512_add_ps(a, e);
    b = _mm512_add_ps(b, f);
  }
  for (; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    const Vector e = rough_exp(_mm512_sub_ps(_mm512_load_ps(kept + i), top));
    _mm512_store_ps(kept + i, e);
    a = _mm512_mask_add_ps(a, m, a, e);
  }
  const Vector f = _mm512_set1_ps(1.f / _mm512_reduce_add_ps(_mm512_add_ps(a, b)));
  // The upper half of each lane of two registers.
  const __m512i lane = _mm512_setr_epi32(0x30001, 0x70005, 0xb0009, 0xf000d, 0x130011, 0x170015,
                                         0x1b0019, 0x1f001d, 0x230021, 0x270025, 0x2b0029, 0x2f002d,
                                         0x330031, 0x370035, 0x3b0039, 0x3f003d);
  for (i = 0; i + 32 <= n; i += 32) {
    const __m512i v = rounded(_mm512_mul_ps(_mm512_load_ps(kept + i), f));
    const __m512i w = rounded(_mm512_mul_ps(_mm512_load_ps(kept + i + 16), f));
    _mm512_storeu_si512(y + i, _mm512_permutex2var_epi16(v, lane, w));
  }
  for (; i < n; i += 16) {
    const __m512i v = rounded(_mm512_mul_ps(_mm512_load_ps(kept + i), f));
    _mm256_mask_storeu_epi16(y + i, lanes(n - i), _mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16)));
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
void softmax_row_avx512(const float* x, float* y, int64_t n, float& max, float& log_sum) {
  max = row_max(x, n);
  const float sum = row_exp(x, y, n, max);
  row_scale(x, y, n, max, 1.f / sum);
  log_sum = __builtin_logf(sum);
}
float attention_row_avx512(float* x, int64_t n, float scale, const float* mask, int64_t step) {
  const Vector s = _mm512_set1_ps(scale), low = _mm512_set1_ps(-__builtin_inff());
  const Vector same = mask && step == 0 ? _mm512_set1_ps(mask[0]) : _mm512_setzero_ps();
  Vector top = low;
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    const Vector added = mask && step ? load(mask + i, m) : same;
    const Vector v = _mm512_fmadd_ps(load(x + i, m), s, added);
    store(x + i, m, v);
    top = _mm512_mask_max_ps(top, m, top, v);
  }
  const float max = _mm512_reduce_max_ps(top), sum = row_exp(x, x, n, max);
  row_scale(x, x, n, max, 1.f / sum);
  return max + __builtin_logf(sum);
}
void softmax_rows_avx512(const uint16_t* x, uint16_t* y, int64_t rows, int64_t n, bool log) {
  if (log || n > kBuffer) return softmax_rows(x, y, rows, n, log);
  for (int64_t r = 0; r < rows; ++r) short_row(x + r * n, y + r * n, n);
}

}  // namespace trireme
