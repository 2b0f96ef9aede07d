// What rnn_layer and its gradient share: the shapes, and products in float and double.
#pragma once

#include <oneapi/dnnl/dnnl.h>

#include "base/parallel.h"
#include "ops/elements.h"
#include "ops/indices.h"
#include "ops/rnn.h"
#include "ops/rnn_step.h"

namespace trireme {

// Inputs of rnn_layer; weights: w_ih, w_hh of each direction, then b_ih, b_hh of each.
struct RnnIn {
  static constexpr size_t kX = 0, kH0 = 1, kC0 = 2, kLengths = 3, kWeights = 4;
};

// Of rnn.cpp:
RnnMode rnn_mode(const RnnAttrs& a);
int64_t rnn_gates(RnnMode mode);
// Packs w_hh [gates x hidden, hidden] as RnnStep wants it.
void rnn_pack_hidden(const float* from, int64_t gates, int64_t hidden, float* to);

struct RnnShape {
  RnnMode mode;
  int64_t steps, batch, width, hidden, directions, gates;  // gates: of all hidden units
  int64_t chunks;                                          // of the batch: tasks of a direction
  bool has_h0, has_c0, has_lengths;
  Indices lengths;

  explicit RnnShape(const Prepare& p);
  int64_t rows() const { return steps * batch; }
  int64_t length(const Launch& l, int64_t b) const {
    return has_lengths ? lengths.get(l, b) : steps;
  }
  size_t weight(int64_t direction, bool hidden_one) const {
    return RnnIn::kWeights + static_cast<size_t>(2 * direction + hidden_one);
  }
  size_t bias(int64_t direction, bool hidden_one) const {
    return RnnIn::kWeights + static_cast<size_t>(2 * (directions + direction) + hidden_one);
  }
  // The step taken before step t of a row, or -1 for the initial state.
  int64_t before(int64_t direction, int64_t t, int64_t length) const {
    if (direction == 0) return t - 1;
    return t + 1 < length ? t + 1 : -1;
  }
  // f(direction, first row, last row), spread over the threads.
  template <class F> void for_tasks(F f) const {
    parallel_for(directions * chunks, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t k = i % chunks;
        f(i / chunks, k * batch / chunks, (k + 1) * batch / chunks);
      }
    });
  }
};

void rnn_grad(Grad& g);  // of rnn

void rnn_check_lengths(const RnnShape& s, const Launch& l);

// c [m, n] = op(a) op(b) + beta c, all row-major; 'T': the stored matrix is the transposed one.
inline void rnn_product(char ta, char tb, int64_t m, int64_t n, int64_t k, const float* a,
                        int64_t lda, const float* b, int64_t ldb, float beta, float* c,
                        int64_t ldc) {
  if (dnnl_sgemm(ta, tb, m, n, k, 1.f, a, lda, b, ldb, beta, c, ldc) != dnnl_success)
    fail(Code::kInternal, "[rnn] oneDNN's matrix product failed");
}
inline void rnn_product(char ta, char tb, int64_t m, int64_t n, int64_t k, const double* a,
                        int64_t lda, const double* b, int64_t ldb, double beta, double* c,
                        int64_t ldc) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = beta == 0 ? 0 : beta * c[i * ldc + j];
      for (int64_t q = 0; q < k; ++q)
        sum += (ta == 'T' ? a[q * lda + i] : a[i * lda + q]) *
               (tb == 'T' ? b[j * ldb + q] : b[q * ldb + j]);
      c[i * ldc + j] = sum;
    }
  }
}

}  // namespace trireme
