// Random numbers for every processor, and the choice.
#include "base/cpu_features.h"
#include "ops/random_rows.h"

namespace trireme {
namespace {

constexpr int kLanes = 16;

// Sixteen counters side by side; word w of counter i becomes number w * 16 + i.
void block(const RandomStream& s, uint64_t at, uint32_t* __restrict numbers) {
  uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes];
  const uint64_t first = at * kLanes;
  for (int i = 0; i < kLanes; ++i) {
    c0[i] = static_cast<uint32_t>(first) + static_cast<uint32_t>(i);  // `first` ends in zeros
    c1[i] = static_cast<uint32_t>(first >> 32) ^ static_cast<uint32_t>(s.offset >> 32);
    c2[i] = s.index;
    c3[i] = static_cast<uint32_t>(s.offset);
  }
  auto k0 = static_cast<uint32_t>(s.seed), k1 = static_cast<uint32_t>(s.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kLanes; ++i) {
      const uint64_t a = uint64_t{0xD2511F53u} * c0[i], b = uint64_t{0xCD9E8D57u} * c2[i];
      const uint32_t n0 = static_cast<uint32_t>(b >> 32) ^ c1[i] ^ k0,
                     n2 = static_cast<uint32_t>(a >> 32) ^ c3[i] ^ k1;
      c1[i] = static_cast<uint32_t>(b);
      c3[i] = static_cast<uint32_t>(a);
      c0[i] = n0;
      c2[i] = n2;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kLanes; ++i) {
    numbers[i] = c0[i];
    numbers[kLanes + i] = c1[i];
    numbers[2 * kLanes + i] = c2[i];
    numbers[3 * kLanes + i] = c3[i];
  }
}

void dropout(const RandomStream& s, uint64_t first, uint32_t threshold, float scale, const float* x,
             float* y, int64_t n) {
  uint32_t numbers[kRandomBlock];
  for (int64_t i = 0; i < n; i += kRandomBlock, ++first) {
    block(s, first, numbers);
    const int64_t m = n - i < kRandomBlock ? n - i : kRandomBlock;
    for (int64_t k = 0; k < m; ++k) {
      const float kept = x[i + k] * scale;
      y[i + k] = numbers[k] >= threshold ? kept : 0.f;
    }
  }
}

constexpr RandomRows kRandomRows{block, dropout};

}  // namespace

const RandomRows& random_rows_baseline() { return kRandomRows; }

const RandomRows& random_rows() {
  return cpu_features().avx512 ? random_rows_avx512() : kRandomRows;
}

}  // namespace trireme
