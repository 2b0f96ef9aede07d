// The loops of the normalisations' training forms, compiled for several instruction sets.
#pragma once

#include <cstdint>

namespace trireme {

// T: elements in memory; A: what is computed in. "rows": n adjacent channels a row, every channel
// with numbers of its own; "run": n elements of one channel.
template <class T, class A> struct NormRows {
  // sum[c] += x - shift[c], squares[c] += (x - shift[c])^2
  void (*sums)(const T* x, int64_t rows, int64_t n, const A* shift, double* sum, double* squares);
  void (*run_sums)(const T* x, int64_t n, A shift, double* sum, double* squares);
  // y = x factor + offset
  void (*affine)(const T* x, T* y, int64_t rows, int64_t n, const A* factor, const A* offset);
  void (*run_affine)(const T* x, T* y, int64_t n, A factor, A offset);
  // sum[c] += dy, products[c] += dy (x - mean[c])
  void (*grad_sums)(const T* x, const T* dy, int64_t rows, int64_t n, const A* mean, double* sum,
                    double* products);
  void (*run_grad_sums)(const T* x, const T* dy, int64_t n, A mean, double* sum, double* products);
  // dx = a dy + b x + c
  void (*grad)(const T* x, const T* dy, T* dx, int64_t rows, int64_t n, const A* a, const A* b,
               const A* c);
  void (*run_grad)(const T* x, const T* dy, T* dx, int64_t n, A a, A b, A c);
  // layer_norm's gradient; scale may be null; dscale and dbias [n] (or null) are added to.
  void (*layer)(const T* x, const A* scale, const T* dy, T* dx, int64_t rows, int64_t n, A epsilon,
                A* dscale, A* dbias);
  // dx = y (dy - sum of y dy)
  void (*softmax)(const T* y, const T* dy, T* dx, int64_t rows, int64_t n);
};

const NormRows<float, float>& norm_rows_avx512();

// The best for this processor.
template <class T, class A> const NormRows<T, A>& norm_rows();

}  // namespace trireme
