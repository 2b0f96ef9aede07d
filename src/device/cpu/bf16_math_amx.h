// bfloat16 <-> float32 and the activations on AVX-512 registers. Only for *_amx.cpp: all of it is
// local to the including file, so that the linker cannot hand it to code for older processors.
#pragma once

// g++ 12 takes the intrinsics' own "undefined" registers for a mistake (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#include <immintrin.h>

#include <cstdint>

#include "device/cpu/conv.h"

namespace trireme::cpu::bf16 {
namespace {

using Bf16 = uint16_t;

template <class T> constexpr T smaller(T a, T b) { return a < b ? a : b; }
template <class T> constexpr T larger(T a, T b) { return a < b ? b : a; }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

[[maybe_unused]] inline __m512 widen(__m256i v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}
// The 16 channels at even places of 32, and those at odd places: cheaper than two widen().
[[maybe_unused]] inline __m512 even_lanes(__m512i v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}
[[maybe_unused]] inline __m512 odd_lanes(__m512i v) {
  return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(-65536)));
}
// Rounds to nearest even; NaN stays NaN.
[[maybe_unused]] inline __m256i narrow(__m512 v) {
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
}
[[maybe_unused]] inline __m512i narrow(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}
[[maybe_unused]] inline Bf16 narrow(float v) {
  const __m512 x = _mm512_set1_ps(v);
  return static_cast<Bf16>(_mm_extract_epi16(_mm256_castsi256_si128(narrow(x)), 0));
}
[[maybe_unused]] inline __mmask32 mask32(int64_t n) {
  return n >= 32 ? ~__mmask32{0} : (__mmask32{1} << (n < 0 ? 0 : n)) - 1;
}
[[maybe_unused]] inline __mmask16 mask16(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << (n < 0 ? 0 : n)) - 1);
}

// exp with a relative error of about 1e-6; the limits keep infinities out of the polynomial.
inline __m512 exp_of(__m512 x) {
  x = _mm512_min_ps(_mm512_set1_ps(88.f), _mm512_max_ps(_mm512_set1_ps(-88.f), x));
  const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(t, n);
  __m512 p = _mm512_set1_ps(1.33335581e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.61812911e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.55041087e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.40226507e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.93147181e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.f));
  return _mm512_scalef_ps(p, n);
}
// 1 / v with one Newton step: enough for bfloat16 many times over, and cheaper than a division.
inline __m512 reciprocal(__m512 v) {
  const __m512 r = _mm512_rcp14_ps(v);
  return _mm512_mul_ps(r, _mm512_fnmadd_ps(v, r, _mm512_set1_ps(2.f)));
}
inline __m512 sigmoid_of(__m512 v) {
  const __m512 one = _mm512_set1_ps(1.f);
  return reciprocal(_mm512_add_ps(one, exp_of(_mm512_sub_ps(_mm512_setzero_ps(), v))));
}
inline __m512 tanh_of(__m512 v) {
  const __m512 e = exp_of(_mm512_mul_ps(v, _mm512_set1_ps(2.f)));
  const __m512 r = reciprocal(_mm512_add_ps(e, _mm512_set1_ps(1.f)));
  const __m512 far = _mm512_fnmadd_ps(_mm512_set1_ps(2.f), r, _mm512_set1_ps(1.f));
  // Near zero the difference above cancels: v - v^3/3 is then as exact as bfloat16 can tell.
  const __m512 v2 = _mm512_mul_ps(v, v);
  const __m512 near = _mm512_fnmadd_ps(_mm512_mul_ps(v2, v), _mm512_set1_ps(1.f / 3), v);
  const __mmask16 small = _mm512_cmp_ps_mask(v2, _mm512_set1_ps(0.0025f), _CMP_LT_OQ);
  return _mm512_mask_blend_ps(small, far, near);
}
// v Phi(v) with Phi(v) = 1/2 + v P(v^2), P fitted on |v| <= 4.5 such that Phi(-4.5) is just below 0
// and made 0. The absolute error is at most 6e-5, about a bfloat16 rounding of 0.02 and less than
// that of everything larger; far left the result is 0 instead of a number above -2e-5. Half as many
// instructions as with exp, which matters: one product of a transformer ends in millions of these.
inline __m512 gelu_of(__m512 v) {
  const __m512 limit = _mm512_set1_ps(4.5f);
  const __m512 x =
      _mm512_min_ps(limit, _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), limit), v));
  const __m512 x2 = _mm512_mul_ps(x, x);
  __m512 p = _mm512_set1_ps(3.00174639e-11f);
  p = _mm512_fmadd_ps(p, x2, _mm512_set1_ps(-3.28530365e-09f));
  p = _mm512_fmadd_ps(p, x2, _mm512_set1_ps(1.58071183e-07f));
  p = _mm512_fmadd_ps(p, x2, _mm512_set1_ps(-4.43246477e-06f));
  p = _mm512_fmadd_ps(p, x2, _mm512_set1_ps(8.12172236e-05f));
  p = _mm512_fmadd_ps(p, x2, _mm512_set1_ps(-1.03629336e-03f));
  p = _mm512_fmadd_ps(p, x2, _mm512_set1_ps(9.58076179e-03f));
  p = _mm512_fmadd_ps(p, x2, _mm512_set1_ps(-6.59773863e-02f));
  p = _mm512_fmadd_ps(p, x2, _mm512_set1_ps(3.98708591e-01f));
  const __m512 phi = _mm512_fmadd_ps(p, x, _mm512_set1_ps(0.5f));
  return _mm512_mul_ps(v, _mm512_max_ps(_mm512_setzero_ps(), phi));  // NaN passes
}

// max and min return their second operand when either is NaN; the value always comes second, so
// that NaN passes through.
template <Act kAct> inline __m512 activate(__m512 v, __m512 alpha, __m512 beta) {
  const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.f);
  if constexpr (kAct == Act::kRelu) return _mm512_max_ps(zero, v);
  if constexpr (kAct == Act::kClip) return _mm512_min_ps(beta, _mm512_max_ps(alpha, v));
  if constexpr (kAct == Act::kLeakyRelu) {
    const __mmask16 negative = _mm512_cmp_ps_mask(v, zero, _CMP_LT_OQ);
    return _mm512_mask_mul_ps(v, negative, v, alpha);
  }
  if constexpr (kAct == Act::kHardSwish) {
    const __m512 t = _mm512_fmadd_ps(v, _mm512_set1_ps(1.f / 6), _mm512_set1_ps(0.5f));
    return _mm512_mul_ps(v, _mm512_min_ps(one, _mm512_max_ps(zero, t)));
  }
  if constexpr (kAct == Act::kHardSigmoid) {
    return _mm512_min_ps(one, _mm512_max_ps(zero, _mm512_fmadd_ps(v, alpha, beta)));
  }
  if constexpr (kAct == Act::kSigmoid) return sigmoid_of(v);
  if constexpr (kAct == Act::kSwish) return _mm512_mul_ps(v, sigmoid_of(v));
  if constexpr (kAct == Act::kGelu) return gelu_of(v);
  if constexpr (kAct == Act::kTanh) return tanh_of(v);
  return v;
}

}  // namespace
}  // namespace trireme::cpu::bf16
