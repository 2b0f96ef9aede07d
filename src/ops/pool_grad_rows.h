// The loops of pool2d's gradient, compiled for several instruction sets.
#pragma once

#include <cstdint>

#include "ops/pool_rows.h"

namespace trireme {

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
};

const PoolGradRows<float>& pool_grad_rows_avx512();

// The best for this processor.
template <class T> const PoolGradRows<T>& pool_grad_rows();

}  // namespace trireme
