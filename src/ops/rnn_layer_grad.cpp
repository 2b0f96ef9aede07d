// rnn_layer_grad: back through the steps, then the weights' gradients as one product over all of
// them.
#include <cstring>

#include "base/cpu_features.h"
#include "ops/rnn_layer.h"

namespace trireme {
namespace {

// Behind the inputs of rnn_layer.
enum Extra : size_t { kY, kGates, kKept, kDy, kDh, kDc };

void infer(const Infer& i) {
  const int64_t d = i.attrs<RnnAttrs>().is_bidirec ? 2 : 1;
  const auto own = RnnIn::kWeights + static_cast<size_t>(4 * d);
  TRI_CHECK(i.inputs.size() == own + 6,
            message(i.op.name, "expects ", own + 6, " inputs, got ", i.inputs.size()));
  const Shape state{d, i.shape(0)[1], i.attrs<RnnAttrs>().hidden_size};
  i.out(i.dtype(0), i.shape(0));
  i.out(i.dtype(0), state);
  i.out(i.dtype(0), state);
  for (size_t k = RnnIn::kWeights; k < own; ++k) i.out(i.dtype(0), i.shape(k));
}

template <class T> T sigmoid(T v) { return 1 / (1 + std::exp(-v)); }

template <class T> void grad_row(RnnMode mode, int64_t n, const RnnGradRow<T>& r) {
  for (int64_t i = 0; i < n; ++i) {
    const T dh = r.dh[i], before = r.h_before ? r.h_before[i] : T(0);
    if (mode == RnnMode::kLstm) {
      const T in = sigmoid(r.gates[i]), forget = sigmoid(r.gates[n + i]);
      const T candidate = std::tanh(r.gates[2 * n + i]), out = sigmoid(r.gates[3 * n + i]);
      const T cell = std::tanh(r.kept[i]), c_before = r.c_before ? r.c_before[i] : T(0);
      const T dc = r.dc[i] + dh * out * (1 - cell * cell);
      r.dx_gates[i] = dc * candidate * in * (1 - in);
      r.dx_gates[n + i] = dc * c_before * forget * (1 - forget);
      r.dx_gates[2 * n + i] = dc * in * (1 - candidate * candidate);
      r.dx_gates[3 * n + i] = dh * cell * out * (1 - out);
      r.dc[i] = dc * forget;
      r.dh[i] = 0;
    } else if (mode == RnnMode::kGru) {
      const T reset = sigmoid(r.gates[i]), update = sigmoid(r.gates[n + i]);
      const T product = r.gates[2 * n + i] + r.reset_bias[i];
      const T candidate = std::tanh(r.kept[i] + reset * product);
      const T dn = dh * (1 - update) * (1 - candidate * candidate);
      r.dx_gates[i] = r.dh_gates[i] = dn * product * reset * (1 - reset);
      r.dx_gates[n + i] = r.dh_gates[n + i] = dh * (before - candidate) * update * (1 - update);
      r.dx_gates[2 * n + i] = dn;
      r.dh_gates[2 * n + i] = dn * reset;
      r.dh[i] = dh * update;
    } else {
      const T v = r.gates[i], h = std::tanh(v);
      r.dx_gates[i] = mode == RnnMode::kTanh ? dh * (1 - h * h) : v > 0 ? dh : T(0);
      r.dh[i] = 0;
    }
  }
}

template <class T> struct Backward {
  const RnnShape& s;
  const Launch& l;
  size_t extra;                     // index of the first input behind rnn_layer's
  T *dx_gates, *dh_gates, *before;  // [D, T, B, ...]
  RnnGradRowFn<T> row;

  const T* in(Extra k) const { return l.input<T>(extra + k); }
  const T* state(size_t k, bool given, int64_t d, int64_t b) const {
    return given ? l.input<T>(k) + (d * s.batch + b) * s.hidden : nullptr;
  }

  // All steps of rows [first, last) of a direction. The gradients of the states live in outputs 1
  // and 2.
  void run_rows(int64_t d, int64_t first, int64_t last) const {
    const int64_t n = s.hidden;
    T *dh = l.output<T>(1) + d * s.batch * n, *dc = l.output<T>(2) + d * s.batch * n;
    const auto start = [&](T* to, Extra k) {
      const int64_t count = (last - first) * n;
      if (in(k)) std::copy_n(in(k) + (d * s.batch + first) * n, count, to + first * n);
      else std::fill_n(to + first * n, count, T(0));
    };
    start(dh, kDh);
    start(dc, kDc);
    if (s.mode != RnnMode::kLstm) {  // the third result is the second again
      for (int64_t i = first * n; i < last * n; ++i) dh[i] += dc[i], dc[i] = 0;
    }
    for (int64_t k = s.steps; k-- > 0;) {
      const int64_t t = d == 0 ? k : s.steps - 1 - k;
      for (int64_t b = first; b < last; ++b) one_row(d, t, b, dh + b * n, dc + b * n);
      const int64_t at = (d * s.steps + t) * s.batch + first;
      rnn_product('N', 'N', last - first, n, s.gates, dh_gates + at * s.gates, s.gates,
                  l.input<T>(s.weight(d, true)), n, T(1), dh + first * n, n);
    }
  }

  void one_row(int64_t d, int64_t t, int64_t b, T* dh, T* dc) const {
    const int64_t n = s.hidden, stride = s.directions * n, length = s.length(l, b);
    const int64_t at = (d * s.steps + t) * s.batch + b;
    T *x = dx_gates + at * s.gates, *h = dh_gates + at * s.gates, *to = before + at * n;
    if (t >= length) {
      std::fill_n(x, s.gates, T(0));
      if (h != x) std::fill_n(h, s.gates, T(0));
      std::fill_n(to, n, T(0));
      return;
    }
    const int64_t prior = s.before(d, t, length);
    const T* h_before = prior < 0 ? state(RnnIn::kH0, s.has_h0, d, b)
                                  : in(kY) + (prior * s.batch + b) * stride + d * n;
    const T* c_before = prior < 0 ? state(RnnIn::kC0, s.has_c0, d, b)
                                  : in(kKept) + ((d * s.steps + prior) * s.batch + b) * n;
    if (h_before) std::copy_n(h_before, n, to);
    else std::fill_n(to, n, T(0));
    if (const T* dy = in(kDy))
      for (int64_t i = 0; i < n; ++i) dh[i] += dy[(t * s.batch + b) * stride + d * n + i];
    const T* reset = l.input<T>(s.bias(d, true)) + (s.mode == RnnMode::kGru ? 2 * n : 0);
    row(s.mode, n,
        {in(kGates) + at * s.gates, in(kKept) + at * n, c_before, h_before, reset, dh, dc, x, h});
  }

  void weights(int64_t d) const {
    const int64_t rows = s.rows(), g = s.gates, n = s.hidden;
    const T *dx = dx_gates + d * rows * g, *dh = dh_gates + d * rows * g;
    const auto out = [&](size_t input) { return l.output<T>(input - 1); };
    rnn_product('N', 'N', rows, s.width, g, dx, g, l.input<T>(s.weight(d, false)), s.width,
                T(d > 0), l.output<T>(0), s.width);
    rnn_product('T', 'N', g, s.width, rows, dx, g, l.input<T>(0), s.width, T(0),
                out(s.weight(d, false)), s.width);
    rnn_product('T', 'N', g, n, rows, dh, g, before + d * rows * n, n, T(0), out(s.weight(d, true)),
                n);
    for (const bool hidden : {false, true}) {
      T* to = out(s.bias(d, hidden));
      const T* from = hidden ? dh : dx;
      std::fill_n(to, g, T(0));
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < g; ++k) to[k] += from[r * g + k];
    }
  }
};

template <class T> Kernel prepare_as(const Prepare& p) {
  const RnnShape s(p);
  const size_t extra = RnnIn::kWeights + static_cast<size_t>(4 * s.directions);
  const auto bytes = [&](int64_t width) {
    return align_up(static_cast<size_t>(s.directions * s.rows() * width) * sizeof(T));
  };
  const size_t gates = bytes(s.gates), apart = s.mode == RnnMode::kGru ? gates : 0;
  RnnGradRowFn<T> row = grad_row<T>;
  if constexpr (std::is_same_v<T, float>)
    if (cpu_features().avx512) row = rnn_grad_row_avx512;
  std::vector<size_t> out_bytes;
  for (const auto& v : p.node.outputs) out_bytes.push_back(v->type.bytes());
  const auto run = [=](const Launch& l) {
    auto* at = static_cast<char*>(l.scratch);
    if (s.rows() == 0) {
      for (size_t k = 0; k < out_bytes.size(); ++k)
        if (out_bytes[k] > 0) std::memset(l.out[k], 0, out_bytes[k]);
    }
    const Backward<T> back{s,
                           l,
                           extra,
                           reinterpret_cast<T*>(at),
                           reinterpret_cast<T*>(at + apart),
                           reinterpret_cast<T*>(at + gates + apart),
                           row};
    s.for_tasks([&](int64_t d, int64_t first, int64_t last) { back.run_rows(d, first, last); });
    if (s.rows() > 0)
      for (int64_t d = 0; d < s.directions; ++d) back.weights(d);
  };
  return {run, gates + apart + bytes(s.hidden)};
}

}  // namespace

namespace ops {

constinit const Op rnn_layer_grad_op{
    .name = "rnn_layer_grad",
    .inputs = -1,
    .outputs = -1,
    .attrs = &attr_info<RnnAttrs>,
    .infer = infer,
    .cpu =
        [](const Prepare& p) {
          return p.in().dtype == DType::kFloat64 ? prepare_as<double>(p) : prepare_as<float>(p);
        },
    .amp = Amp::kFloat};

}  // namespace ops
}  // namespace trireme
