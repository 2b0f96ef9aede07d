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

// dx of the four places of windows, from their values: the first maximum of each lane takes g.
struct Quad {
  Vector v[4];

  Quad(Vector a, Vector b, Vector c, Vector d, Vector g) {
    const __mmask16 in_b = _mm512_cmp_ps_mask(b, a, _CMP_GT_OQ);
    Vector best = _mm512_mask_mov_ps(a, in_b, b);
    const __mmask16 in_c = _mm512_cmp_ps_mask(c, best, _CMP_GT_OQ);
    best = _mm512_mask_mov_ps(best, in_c, c);
    const __mmask16 in_d = _mm512_cmp_ps_mask(d, best, _CMP_GT_OQ);
    const auto later = static_cast<__mmask16>(in_c | in_d);
    v[0] = _mm512_maskz_mov_ps(static_cast<__mmask16>(~(in_b | later)), g);
    v[1] = _mm512_maskz_mov_ps(static_cast<__mmask16>(in_b & ~later), g);
    v[2] = _mm512_maskz_mov_ps(static_cast<__mmask16>(in_c & ~in_d), g);
    v[3] = _mm512_maskz_mov_ps(in_d, g);
  }
};

void many_channels(const float* x, const float* dy, float* dx, int64_t count, int64_t row,
                   int64_t step, int64_t n) {
  for (int64_t w = 0; w < count; ++w, x += 2 * step, dx += 2 * step, dy += step) {
    for (int64_t c = 0; c < n; c += 16) {
      const __mmask16 m = lanes(n - c);
      const float* p = x + c;
      const Quad q(load(p, m), load(p + step, m), load(p + row, m), load(p + row + step, m),
                   load(dy + c, m));
      float* to = dx + c;
      store(to, m, q.v[0]);
      store(to + step, m, q.v[1]);
      store(to + row, m, q.v[2]);
      store(to + row + step, m, q.v[3]);
    }
  }
}

void max_pairs(const float* x, const float* dy, float* dx, const PoolPairs& pairs, int64_t count,
               int64_t row, int64_t step, int64_t n) {
  if (n >= 16 || n != step) return many_channels(x, dy, dx, count, row, step, n);
  const __m512i left = _mm512_loadu_si512(pairs.left), right = _mm512_loadu_si512(pairs.right);
  const __m512i first = _mm512_loadu_si512(pairs.first), second = _mm512_loadu_si512(pairs.second);
  for (int64_t w = 0; w < count; w += pairs.windows) {
    const int64_t some = count - w < pairs.windows ? count - w : pairs.windows;
    const __mmask16 own = lanes(some * n), low = lanes(2 * some * n);
    const int64_t rest = 2 * some * n - 16;
    const __mmask16 high = rest > 0 ? lanes(rest) : static_cast<__mmask16>(0);
    const float *upper = x + 2 * w * n, *lower = upper + row;
    const Vector a = load(upper, low), b = load(upper + 16, high);
    const Vector c = load(lower, low), d = load(lower + 16, high);
    const Quad q(_mm512_permutex2var_ps(a, left, b), _mm512_permutex2var_ps(a, right, b),
                 _mm512_permutex2var_ps(c, left, d), _mm512_permutex2var_ps(c, right, d),
                 load(dy + w * n, own));
    float *to = dx + 2 * w * n, *below = to + row;
    store(to, low, _mm512_permutex2var_ps(q.v[0], first, q.v[1]));
    store(to + 16, high, _mm512_permutex2var_ps(q.v[0], second, q.v[1]));
    store(below, low, _mm512_permutex2var_ps(q.v[2], first, q.v[3]));
    store(below + 16, high, _mm512_permutex2var_ps(q.v[2], second, q.v[3]));
  }
}

constexpr PoolGradRows<float> kLoops{max_grad_16, avg_grad<float>, max_index<float>, max_pairs};

}  // namespace

const PoolGradRows<float>& pool_grad_rows_avx512() { return kLoops; }

}  // namespace trireme
