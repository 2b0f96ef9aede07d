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

// Bits of bfloat16 as integers in the order of the numbers, and back.
inline __m512i ordered(__m512i v) {
  const __m512i low = _mm512_set1_epi16(0x7fff);
  return _mm512_xor_si512(v, _mm512_and_si512(_mm512_srai_epi16(v, 15), low));
}

// The largest of 32 channels at a time, without widening them. A NaN counts as beyond the infinity
// of its sign.
void largest(const uint16_t* x, const PoolWindow& w, int64_t row, int64_t channels, uint16_t* y) {
  constexpr int16_t kLowest = static_cast<int16_t>(0xff80 ^ 0x7fff);  // ordered(-infinity)
  for (int64_t c = 0; c < channels; c += 32) {
    const __mmask32 m = channels - c >= 32 ? ~__mmask32{0} : (__mmask32{1} << (channels - c)) - 1;
    __m512i v = _mm512_set1_epi16(kLowest);
    for (int64_t h = w.h0; h < w.h1; ++h) {
      const uint16_t* p = x + h * row + w.w0 * channels + c;
      for (int64_t k = w.w0; k < w.w1; ++k, p += channels)
        v = _mm512_max_epi16(v, ordered(_mm512_maskz_loadu_epi16(m, p)));
    }
    _mm512_mask_storeu_epi16(y + c, m, ordered(v));
  }
}

}  // namespace

void pool_window_avx512(const float* x, const PoolWindow& w, int64_t row, int64_t channels,
                        bool max, float* y) {
  pool_window(x, w, row, channels, max, y);
}
void pool_window_avx512(const uint16_t* x, const PoolWindow& w, int64_t row, int64_t channels,
                        bool max, uint16_t* y) {
  if (max) largest(x, w, row, channels, y);
  else pool_window(x, w, row, channels, max, y);
}

}  // namespace trireme
