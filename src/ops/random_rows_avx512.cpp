// Random numbers with AVX-512: sixteen counters in a register. The same numbers as the baseline's.
#include "ops/avx512.h"
#include "ops/random_rows.h"

namespace trireme {
namespace {

// Upper and lower halves of the products of sixteen numbers by one.
inline void multiply(__m512i a, __m512i by, __m512i& high, __m512i& low) {
  const __m512i even = _mm512_mul_epu32(a, by),
                odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), by);
  low = _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
  high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
}

struct Numbers {
  __m512i v[4];
};

inline Numbers numbers_of(const RandomStream& s, uint64_t at) {
  const auto word = [](uint64_t v) { return _mm512_set1_epi32(static_cast<int>(v)); };
  const uint64_t first = at * 16;
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i c0 = _mm512_add_epi32(word(first), lane), c1 = word((first >> 32) ^ (s.offset >> 32)),
          c2 = word(s.index), c3 = word(s.offset);
  const __m512i m0 = word(0xD2511F53u), m1 = word(0xCD9E8D57u);
  auto k0 = static_cast<uint32_t>(s.seed), k1 = static_cast<uint32_t>(s.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    __m512i high0, low0, high1, low1;
    multiply(c0, m0, high0, low0);
    multiply(c2, m1, high1, low1);
    c0 = _mm512_ternarylogic_epi32(high1, c1, word(k0), 0x96);
    c2 = _mm512_ternarylogic_epi32(high0, c3, word(k1), 0x96);
    c1 = low1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

void block(const RandomStream& s, uint64_t at, uint32_t* numbers) {
  const Numbers r = numbers_of(s, at);
  for (int k = 0; k < 4; ++k) _mm512_storeu_si512(numbers + 16 * k, r.v[k]);
}

void dropout(const RandomStream& s, uint64_t first, uint32_t threshold, float scale, const float* x,
             float* y, int64_t n) {
  const __m512i limit = _mm512_set1_epi32(static_cast<int>(threshold));
  const Vector factor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < n; i += kRandomBlock, ++first) {
    const Numbers r = numbers_of(s, first);
    for (int k = 0; k < 4; ++k) {
      const int64_t at = i + 16 * k;
      if (at >= n) break;
      const __mmask16 m = lanes(n - at);
      const __mmask16 kept = _mm512_cmpge_epu32_mask(r.v[k], limit);
      store(y + at, m, _mm512_maskz_mul_ps(kept, load(x + at, m), factor));
    }
  }
}

constexpr RandomRows kRows{block, dropout};

}  // namespace

const RandomRows& random_rows_avx512() { return kRows; }

}  // namespace trireme
