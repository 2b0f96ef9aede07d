// One time step of a recurrent layer, for any processor.
#include "ops/rnn_step.h"

#include <algorithm>
#include <cmath>

namespace trireme {
namespace {

float sigmoid(float x) { return 1.f / (1.f + std::exp(-x)); }

// The gates of all rows; the first `with_x` of them start from the input's part, the others from
// zero.
void product(const RnnStep& s, int64_t gates, int64_t with_x) {
  const int64_t hidden = s.hidden, padded = rnn_padded(hidden);
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t g = 0; g < gates; ++g) {
      float* to = s.gates + (r * gates + g) * hidden;
      for (int64_t i = 0; i < hidden; ++i)
        to[i] = g < with_x ? s.x_gates[r * s.x_stride + g * hidden + i] : 0.f;
      for (int64_t c = 0; c < padded; c += kRnnPanel) {
        const int64_t width = std::min(kRnnPanel, padded - c), used = std::min(width, hidden - c);
        const float* w = s.weight + (g * padded + c) * hidden;
        for (int64_t k = 0; k < hidden; ++k, w += width)
          for (int64_t i = 0; i < used; ++i) to[c + i] += s.h[r * hidden + k] * w[i];
      }
    }
  }
}

float next(const RnnStep& s, int64_t r, int64_t i) {
  const int64_t n = s.hidden;
  if (s.mode == RnnMode::kLstm) {
    const float* g = s.gates + r * 4 * n + i;
    float& c = s.c[r * n + i];
    c = sigmoid(g[n]) * c + sigmoid(g[0]) * std::tanh(g[2 * n]);
    return sigmoid(g[3 * n]) * std::tanh(c);
  }
  if (s.mode == RnnMode::kGru) {
    const float* g = s.gates + r * 3 * n + i;
    const float candidate = std::tanh(s.x_gates[r * s.x_stride + 2 * n + i] +
                                      sigmoid(g[0]) * (g[2 * n] + s.reset_bias[i]));
    return (s.h[r * n + i] - candidate) * sigmoid(g[n]) + candidate;
  }
  const float v = s.gates[r * n + i];
  return s.mode == RnnMode::kTanh ? std::tanh(v) : v > 0 ? v : 0;
}

}  // namespace

void rnn_step_baseline(const RnnStep& s) {
  const int64_t n = s.hidden;
  const int64_t gates = s.mode == RnnMode::kLstm ? 4 : s.mode == RnnMode::kGru ? 3 : 1;
  product(s, gates, s.mode == RnnMode::kGru ? 2 : gates);
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      const float h = next(s, r, i);
      s.h[r * n + i] = h;
      if (s.y) s.y[r * s.y_stride + i] = h;
    }
  }
}

}  // namespace trireme
