// Which input pixels an output pixel of a resize sees; shared with the gradient.
#pragma once

#include <algorithm>
#include <vector>

#include "ops/pool.h"

namespace trireme {

// Input pixels per output pixel; in float, as Paddle does, so that the same pixels are chosen.
inline float interp_ratio(const InterpAttrs& a, int64_t in, int64_t out, size_t d) {
  if (out <= 1) return 0.f;
  if (a.align_corners) return static_cast<float>(in - 1) / static_cast<float>(out - 1);
  if (!a.scale.empty()) return 1.f / static_cast<float>(a.scale[d]);
  return static_cast<float>(in) / static_cast<float>(out);
}

inline std::vector<int64_t> nearest_table(const InterpAttrs& a, int64_t in, int64_t out, size_t d) {
  const float ratio = interp_ratio(a, in, out, d);
  std::vector<int64_t> table;
  for (int64_t o = 0; o < out; ++o) {
    const float at = ratio * static_cast<float>(o) + (a.align_corners ? 0.5f : 0.f);
    table.push_back(std::min(in - 1, static_cast<int64_t>(at)));
  }
  return table;
}

// The two pixels of one dimension and the weight of the second.
struct InterpPair {
  int64_t first, second;
  float weight;
};

inline std::vector<InterpPair> bilinear_table(const InterpAttrs& a, int64_t in, int64_t out,
                                              size_t d) {
  const float ratio = interp_ratio(a, in, out, d);
  const bool half_pixel = a.align_mode == 0 && !a.align_corners;
  std::vector<InterpPair> table;
  for (int64_t o = 0; o < out; ++o) {
    float at =
        half_pixel ? ratio * (static_cast<float>(o) + 0.5f) - 0.5f : ratio * static_cast<float>(o);
    at = std::max(at, 0.f);
    const int64_t first = std::min(in - 1, static_cast<int64_t>(at));
    table.push_back({first, std::min(first + 1, in - 1), at - static_cast<float>(first)});
  }
  return table;
}

}  // namespace trireme
