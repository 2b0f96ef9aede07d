// A list of tensors cut into pieces of like size, and their elements as numbers.
#pragma once

#include <vector>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "ops/elements.h"
#include "ops/optimizer_rules.h"

namespace trireme {

// Pieces are the same whatever the number of threads, so that sums over them are.
struct Chunk {
  size_t tensor;
  int64_t begin, end;
};

struct Chunks {
  std::vector<Chunk> list;
  int64_t grain = 1;  // of parallel_for over the list

  explicit Chunks(const std::vector<int64_t>& sizes) {
    constexpr int64_t kSize = 16384;
    int64_t total = 0;
    for (size_t k = 0; k < sizes.size(); ++k) {
      total += sizes[k];
      for (int64_t at = 0; at < sizes[k]; at += kSize)
        list.push_back({k, at, std::min(sizes[k], at + kSize)});
    }
    if (total > 0)
      grain = std::max<int64_t>(1, kTaskElements * static_cast<int64_t>(list.size()) / total);
  }
  int64_t count() const { return static_cast<int64_t>(list.size()); }
};

// n <= kRuleBlock elements from `begin` on as T (float or double): the memory itself where it is
// of that type, else converted into `buffer`.
template <class T>
const T* load_block(const RuleTable& rules, const void* from, DType dtype, int64_t begin, int64_t n,
                    T* buffer) {
  constexpr DType kOwn = std::is_same_v<T, double> ? DType::kFloat64 : DType::kFloat32;
  if (dtype == kOwn) return static_cast<const T*>(from) + begin;
  if constexpr (std::is_same_v<T, float>) {
    if (dtype == DType::kBFloat16)
      rules.from_bf16(static_cast<const uint16_t*>(from) + begin, buffer, n);
    else if (dtype == DType::kFloat16)
      rules.from_f16(static_cast<const uint16_t*>(from) + begin, buffer, n);
    else
      for (int64_t i = 0; i < n; ++i)
        buffer[i] = static_cast<float>(static_cast<const double*>(from)[begin + i]);
  } else {
    float narrow[kRuleBlock];
    const float* values = load_block<float>(rules, from, dtype, begin, n, narrow);
    for (int64_t i = 0; i < n; ++i) buffer[i] = values[i];
  }
  return buffer;
}

// The other way; nothing to do when `values` is that memory.
template <class T>
void store_block(const RuleTable& rules, const T* values, void* to, DType dtype, int64_t begin,
                 int64_t n) {
  if (dtype == DType::kBFloat16 || dtype == DType::kFloat16) {
    float narrow[kRuleBlock];
    const float* from = narrow;
    if constexpr (std::is_same_v<T, float>) from = values;
    else
      for (int64_t i = 0; i < n; ++i) narrow[i] = static_cast<float>(values[i]);
    (dtype == DType::kBFloat16 ? rules.to_bf16 : rules.to_f16)(
        from, static_cast<uint16_t*>(to) + begin, n);
    return;
  }
  T* own = static_cast<T*>(to) + begin;
  if (own != values) std::copy_n(values, n, own);
}

// f(first, n) over [begin, end) in blocks.
template <class F> void each_block(int64_t begin, int64_t end, F&& f) {
  for (int64_t at = begin; at < end; at += kRuleBlock) f(at, std::min(kRuleBlock, end - at));
}

}  // namespace trireme
