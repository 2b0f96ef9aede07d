// Pooling windows over channels-last rows with AVX-512: a vector of channels stays in a register
// over the window.
#include "ops/avx512.h"
#include "ops/pool_rows.h"

namespace trireme {
namespace {

template <bool kMax, class T>
inline Vector over_window(const T* x, const PoolWindow& w, int64_t row, int64_t channels,
                          __mmask16 m) {
  Vector v = kMax ? _mm512_set1_ps(-__FLT_MAX__) : _mm512_setzero_ps();
  for (int64_t h = w.h0; h < w.h1; ++h) {
    const T* p = x + h * row + w.w0 * channels;
    for (int64_t k = w.w0; k < w.w1; ++k, p += channels)
      v = kMax ? _mm512_max_ps(v, load(p, m)) : _mm512_add_ps(v, load(p, m));
  }
  return kMax ? v : _mm512_mul_ps(v, _mm512_set1_ps(static_cast<float>(w.factor)));
}

template <class T>
void pool_window(const T* x, const PoolWindow& w, int64_t row, int64_t channels, bool max, T* y) {
  for (int64_t c = 0; c < channels; c += 16) {
    const __mmask16 m = lanes(channels - c);
    store(y + c, m,
          max ? over_window<true>(x + c, w, row, channels, m)
              : over_window<false>(x + c, w, row, channels, m));
  }
}

}  // namespace

void pool_window_avx512(const float* x, const PoolWindow& w, int64_t row, int64_t channels,
                        bool max, float* y) {
  pool_window(x, w, row, channels, max, y);
}
void pool_window_avx512(const uint16_t* x, const PoolWindow& w, int64_t row, int64_t channels,
                        bool max, uint16_t* y) {
  pool_window(x, w, row, channels, max, y);
}

}  // namespace trireme
