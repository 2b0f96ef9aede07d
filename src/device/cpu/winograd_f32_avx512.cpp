// Winograd's transforms for AVX-512, sixteen channels at a time: sums and differences only.
#include "device/cpu/f32_kernels.h"
#include "device/cpu/f32_math_avx512.h"
#include "device/cpu/immintrin_quiet.h"

namespace trireme::cpu::f32 {
namespace {

TRI_INLINE __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
TRI_INLINE __m512 sub(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }

// B^T d B of the 4 x 4 inputs d.
template <bool kMasked>
TRI_INLINE void input_vector(const float* const (&pixel)[16], int64_t c, __mmask16 mask, float* v,
                             int64_t pitch) {
  __m512 d[4][4], t[4][4];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    d[i / 4][i % 4] =
        kMasked ? _mm512_maskz_loadu_ps(mask, pixel[i] + c) : _mm512_loadu_ps(pixel[i] + c);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[0][i] = sub(d[0][i], d[2][i]), t[1][i] = add(d[1][i], d[2][i]);
    t[2][i] = sub(d[2][i], d[1][i]), t[3][i] = sub(d[1][i], d[3][i]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 u[4] = {sub(t[i][0], t[i][2]), add(t[i][1], t[i][2]), sub(t[i][2], t[i][1]),
                         sub(t[i][1], t[i][3])};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      float* to = v + (4 * i + j) * pitch + c;
      if constexpr (kMasked) _mm512_mask_storeu_ps(to, mask, u[j]);
      else _mm512_storeu_ps(to, u[j]);
    }
  }
}

}  // namespace

void winograd_input(const float* const (&pixel)[16], int64_t ic, float* v, int64_t pitch) {
  int64_t c = 0;
  for (; c + kLanes <= ic; c += kLanes) input_vector<false>(pixel, c, 0xffff, v, pitch);
  if (c < ic) input_vector<true>(pixel, c, mask_of_first(ic - c), v, pitch);
}

void winograd_output(const float* m, int64_t pitch, int64_t oc, const float* bias,
                     const Epilogue& epilogue, float* const (&y)[4], const float* const (&r)[4]) {
  for (int64_t c = 0; c < oc; c += kLanes) {
    const __mmask16 mask = mask_of_first(oc - c);
    __m512 t[2][4], v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* from = m + i * pitch + c;
      const __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + 4 * pitch);
      const __m512 d = _mm512_loadu_ps(from + 8 * pitch), e = _mm512_loadu_ps(from + 12 * pitch);
      t[0][i] = add(add(a, b), d), t[1][i] = sub(sub(b, d), e);
    }
    const __m512 b = bias ? _mm512_maskz_loadu_ps(mask, bias + c) : _mm512_setzero_ps();
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      v[2 * i] = add(add(add(t[i][0], t[i][1]), t[i][2]), b);
      v[2 * i + 1] = add(sub(sub(t[i][1], t[i][2]), t[i][3]), b);
    }
    const auto residual = [&] {
      for (int i = 0; i < 4; ++i) {
        if (y[i]) v[i] = add(v[i], _mm512_maskz_loadu_ps(mask, r[i] + c));
      }
    };
    if (epilogue.residual == Epilogue::kBeforeAct) residual();
    activate_all(v, epilogue);
    if (epilogue.residual == Epilogue::kAfter) residual();
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (y[i]) _mm512_mask_storeu_ps(y[i] + c, mask, v[i]);
    }
  }
}

}  // namespace trireme::cpu::f32
