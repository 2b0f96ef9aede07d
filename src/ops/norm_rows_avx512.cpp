// The normalisations' loops with AVX-512: those that a training step of a transformer waits for by
// hand, the others as the compiler makes them.
#include "ops/avx512.h"
#include "ops/norm_rows.inc"

namespace trireme {
namespace {

// As layer() of norm_rows.inc, in three passes over a row that stays in the first-level cache.
template <>
void layer<float, float>(const float* x, const float* scale, const float* dy, float* dx,
                         int64_t rows, int64_t n, float epsilon, float* dscale, float* dbias) {
  const auto count = static_cast<float>(n);
  const Vector zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.f);
  for (int64_t r = 0; r < rows; ++r, x += n, dy += n, dx += n) {
    Vector sum = zero, squares = zero, first = zero, second = zero;
    for (int64_t i = 0; i < n; i += 16) sum = _mm512_add_ps(sum, load(x + i, lanes(n - i)));
    const Vector mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / count);
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 k = lanes(n - i);
      const Vector d = _mm512_maskz_sub_ps(k, load(x + i, k), mean);
      const Vector g = _mm512_mul_ps(load(dy + i, k), scale ? load(scale + i, k) : one);
      squares = _mm512_fmadd_ps(d, d, squares);
      first = _mm512_add_ps(first, g);
      second = _mm512_fmadd_ps(g, d, second);
    }
    const float factor = 1.f / root(_mm512_reduce_add_ps(squares) / count + epsilon);
    const Vector f = _mm512_set1_ps(factor),
                 a = _mm512_set1_ps(_mm512_reduce_add_ps(first) / count),
                 b = _mm512_set1_ps(_mm512_reduce_add_ps(second) * factor * factor / count);
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 k = lanes(n - i);
      const Vector d = _mm512_sub_ps(load(x + i, k), mean), v = load(dy + i, k);
      const Vector g = _mm512_mul_ps(v, scale ? load(scale + i, k) : one);
      if (dscale)
        store(dscale + i, k, _mm512_fmadd_ps(v, _mm512_mul_ps(d, f), load(dscale + i, k)));
      if (dbias) store(dbias + i, k, _mm512_add_ps(v, load(dbias + i, k)));
      store(dx + i, k, _mm512_mul_ps(f, _mm512_fnmadd_ps(d, b, _mm512_sub_ps(g, a))));
    }
  }
}

template <>
void softmax<float, float>(const float* y, const float* dy, float* dx, int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r, y += n, dy += n, dx += n) {
    Vector sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 k = lanes(n - i);
      sum = _mm512_fmadd_ps(load(y + i, k), load(dy + i, k), sum);
    }
    const Vector s = _mm512_set1_ps(_mm512_reduce_add_ps(sum));
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 k = lanes(n - i);
      store(dx + i, k, _mm512_mul_ps(load(y + i, k), _mm512_sub_ps(load(dy + i, k), s)));
    }
  }
}

}  // namespace

const NormRows<float, float>& norm_rows_avx512() { return kRows<float, float>; }

}  // namespace trireme
