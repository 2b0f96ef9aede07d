// Activations on sixteen floats, for the *_avx512.cpp files only (all in an unnamed namespace).
#pragma once

#include "device/cpu/immintrin_quiet.h"

#include "device/cpu/conv.h"
#include "device/cpu/gelu_avx512.h"

#define TRI_INLINE inline __attribute__((always_inline))

namespace trireme::cpu {
namespace {

[[maybe_unused]] inline __m512 set1(float v) { return _mm512_set1_ps(v); }

// exp(x) = 2^n (1 + m) with m = expm1(r), |r| <= ln 2 / 2; the polynomial is our own fit, 1.3e-8
// off.
inline __m512 exp_parts(__m512 x, __m512& n) {
  n = _mm512_roundscale_ps(_mm512_mul_ps(x, set1(1.44269504f)), 8);
  __m512 r = _mm512_fnmadd_ps(n, set1(0.693145752f), x);
  r = _mm512_fnmadd_ps(n, set1(1.42860677e-6f), r);
  __m512 p = _mm512_fmadd_ps(set1(0.0013933641f), r, set1(0.00836914849f));
  p = _mm512_fmadd_ps(p, r, set1(0.041666465f));
  p = _mm512_fmadd_ps(p, r, set1(0.166665053f));
  p = _mm512_fmadd_ps(p, r, set1(0.5f));
  p = _mm512_fmadd_ps(p, r, set1(1.0f));
  return _mm512_mul_ps(p, r);
}

inline __m512 exp_ps(__m512 x) {
  // Clamped to where the result is 0 or infinite anyway, so that r stays small.
  x = _mm512_min_ps(set1(120.0f), _mm512_max_ps(set1(-120.0f), x));
  __m512 n;
  const __m512 m = exp_parts(x, n);
  return _mm512_scalef_ps(_mm512_add_ps(m, set1(1.0f)), n);
}

inline __m512 sigmoid_ps(__m512 x) {
  const __m512 e = exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), x));
  return _mm512_div_ps(set1(1.0f), _mm512_add_ps(set1(1.0f), e));
}

inline __m512 swish_ps(__m512 x) {
  const __m512 e = exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), x));
  return _mm512_div_ps(x, _mm512_add_ps(set1(1.0f), e));
}

// tanh(x) = e / (e + 2) with e = expm1(2x): no cancellation near zero.
inline __m512 tanh_ps(__m512 x) {
  const __m512 y = _mm512_min_ps(set1(40.0f), _mm512_max_ps(set1(-40.0f), _mm512_add_ps(x, x)));
  __m512 n;
  const __m512 m = exp_parts(y, n);
  const __m512 two_n = _mm512_scalef_ps(set1(1.0f), n);
  const __m512 e = _mm512_fmadd_ps(two_n, m, _mm512_sub_ps(two_n, set1(1.0f)));
  return _mm512_div_ps(e, _mm512_add_ps(e, set1(2.0f)));
}

// Hard swish and what follows it, (v gate) scale + shift, with the gate scaled beforehand.
struct HardSwish {
  __m512 slope, middle, low, high, shift;
  explicit TRI_INLINE HardSwish(float scale, float offset)
      : slope(set1(scale / 6)),
        middle(set1(scale / 2)),
        low(set1(scale < 0 ? scale : 0)),
        high(set1(scale < 0 ? 0 : scale)),
        shift(set1(offset)) {}
  TRI_INLINE __m512 operator()(__m512 v) const {
    const __m512 gate = _mm512_fmadd_ps(v, slope, middle);
    return _mm512_fmadd_ps(v, _mm512_min_ps(_mm512_max_ps(gate, low), high), shift);
  }
};

