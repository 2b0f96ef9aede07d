// The end of every bfloat16 kernel, one instance for each activation.
#include "device/cpu/epilogue_bf16_amx.h"

#include "device/cpu/bf16_math_amx.h"

namespace trireme::cpu::bf16 {
namespace {

struct Constants {
  __m512 alpha, beta, scale, shift;
  Epilogue::Residual residual;
};

template <Act kAct> inline __m512 finish(__m512 v, const __m512& r, const Constants& k) {
  if (k.residual == Epilogue::kBeforeAct) v = _mm512_add_ps(v, r);
  v = _mm512_fmadd_ps(activate<kAct>(v, k.alpha, k.beta), k.scale, k.shift);
  if (k.residual == Epilogue::kAfter) v = _mm512_add_ps(v, r);
  return v;
}

// Up to 16 columns.
template <Act kAct> void finish_narrow(const Constants& k, const EpilogueBlock& b) {
  const __mmask16 mask = mask16(b.cols);
  const __m512 bias = b.bias ? _mm512_maskz_loadu_ps(mask, b.bias) : _mm512_setzero_ps();
  __m512 r = _mm512_setzero_ps();
  for (int64_t i = 0; i < b.rows; ++i) {
    if (k.residual) r = widen(_mm256_maskz_loadu_epi16(mask, b.residual + i * b.ldr));
    const __m512 v = _mm512_add_ps(_mm512_load_ps(b.acc + i * b.acc_ld), bias);
    _mm256_mask_storeu_epi16(b.y + i * b.ldy, mask, narrow(finish<kAct>(v, r, k)));
  }
}

template <Act kAct> void finish_wide(const Constants& k, const EpilogueBlock& b) {
  const __mmask32 mask = mask32(b.cols);
  __m512 bias0 = _mm512_setzero_ps(), bias1 = bias0, r0 = bias0, r1 = bias0;
  if (b.bias) {
    bias0 = _mm512_loadu_ps(b.bias);
    bias1 = _mm512_maskz_loadu_ps(mask16(b.cols - 16), b.bias + 16);
  }
  for (int64_t i = 0; i < b.rows; ++i) {
    if (k.residual) {
      const __m512i r = _mm512_maskz_loadu_epi16(mask, b.residual + i * b.ldr);
      r0 = widen(_mm512_castsi512_si256(r)), r1 = widen(_mm512_extracti64x4_epi64(r, 1));
    }
    const float* acc = b.acc + i * b.acc_ld;
    const __m512 v0 = finish<kAct>(_mm512_add_ps(_mm512_load_ps(acc), bias0), r0, k);
    const __m512 v1 = finish<kAct>(_mm512_add_ps(_mm512_load_ps(acc + 16), bias1), r1, k);
    _mm512_mask_storeu_epi16(b.y + i * b.ldy, mask, narrow(v0, v1));
  }
}

// Even columns in acc[0, 16), odd ones in acc[16, 32). The residual is split as it is widened.
template <Act kAct> void finish_split(const Constants& k, const EpilogueBlock& b) {
  const __mmask32 mask = mask32(b.cols);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  __m512 bias0 = _mm512_setzero_ps(), bias1 = bias0, r0 = bias0, r1 = bias0;
  if (b.bias) {
    const __m512 low = _mm512_maskz_loadu_ps(mask16(b.cols), b.bias);
    const __m512 high = _mm512_maskz_loadu_ps(mask16(b.cols - 16), b.bias + 16);
    bias0 = _mm512_permutex2var_ps(low, even, high);
    bias1 = _mm512_permutex2var_ps(low, odd, high);
  }
  // Word 2j is taken from place j, word 2j + 1 from place 16 + j.
  const __m512i interleave = _mm512_or_si512(
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
      _mm512_slli_epi32(
          _mm512_setr_epi32(16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31), 16));
  for (int64_t i = 0; i < b.rows; ++i) {
    if (k.residual) {
      const __m512i r = _mm512_maskz_loadu_epi16(mask, b.residual + i * b.ldr);
      r0 = even_lanes(r), r1 = odd_lanes(r);
    }
    const float* acc = b.acc + i * b.acc_ld;
    const __m512 v0 = finish<kAct>(_mm512_add_ps(_mm512_load_ps(acc), bias0), r0, k);
    const __m512 v1 = finish<kAct>(_mm512_add_ps(_mm512_load_ps(acc + 16), bias1), r1, k);
    const __m512i both = _mm512_permutexvar_epi16(interleave, narrow(v0, v1));
    _mm512_mask_storeu_epi16(b.y + i * b.ldy, mask, both);
  }
}

template <Act kAct, bool kSplit> void finish_block(const Epilogue& e, const EpilogueBlock& b) {
  const Constants k{_mm512_set1_ps(e.alpha), _mm512_set1_ps(e.beta), _mm512_set1_ps(e.scale),
                    _mm512_set1_ps(e.shift), e.residual};
  if constexpr (kSplit) {
    finish_split<kAct>(k, b);
  } else {
    b.cols <= 16 ? finish_narrow<kAct>(k, b) : finish_wide<kAct>(k, b);
  }
}

template <bool kSplit> EpilogueFn find(Act act) {
  switch (act) {
    case Act::kNone: return finish_block<Act::kNone, kSplit>;
    case Act::kRelu: return finish_block<Act::kRelu, kSplit>;
    case Act::kClip: return finish_block<Act::kClip, kSplit>;
    case Act::kLeakyRelu: return finish_block<Act::kLeakyRelu, kSplit>;
    case Act::kHardSwish: return finish_block<Act::kHardSwish, kSplit>;
    case Act::kHardSigmoid: return finish_block<Act::kHardSigmoid, kSplit>;
    case Act::kSigmoid: return finish_block<Act::kSigmoid, kSplit>;
    case Act::kSwish: return finish_block<Act::kSwish, kSplit>;
    case Act::kGelu: return finish_block<Act::kGelu, kSplit>;
    case Act::kTanh: return finish_block<Act::kTanh, kSplit>;
  }
  return nullptr;
}

}  // namespace

EpilogueFn find_epilogue(Act act, bool split) { return split ? find<true>(act) : find<false>(act); }

}  // namespace trireme::cpu::bf16
