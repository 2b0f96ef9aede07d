// Pooling windows over channels-last rows: the vector forms that pool.cpp chooses from at plan
// time.
#pragma once

#include <cstdint>

namespace trireme {

// The pixels [h0, h1) x [w0, w1) of one image that go into one result.
struct PoolWindow {
  int64_t h0, h1, w0, w1;
  double factor;  // avg: one over the number of pixels that count
};

// y[c] = max or factor * sum over the window, for `channels` adjacent channels; rows of x are `row`
// elements apart. bfloat16 comes as its bits.
void pool_window_avx512(const float* x, const PoolWindow& w, int64_t row, int64_t channels,
                        bool max, float* y);
void pool_window_avx512(const uint16_t* x, const PoolWindow& w, int64_t row, int64_t channels,
                        bool max, uint16_t* y);

}  // namespace trireme
