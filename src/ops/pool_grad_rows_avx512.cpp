// The loops of pool2d's gradient with AVX-512. The maxima's gradient keeps 16 channels in
// registers: with few channels (the compiler's loops take those one by one) the windows are all the
// work.
#include "ops/avx512.h"
#include "ops/pool_grad_rows.inc"

namespace trireme {
namespace {

void max_grad_16(const float* x, const float* dy, float* dx, const PoolWindow& w, int64_t row,
                 int64_t step, int64_t n) {
  if (w.w1 <= w.w0 || w.h1 <= w.h0) return;
  const int64_t origin = w.h0 * row + w.w0 * step;
  for (int64_t c = 0; c < n; c += 16) {
    const __mmask16 m = lanes(n - c);
    const float* from = x + origin + c;
    Vector best = load(from, m);
    __m512i where = _mm512_setzero_si512();  // offsets, which grow with the place
    for (int64_t h = 0; h < w.h1 - w.h0; ++h) {
      for (int64_t k = 0; k < w.w1 - w.w0; ++k) {
        const int64_t at = h * row + k * step;
        const Vector v = load(from + at, m);
        const __mmask16 larger = _mm512_cmp_ps_mask(v, best, _CMP_GT_OQ);
        best = _mm512_mask_mov_ps(best, larger, v);
        where = _mm512_mask_mov_epi32(where, larger, _mm512_set1_epi32(static_cast<int>(at)));
      }
    }
    const Vector g = load(dy + c, m);
    for (int64_t h = 0; h < w.h1 - w.h0; ++h) {
      for (int64_t k = 0; k < w.w1 - w.w0; ++k) {
        const int64_t at = h * row + k * step;
        const __mmask16 here =
            _mm512_mask_cmpeq_epi32_mask(m, where, _mm512_set1_epi32(static_cast<int>(at)));
        float* p = dx + origin + at + c;
        if (here) store(p, here, _mm512_add_ps(load(p, here), g));
      }
    }
  }
}

constexpr PoolGradRows<float> kLoops{max_grad_16, avg_grad<float>, max_index<float>};

}  // namespace

const PoolGradRows<float>& pool_grad_rows_avx512() { return kLoops; }

}  // namespace trireme
