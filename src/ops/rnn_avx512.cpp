// One time step of a recurrent layer with AVX-512.
#include "ops/avx512.h"
#include "ops/rnn_step.h"

namespace trireme {
namespace {

// gates[r] = init[r] + h[r] x weight for kRows rows and kVectors vectors of columns.
template <int kRows, int kVectors>
void product_block(const float* h, int64_t hidden, const float* weight, int64_t n, const float* init,
                   int64_t init_stride, float* gates, __mmask16 last) {
  Vector a[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v)
      a[r][v] = init ? load(init + r * init_stride + 16 * v, v + 1 < kVectors ? __mmask16{0xffff} : last)
                     : _mm512_setzero_ps();
  for (int64_t k = 0; k < hidden; ++k) {
    Vector w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = load(weight + k * n + 16 * v, v + 1 < kVectors ? __mmask16{0xffff} : last);
    for (int r = 0; r < kRows; ++r) {
      const Vector x = _mm512_set1_ps(h[r * hidden + k]);
      for (int v = 0; v < kVectors; ++v) a[r][v] = _mm512_fmadd_ps(x, w[v], a[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) store(gates + r * n + 16 * v, v + 1 < kVectors ? __mmask16{0xffff} : last, a[r][v]);
}

template <int kRows>
void product_rows(const RnnStep& s, int64_t row, int64_t first, int64_t end, int64_t n, bool add_x) {
  const float* h = s.h + row * s.hidden;
  const float* init = add_x ? s.x_gates + row * s.x_stride : nullptr;
  float* gates = s.gates + row * n;
  int64_t c = first;
  for (; c + 64 <= end; c += 64)
    product_block<kRows, 4>(h, s.hidden, s.weight + c, n, init ? init + c : nullptr, s.x_stride, gates + c, 0xffff);
  for (; c < end; c += 16)
    product_block<kRows, 1>(h, s.hidden, s.weight + c, n, init ? init + c : nullptr, s.x_stride, gates + c, lanes(end - c));
}

void product(const RnnStep& s, int64_t first, int64_t end, int64_t n, bool add_x) {
  int64_t row = 0;
  for (; row + 4 <= s.rows; row += 4) product_rows<4>(s, row, first, end, n, add_x);
  for (; row < s.rows; ++row) product_rows<1>(s, row, first, end, n, add_x);
}

void finish(const RnnStep& s, int64_t row, int64_t at, __mmask16 m, Vector h) {
  store(s.h + row * s.hidden + at, m, h);
  if (s.y) store(s.y + row * s.y_stride + at, m, h);
}

void lstm_gates(const RnnStep& s) {
  const int64_t n = s.hidden;
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* g = s.gates + r * 4 * n;
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 m = lanes(n - i);
      const Vector in = sigmoid(load(g + i, m)), forget = sigmoid(load(g + n + i, m));
      const Vector candidate = tanh(load(g + 2 * n + i, m)), out = sigmoid(load(g + 3 * n + i, m));
      float* c = s.c + r * n + i;
      const Vector cell = _mm512_fmadd_ps(forget, load(c, m), _mm512_mul_ps(in, candidate));
      store(c, m, cell);
      finish(s, r, i, m, _mm512_mul_ps(out, tanh(cell)));
    }
  }
}

void gru_gates(const RnnStep& s) {
  const int64_t n = s.hidden;
  for (int64_t r = 0; r < s.rows; ++r) {
    const float* g = s.gates + r * 3 * n;
    const float* x = s.x_gates + r * s.x_stride + 2 * n;
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 m = lanes(n - i);
      const Vector reset = sigmoid(load(g + i, m)), update = sigmoid(load(g + n + i, m));
      const Vector product = _mm512_add_ps(load(g + 2 * n + i, m), load(s.reset_bias + i, m));
      const Vector candidate = tanh(_mm512_fmadd_ps(reset, product, load(x + i, m)));
      const Vector before = load(s.h + r * n + i, m);
      finish(s, r, i, m, _mm512_fmadd_ps(_mm512_sub_ps(before, candidate), update, candidate));
    }
  }
}

void simple_gates(const RnnStep& s) {
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t i = 0; i < s.hidden; i += 16) {
      const __mmask16 m = lanes(s.hidden - i);
      const Vector v = load(s.gates + r * s.hidden + i, m);
      finish(s, r, i, m, s.mode == RnnMode::kTanh ? tanh(v) : _mm512_max_ps(_mm512_setzero_ps(), v));
    }
  }
}

}  // namespace

void rnn_step_avx512(const RnnStep& s) {
  const int64_t n = s.hidden;
  switch (s.mode) {
    case RnnMode::kLstm:
      product(s, 0, 4 * n, 4 * n, true);
      return lstm_gates(s);
    case RnnMode::kGru:  // the candidate's hidden product stays apart from its input
      product(s, 0, 2 * n, 3 * n, true);
      product(s, 2 * n, 3 * n, 3 * n, false);
      return gru_gates(s);
    default:
      product(s, 0, n, n, true);
      return simple_gates(s);
  }
}

}  // namespace trireme
