// One time step of a recurrent layer, for any processor.
#include "ops/rnn_step.h"

#include <cmath>

namespace trireme {
namespace {

float sigmoid(float x) { return 1.f / (1.f + std::exp(-x)); }

void product(const RnnStep& s, int64_t n, int64_t with_x) {
  for (int64_t r = 0; r < s.rows; ++r) {
    float* g = s.gates + r * n;
    for (int64_t c = 0; c < n; ++c) g[c] = c < with_x ? s.x_gates[r * s.x_stride + c] : 0.f;
    for (int64_t k = 0; k < s.hidden; ++k) {
      const float h = s.h[r * s.hidden + k];
      const float* w = s.weight + k * n;
      for (int64_t c = 0; c < n; ++c) g[c] += h * w[c];
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
    const float candidate = std::tanh(s.x_gates[r * s.x_stride + 2 * n + i] + sigmoid(g[0]) * (g[2 * n] + s.reset_bias[i]));
    return (s.h[r * n + i] - candidate) * sigmoid(g[n]) + candidate;
  }
  const float v = s.gates[r * n + i];
  return s.mode == RnnMode::kTanh ? std::tanh(v) : v > 0 ? v : 0;
}

}  // namespace

void rnn_step_baseline(const RnnStep& s) {
  const int64_t n = s.hidden;
  const int64_t width = s.mode == RnnMode::kLstm ? 4 * n : s.mode == RnnMode::kGru ? 3 * n : n;
  product(s, width, s.mode == RnnMode::kGru ? 2 * n : width);
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      const float h = next(s, r, i);
      s.h[r * n + i] = h;
      if (s.y) s.y[r * s.y_stride + i] = h;
    }
  }
}

}  // namespace trireme
