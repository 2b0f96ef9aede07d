// One time step of a recurrent layer with AVX-512.
#include "ops/avx512.h"
#include "ops/rnn_step.h"

namespace trireme {
namespace {

// Where a block of the product comes from and goes to; rows are `hidden`, `x_stride` and `n` apart.
struct Block {
  const float *h, *weight, *init;  // init: null for zero
  float* gates;
  int64_t hidden, x_stride, n;
  __mmask16 last;  // lanes of the last vector
};

// gates = init + h x weight for kRows rows and kVectors vectors of columns, which are a whole
// panel.
template <int kRows, int kVectors> void product_block(const Block& b) {
  const auto mask = [&](int v) { return v + 1 < kVectors ? __mmask16{0xffff} : b.last; };
  Vector a[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v)
      a[r][v] = b.init ? load(b.init + r * b.x_stride + 16 * v, mask(v)) : _mm512_setzero_ps();
  const float* weight = b.weight;
  for (int64_t k = 0; k < b.hidden; ++k, weight += 16 * kVectors) {
    Vector w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = load(weight + 16 * v, 0xffff);
    for (int r = 0; r < kRows; ++r) {
      const Vector x = _mm512_set1_ps(b.h[r * b.hidden + k]);
      for (int v = 0; v < kVectors; ++v) a[r][v] = _mm512_fmadd_ps(x, w[v], a[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) store(b.gates + r * b.n + 16 * v, mask(v), a[r][v]);
}

template <int kRows> void product_rows(const Block& b, int64_t vectors) {
  switch (vectors) {
    case 1: return product_block<kRows, 1>(b);
    case 2: return product_block<kRows, 2>(b);
    case 3: return product_block<kRows, 3>(b);
    default: return product_block<kRows, 4>(b);
  }
}

// The gates [first, end) of `count` for all rows; a panel stays in the cache while the rows pass.
void product(const RnnStep& s, int64_t first, int64_t end, int64_t count, bool add_x) {
  const int64_t padded = rnn_padded(s.hidden), n = count * s.hidden;
  for (int64_t g = first; g < end; ++g) {
    for (int64_t c = 0; c < padded; c += kRnnPanel) {
      const int64_t vectors = (padded - c < kRnnPanel ? padded - c : kRnnPanel) / 16,
                    at = g * s.hidden + c;
      Block b{s.h,
              s.weight + (g * padded + c) * s.hidden,
              add_x ? s.x_gates + at : nullptr,
              s.gates + at,
              s.hidden,
              s.x_stride,
              n,
              lanes(s.hidden - c - 16 * (vectors - 1))};
      for (int64_t rows = s.rows; rows > 0;) {
        const int64_t now = rows >= 6 ? 6 : rows;
        switch (now) {
          case 1: product_rows<1>(b, vectors); break;
          case 2: product_rows<2>(b, vectors); break;
          case 3: product_rows<3>(b, vectors); break;
          case 4: product_rows<4>(b, vectors); break;
          case 5: product_rows<5>(b, vectors); break;
          default: product_rows<6>(b, vectors); break;
        }
        rows -= now;
        b.h += now * s.hidden;
        if (b.init) b.init += now * s.x_stride;
        b.gates += now * n;
      }
    }
  }
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
      finish(s, r, i, m,
             s.mode == RnnMode::kTanh ? tanh(v) : _mm512_max_ps(_mm512_setzero_ps(), v));
    }
  }
}

}  // namespace

void rnn_step_avx512(const RnnStep& s) {
  switch (s.mode) {
    case RnnMode::kLstm: product(s, 0, 4, 4, true); return lstm_gates(s);
    case RnnMode::kGru:  // the candidate's hidden product stays apart from its input
      product(s, 0, 2, 3, true);
      product(s, 2, 3, 3, false);
      return gru_gates(s);
    default: product(s, 0, 1, 1, true); return simple_gates(s);
  }
}

}  // namespace trireme
