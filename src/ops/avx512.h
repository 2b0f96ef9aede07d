// AVX-512 pieces shared by the *_avx512.cpp files, which alone may include this. Everything has
// internal linkage, so that the linker can never pick this code for a caller on an older processor;
// for the same reason those files use no templates or inline functions of other headers.
#pragma once

// GCC 12 takes the intrinsics' deliberately undefined operands for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

namespace trireme {
namespace {

using Vector = __m512;

// Lanes [0, n) of 16.
inline __mmask16 lanes(int64_t n) {
  return n >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << n) - 1u);
}

inline Vector load(const float* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
inline Vector load(const uint16_t* p, __mmask16 m) {  // bfloat16
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
}
inline void store(float* p, __mmask16 m, Vector v) { _mm512_mask_storeu_ps(p, m, v); }
inline void store(uint16_t* p, __mmask16 m, Vector v) {  // bfloat16, nearest even; NaN stays NaN
  const __m512i u = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r =
      _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
  _mm256_mask_storeu_epi16(p, m, _mm512_cvtepi32_epi16(r));
}

// e^x to about 1 unit in the last place: 2^n times a polynomial on |r| <= ln(2)/2. scalef brings
// overflow and underflow.
inline Vector exp(Vector x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104.f),
                    _mm512_min_ps(_mm512_set1_ps(89.f), x));  // in this order NaN passes
  const Vector n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896f)), 8);
  Vector r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145751953125f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860682030941723e-6f), r);
  Vector p = _mm512_set1_ps(1.f / 5040);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 720));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 120));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.f));
  return _mm512_scalef_ps(p, n);
}

inline Vector sigmoid(Vector x) {
  const Vector one = _mm512_set1_ps(1.f);
  return _mm512_div_ps(one, _mm512_add_ps(one, exp(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

// 1 - 2 / (1 + e^2x); near zero, where that cancels, the first terms of the series.
inline Vector tanh(Vector x) {
  const Vector one = _mm512_set1_ps(1.f), two = _mm512_set1_ps(2.f);
  const Vector far =
      _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(one, exp(_mm512_mul_ps(two, x)))));
  const Vector s = _mm512_mul_ps(x, x);
  Vector p = _mm512_fmadd_ps(s, _mm512_set1_ps(62.f / 2835), _mm512_set1_ps(-17.f / 315));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(2.f / 15));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-1.f / 3));
  const Vector near = _mm512_fmadd_ps(_mm512_mul_ps(p, s), x, x);
  return _mm512_mask_mov_ps(far, _mm512_cmp_ps_mask(s, _mm512_set1_ps(0.0625f), _CMP_LT_OQ), near);
}

}  // namespace
}  // namespace trireme
