// The loops of pool2d's gradient, compiled for several instruction sets.
#pragma once

#include <cstdint>

#include "ops/pool_rows.h"

namespace trireme {

// For windows of 2 x 2 side by side over n < 16 channels: a vector holds several windows. Where its
// lanes come from among the 2 * windows pixels that lie behind each other (of the left and of the
// right pixels), and the way back.
struct PoolPairs {
  int64_t windows;  // of a vector
  int32_t left[16], right[16], first[16], second[16];

  explicit PoolPairs(int64_t n);
};

// n adjacent channels of one window; pixel (h, w) of x and dx is at h * row + w * step.
template <class T> struct PoolGradRows {
  // dx += dy where the window has its first maximum.
  void (*max)(const T* x, const T* dy, T* dx, const PoolWindow& w, int64_t row, int64_t step,
              int64_t n);
  // dx += dy * w.factor on the whole window.
  void (*avg)(const T* dy, T* dx, const PoolWindow& w, int64_t row, int64_t step, int64_t n);
  // y, index: the first maximum and its place h * width + w.
  void (*max_index)(const T* x, T* y, int32_t* index, const PoolWindow& w, int64_t row,
                    int64_t step, int64_t width, int64_t n);
  // max for `count` windows of 2 x 2 side by side: writes all of both rows of dx under them. Null
  // where the loop over single windows is as good.
  void (*max_pairs)(const T* x, const T* dy, T* dx, const PoolPairs& pairs, int64_t count,
                    int64_t row, int64_t step, int64_t n) = nullptr;
};

const PoolGradRows<float>& pool_grad_rows_avx512();

// The best for this processor.
template <class T> const PoolGradRows<T>& pool_grad_rows();

}  // namespace trireme
