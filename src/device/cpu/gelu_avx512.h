// gelu and its derivative on sixteen floats, for the *_avx512.cpp files only.
//
// Both are functions of the normal distribution's tail. That is cut into sixteen pieces of
// [0, 6), each a polynomial whose coefficients a permutation looks up: no division, no exponential,
// 6e-8 off at most.
#pragma once

#include "device/cpu/immintrin_quiet.h"

namespace trireme::cpu {
namespace {

// 1 - Phi(y): coefficients of t^0 to t^5 in each sixteenth.
alignas(64) constexpr float kTail[6][16] = {
    {5.00000000e-01f, 3.53830218e-01f, 2.26627350e-01f, 1.30294517e-01f, 6.68072030e-02f,
     3.03963628e-02f, 1.22244740e-02f, 4.33244836e-03f, 1.34989782e-03f, 3.69078218e-04f,
     8.84171532e-05f, 1.85366844e-05f, 3.39765552e-06f, 5.44037675e-07f, 7.60486074e-08f,
     9.27521793e-09f},
    {-1.49603218e-01f, -1.39445350e-01f, -1.12926304e-01f, -7.94537067e-02f, -4.85692099e-02f,
     -2.57949810e-02f, -1.19024348e-02f, -4.77157487e-03f, -1.66192593e-03f, -5.02902665e-04f,
     -1.32213812e-04f, -3.01987075e-05f, -5.99261648e-06f, -1.03313971e-06f, -1.54744043e-07f,
     -2.01362642e-08f},
    {-1.47853257e-06f, 9.80122015e-03f, 1.58775095e-02f, 1.67593490e-02f, 1.36613604e-02f,
     9.06999316e-03f, 5.02208760e-03f, 2.34859483e-03f, 9.34643962e-04f, 3.18055419e-04f,
     9.28564186e-05f, 2.33128030e-05f, 5.04199988e-06f, 9.40604934e-07f, 1.51513220e-07f,
     2.10903259e-08f},
    {3.51225911e-03f, 2.82372395e-03f, 1.17003452e-03f, -4.92559804e-04f, -1.42835744e-03f,
     -1.52726599e-03f, -1.13668677e-03f, -6.59208512e-04f, -3.10778967e-04f, -1.21621997e-04f,
     -3.99879609e-05f, -1.11305399e-05f, -2.63646757e-06f, -5.33401192e-07f, -9.24279036e-08f,
     -1.37461944e-08f},
    {-1.02058912e-05f, -3.57248529e-04f, -4.77607566e-04f, -3.45557462e-04f, -1.09984678e-04f,
     6.72754832e-05f, 1.28236774e-04f, 1.08120243e-04f, 6.41693186e-05f, 2.96223079e-05f,
     1.10707642e-05f, 3.41968530e-06f, 8.83874009e-07f, 1.92697769e-07f, 3.56343435e-08f,
     5.61219204e-09f},
    {-6.71182206e-05f, -2.52220234e-05f, 2.35295574e-05f, 4.51615524e-05f, 3.53536088e-05f,
     1.30887584e-05f, -3.22745245e-06f, -8.48212130e-06f, -6.92798585e-06f, -3.81420978e-06f,
     -1.60595243e-06f, -5.42301791e-07f, -1.50418899e-07f, -3.47539277e-08f, -6.74970968e-09f,
     -1.10884912e-09f}};

// 1 - Phi(y) - y phi(y): coefficients of t^0 to t^5 in each sixteenth.
alignas(64) constexpr float kSlope[6][16] = {
    {5.00000000e-01f, 2.14384541e-01f, 7.74261483e-04f, -1.08066700e-01f, -1.27469182e-01f,
     -9.85778943e-02f, -5.91897443e-02f, -2.90685315e-02f, -1.19456500e-02f, -4.15719859e-03f,
     -1.23381638e-03f, -3.13692348e-04f, -6.85290142e-05f, -1.28911215e-05f, -2.09138125e-06f,
     -2.92965183e-07f},
    {-2.99205661e-01f, -2.59279579e-01f, -1.62330672e-01f, -5.83493039e-02f, 1.21411355e-02f,
     3.90946493e-02f, 3.64510007e-02f, 2.33362131e-02f, 1.16337957e-02f, 4.72278893e-03f,
     1.59493729e-03f, 4.53493878e-04f, 1.09378008e-04f, 2.24901614e-05f, 3.95632378e-06f,
     5.96971347e-07f},
    {-1.17068585e-05f, 3.78145389e-02f, 5.45738004e-02f, 4.58325967e-02f, 2.39183810e-02f,
     4.40058252e-03f, -5.33498451e-03f, -6.79170527e-03f, -4.67649754e-03f, -2.35281698e-03f,
     -9.35428601e-04f, -3.03832232e-04f, -8.20552305e-05f, -1.86225243e-05f, -3.57650219e-06f,
     -5.84088866e-07f},
    {1.40723046e-02f, 1.00301057e-02f, 1.06783863e-03f, -6.08602026e-03f, -7.66919414e-03f,
     -5.02274139e-03f, -1.62177801e-03f, 3.75979696e-04f, 8.66861374e-04f, 6.39882055e-04f,
     3.19893268e-04f, 1.22565019e-04f, 3.77026772e-05f, 9.53101153e-06f, 2.00721706e-06f,
     3.55280974e-07f},
    {-8.09455014e-05f, -2.10295059e-03f, -2.38944078e-03f, -1.08380965e-03f, 3.78678640e-04f,
     9.54330724e-04f, 7.14669412e-04f, 2.59372639e-04f, -1.97126956e-05f, -9.04572080e-05f,
     -6.61521335e-05f, -3.11980657e-05f, -1.10660503e-05f, -3.11745453e-06f, -7.16387376e-07f,
     -1.36385722e-07f},
    {-3.89413297e-04f, -7.24259517e-05f, 2.37481465e-04f, 2.84053996e-04f, 1.22285244e-04f,
     -3.86606043e-05f, -8.76937775e-05f, -5.69794029e-05f, -1.59967294e-05f, 3.98446173e-06f,
     6.87414649e-06f, 4.13482849e-06f, 1.67856933e-06f, 5.18583306e-07f, 1.27775749e-07f,
     2.57220982e-08f}};

// For y = |x|; 0 from 6 on, where it is less than 4e-8 (times x, that must not grow).
inline __attribute__((always_inline)) __m512 tail_piece(const float (&table)[6][16], __m512 y) {
  const __m512 last = _mm512_set1_ps(15.999999f);
  // In this order NaN passes.
  const __m512 u = _mm512_min_ps(last, _mm512_mul_ps(y, _mm512_set1_ps(16.f / 6)));
  const __m512i piece = _mm512_cvttps_epi32(u);
  const __m512 t = _mm512_reduce_ps(u, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_permutexvar_ps(piece, _mm512_load_ps(table[5]));
#pragma GCC unroll 5
  for (int k = 4; k >= 0; --k)
    p = _mm512_fmadd_ps(p, t, _mm512_permutexvar_ps(piece, _mm512_load_ps(table[k])));
  return _mm512_mask_mov_ps(p, _mm512_cmp_ps_mask(u, last, _CMP_GE_OQ), _mm512_setzero_ps());
}

// The tail for negative x, what it leaves of 1 for positive.
inline __attribute__((always_inline)) __m512 by_sign(__m512 x, __m512 tail) {
  const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
  return _mm512_mask_sub_ps(tail, positive, _mm512_set1_ps(1.f), tail);
}

[[maybe_unused]] inline __attribute__((always_inline)) __m512 gelu_ps(__m512 x) {
  return _mm512_mul_ps(x, by_sign(x, tail_piece(kTail, _mm512_abs_ps(x))));
}
[[maybe_unused]] inline __attribute__((always_inline)) __m512 gelu_slope_ps(__m512 x) {
  return by_sign(x, tail_piece(kSlope, _mm512_abs_ps(x)));
}

}  // namespace
}  // namespace trireme::cpu