// min and max return their second operand for NaN: v is put there, so that NaN stays NaN.
template <Act kAct> TRI_INLINE __m512 apply_act(__m512 v, const Epilogue& e) {
  if constexpr (kAct == Act::kRelu) return _mm512_max_ps(_mm512_setzero_ps(), v);
  if constexpr (kAct == Act::kClip) {
    return _mm512_min_ps(set1(e.beta), _mm512_max_ps(set1(e.alpha), v));
  }
  if constexpr (kAct == Act::kLeakyRelu) {
    const __mmask16 negative = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_mul_ps(v, negative, v, set1(e.alpha));
  }
  if constexpr (kAct == Act::kHardSwish) return HardSwish(1, 0)(v);
  if constexpr (kAct == Act::kHardSigmoid) {
    const __m512 line = _mm512_fmadd_ps(v, set1(e.alpha), set1(e.beta));
    return _mm512_min_ps(set1(1), _mm512_max_ps(set1(0), line));
  }
  if constexpr (kAct == Act::kSigmoid) return sigmoid_ps(v);
  if constexpr (kAct == Act::kSwish) return swish_ps(v);
  if constexpr (kAct == Act::kGelu) return gelu_ps(v);
  if constexpr (kAct == Act::kTanh) return tanh_ps(v);
  return v;
}

// f(apply) with the activation as a compile-time choice; f is a generic callable taking an
// std::integral_constant-like tag.
template <Act kAct> struct ActTag { static constexpr Act value = kAct; };

template <class F> TRI_INLINE void with_act(Act act, F&& f) {
  switch (act) {
    case Act::kNone: f(ActTag<Act::kNone>{}); break;
    case Act::kRelu: f(ActTag<Act::kRelu>{}); break;
    case Act::kClip: f(ActTag<Act::kClip>{}); break;
    case Act::kLeakyRelu: f(ActTag<Act::kLeakyRelu>{}); break;
    case Act::kHardSwish: f(ActTag<Act::kHardSwish>{}); break;
    case Act::kHardSigmoid: f(ActTag<Act::kHardSigmoid>{}); break;
    case Act::kSigmoid: f(ActTag<Act::kSigmoid>{}); break;
    case Act::kSwish: f(ActTag<Act::kSwish>{}); break;
    case Act::kGelu: f(ActTag<Act::kGelu>{}); break;
    case Act::kTanh: f(ActTag<Act::kTanh>{}); break;
  }
}

// Long activations run over a buffer (64-byte aligned), in one place, rather than inside every tile
// shape.
[[maybe_unused]] void __attribute__((noinline))
activate_buffer(float* buffer, int vectors, const Epilogue& e) {
  with_act(e.act, [&](auto tag) {
    for (int i = 0; i < 16 * vectors; i += 16) {
      _mm512_store_ps(buffer + i, apply_act<decltype(tag)::value>(_mm512_load_ps(buffer + i), e));
    }
  });
}

// act(v) * scale + shift on a few vectors.
template <int kN> TRI_INLINE void activate_all(__m512 (&v)[kN], const Epilogue& e) {
  switch (e.act) {
    case Act::kNone: break;
    case Act::kRelu:
#pragma GCC unroll 16
      for (int i = 0; i < kN; ++i) v[i] = apply_act<Act::kRelu>(v[i], e);
      break;
    case Act::kHardSwish: {
      const HardSwish f(e.scale, e.shift);
#pragma GCC unroll 16
      for (int i = 0; i < kN; ++i) v[i] = f(v[i]);
      return;
    }
    default: {
      alignas(64) float buffer[kN * 16];
#pragma GCC unroll 16
      for (int i = 0; i < kN; ++i) _mm512_store_ps(buffer + i * 16, v[i]);
      activate_buffer(buffer, kN, e);
#pragma GCC unroll 16
      for (int i = 0; i < kN; ++i) v[i] = _mm512_load_ps(buffer + i * 16);
    }
  }
  if (e.scale != 1 || e.shift != 0) {
    const __m512 scale = set1(e.scale), shift = set1(e.shift);
#pragma GCC unroll 16
    for (int i = 0; i < kN; ++i) v[i] = _mm512_fmadd_ps(v[i], scale, shift);
  }
}

// The first `left` lanes, all sixteen when there are more.
TRI_INLINE __mmask16 mask_of_first(int64_t left) {
  return static_cast<__mmask16>(left >= 16 ? 0xffff : (1u << left) - 1);
}

}  // namespace
}  // namespace trireme::cpu
