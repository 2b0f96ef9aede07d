// One row of a recurrent step backwards with AVX-512.
#include "ops/avx512.h"
#include "ops/rnn_step.h"

namespace trireme {
namespace {

inline Vector times(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
// s (1 - s) and 1 - t^2: what sigmoid and tanh multiply a gradient by.
inline Vector of_sigmoid(Vector s) { return _mm512_fnmadd_ps(s, s, s); }
inline Vector of_tanh(Vector t) { return _mm512_fnmadd_ps(t, t, _mm512_set1_ps(1.f)); }

void lstm(int64_t n, const RnnGradRow<float>& r) {
  const Vector zero = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    const Vector in = sigmoid(load(r.gates + i, m)), forget = sigmoid(load(r.gates + n + i, m));
    const Vector candidate = tanh(load(r.gates + 2 * n + i, m)),
                 out = sigmoid(load(r.gates + 3 * n + i, m)), cell = tanh(load(r.kept + i, m));
    const Vector dh = load(r.dh + i, m), before = r.c_before ? load(r.c_before + i, m) : zero;
    const Vector dc = _mm512_fmadd_ps(times(dh, out), of_tanh(cell), load(r.dc + i, m));
    store(r.dx_gates + i, m, times(times(dc, candidate), of_sigmoid(in)));
    store(r.dx_gates + n + i, m, times(times(dc, before), of_sigmoid(forget)));
    store(r.dx_gates + 2 * n + i, m, times(times(dc, in), of_tanh(candidate)));
    store(r.dx_gates + 3 * n + i, m, times(times(dh, cell), of_sigmoid(out)));
    store(r.dc + i, m, times(dc, forget));
    store(r.dh + i, m, zero);
  }
}

void gru(int64_t n, const RnnGradRow<float>& r) {
  const Vector zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.f);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    const Vector reset = sigmoid(load(r.gates + i, m)), update = sigmoid(load(r.gates + n + i, m));
    const Vector product = _mm512_add_ps(load(r.gates + 2 * n + i, m), load(r.reset_bias + i, m));
    const Vector candidate = tanh(_mm512_fmadd_ps(reset, product, load(r.kept + i, m)));
    const Vector dh = load(r.dh + i, m), before = r.h_before ? load(r.h_before + i, m) : zero;
    const Vector dn = times(times(dh, _mm512_sub_ps(one, update)), of_tanh(candidate));
    const Vector dr = times(times(dn, product), of_sigmoid(reset));
    const Vector dz = times(times(dh, _mm512_sub_ps(before, candidate)), of_sigmoid(update));
    store(r.dx_gates + i, m, dr);
    store(r.dh_gates + i, m, dr);
    store(r.dx_gates + n + i, m, dz);
    store(r.dh_gates + n + i, m, dz);
    store(r.dx_gates + 2 * n + i, m, dn);
    store(r.dh_gates + 2 * n + i, m, times(dn, reset));
    store(r.dh + i, m, times(dh, update));
  }
}

void simple(bool is_tanh, int64_t n, const RnnGradRow<float>& r) {
  const Vector zero = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    const Vector v = load(r.gates + i, m), dh = load(r.dh + i, m);
    const Vector d = is_tanh ? times(dh, of_tanh(tanh(v)))
                             : _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, zero, _CMP_GT_OQ), dh);
    store(r.dx_gates + i, m, d);
    store(r.dh + i, m, zero);
  }
}

}  // namespace

void rnn_grad_row_avx512(RnnMode mode, int64_t hidden, const RnnGradRow<float>& r) {
  switch (mode) {
    case RnnMode::kLstm: return lstm(hidden, r);
    case RnnMode::kGru: return gru(hidden, r);
    default: return simple(mode == RnnMode::kTanh, hidden, r);
  }
}

}  // namespace trireme
