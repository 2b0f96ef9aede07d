// Sums of columns with AVX-512: four vectors of columns at a time, kept in registers over all rows.
#include "ops/column_sums.h"

#include "ops/avx512.h"

namespace trireme {
namespace {

template <class T> void add_rows(const T* x, int64_t rows, int64_t n, int64_t stride, float* sum) {
  int64_t c = 0;
  for (; c + 64 <= n; c += 64) {
    Vector a = load(sum + c, 0xffff), b = load(sum + c + 16, 0xffff);
    Vector d = load(sum + c + 32, 0xffff), e = load(sum + c + 48, 0xffff);
    const T* p = x + c;
    for (int64_t r = 0; r < rows; ++r, p += stride) {
      a = _mm512_add_ps(a, load(p, 0xffff));
      b = _mm512_add_ps(b, load(p + 16, 0xffff));
      d = _mm512_add_ps(d, load(p + 32, 0xffff));
      e = _mm512_add_ps(e, load(p + 48, 0xffff));
    }
    store(sum + c, 0xffff, a);
    store(sum + c + 16, 0xffff, b);
    store(sum + c + 32, 0xffff, d);
    store(sum + c + 48, 0xffff, e);
  }
  for (; c < n; c += 16) {  // two rows at a time, for the adder's latency
    const __mmask16 m = lanes(n - c);
    Vector a = load(sum + c, m), b = _mm512_setzero_ps();
    const T* p = x + c;
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2, p += 2 * stride) {
      a = _mm512_add_ps(a, load(p, m));
      b = _mm512_add_ps(b, load(p + stride, m));
    }
    if (r < rows) a = _mm512_add_ps(a, load(p, m));
    store(sum + c, m, _mm512_add_ps(a, b));
  }
}

}  // namespace

void add_rows_avx512(const float* x, int64_t rows, int64_t n, int64_t stride, float* sum) {
  add_rows(x, rows, n, stride, sum);
}
void add_rows_avx512(const uint16_t* x, int64_t rows, int64_t n, int64_t stride, float* sum) {
  add_rows(x, rows, n, stride, sum);
}

}  // namespace trireme
