// The windows of pool2d, which it and its gradient share.
#pragma once

#include <algorithm>
#include <vector>

#include "ops/pool.h"
#include "ops/pool_rows.h"

namespace trireme {

// One dimension of the windows: where each begins and ends in the input, and how many positions an
// average counts.
struct PoolSpan {
  int64_t begin, end, counted;
};

inline std::vector<PoolSpan> pool_spans(const Pool2dAttrs& a, int64_t in, int64_t out, size_t d) {
  std::vector<PoolSpan> spans;
  for (int64_t o = 0; o < out; ++o) {
    if (a.adaptive) {
      const int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
      spans.push_back({begin, end, end - begin});
      continue;
    }
    const int64_t start = o * a.strides[d] - a.paddings[2 * d];
    const int64_t begin = std::min(in, std::max<int64_t>(0, start)),
                  end = std::clamp(start + a.kernel[d], begin, in);
    const int64_t padded_end = std::min(start + a.kernel[d], in + a.paddings[2 * d + 1]);
    spans.push_back({begin, end, a.exclusive ? end - begin : padded_end - start});
  }
  return spans;
}

struct PoolWindows {
  std::vector<PoolSpan> h, w;

  PoolWindows(const Pool2dAttrs& a, const Shape& x, const Shape& y)
      : h(pool_spans(a, x[2], y[2], 0)), w(pool_spans(a, x[3], y[3], 1)) {}

  PoolWindow at(int64_t oh, int64_t ow) const {
    const PoolSpan &y = h[static_cast<size_t>(oh)], &x = w[static_cast<size_t>(ow)];
    const int64_t counted = y.counted * x.counted;
    return {y.begin, y.end, x.begin, x.end, counted > 0 ? 1.0 / static_cast<double>(counted) : 0.0};
  }
};

// The rule of pool2d and max_pool2d_with_index.
Shape pool_output(const Infer& i);

}  // namespace trireme
