// rnn: LSTM, GRU and simple layers, stacked and bidirectional. The input's part of all steps is one
// matrix product; then directions and batch rows, which do not depend on each other, are spread
// over the threads.
#include "ops/rnn.h"

#include <cstring>
#include <utility>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/indices.h"
#include "ops/rnn_layer.h"
#include "ops/rnn_step.h"

namespace trireme {

RnnMode rnn_mode(const RnnAttrs& a) {
  if (a.mode == "LSTM") return RnnMode::kLstm;
  if (a.mode == "GRU") return RnnMode::kGru;
  if (a.mode == "RNN_TANH") return RnnMode::kTanh;
  TRI_CHECK(a.mode == "RNN_RELU",
            message("rnn", "mode expects LSTM, GRU, RNN_TANH or RNN_RELU, got ", a.mode));
  return RnnMode::kRelu;
}

int64_t rnn_gates(RnnMode mode) {
  return mode == RnnMode::kLstm ? 4 : mode == RnnMode::kGru ? 3 : 1;
}

void rnn_pack_hidden(const float* from, int64_t gates, int64_t hidden, float* to) {
  const int64_t padded = rnn_padded(hidden);
  for (int64_t g = 0; g < gates; ++g) {
    for (int64_t c = 0; c < padded; c += kRnnPanel) {
      const int64_t width = std::min(kRnnPanel, padded - c);
      for (int64_t k = 0; k < hidden; ++k)
        for (int64_t i = c; i < c + width; ++i)
          *to++ = i < hidden ? from[(g * hidden + i) * hidden + k] : 0.f;
    }
  }
}

namespace {

constexpr size_t kX = 0, kH0 = 1, kC0 = 2, kLengths = 3, kWeights = 4;

void check_weights(const Infer& i, const RnnAttrs& a, int64_t width, int64_t directions) {
  const int64_t cells = a.num_layers * directions, gates = rnn_gates(rnn_mode(a)) * a.hidden_size;
  TRI_CHECK(std::cmp_equal(i.inputs.size(), static_cast<int64_t>(kWeights) + 4 * cells),
            message(i.op.name, "weights expects ", 4 * cells, " arrays, got ",
                    i.inputs.size() - kWeights));
  for (int64_t k = 0; k < 4 * cells; ++k) {
    const auto at = kWeights + static_cast<size_t>(k);
    const int64_t in = k < 2 * directions ? width : directions * a.hidden_size;
    const Shape want =
        k >= 2 * cells ? Shape{gates} : Shape{gates, k % 2 == 0 ? in : a.hidden_size};
    TRI_CHECK(
        i.dtype(at) == DType::kFloat32 && i.shape(at) == want,
        message(i.op.name, "weight ", k, " expects float32", want, ", got ", i.type(at).str()));
  }
}

void infer(const Infer& i) {
  const auto& a = i.attrs<RnnAttrs>();
  const Shape& x = i.shape(kX);
  TRI_CHECK(i.dtype(kX) == DType::kFloat32 && x.rank() == 3,
            message(i.op.name, "x expects float32 [T, B, I], got ", i.type(kX).str()));
  TRI_CHECK(a.hidden_size > 0 && a.num_layers > 0 && a.hidden_size < (int64_t{1} << 24) &&
                a.num_layers < 1024,
            message(i.op.name, "hidden_size and num_layers expect positive values, got ",
                    a.hidden_size, " and ", a.num_layers));
  const int64_t directions = a.is_bidirec ? 2 : 1;
  const Shape state{a.num_layers * directions, x[1], a.hidden_size};
  for (const size_t k : {kH0, kC0}) {
    TRI_CHECK(!i.has(k) || (i.dtype(k) == DType::kFloat32 && i.shape(k) == state),
              message(i.op.name, k == kH0 ? "h0" : "c0", " expects float32", state, ", got ",
                      i.type(k).str()));
  }
  if (i.has(kLengths)) {
    check_index_dtype(i, kLengths);
    TRI_CHECK(i.shape(kLengths) == Shape{x[1]},
              message(i.op.name, "lengths expects [", x[1], "], got ", i.shape(kLengths)));
  }
  check_weights(i, a, x[2], directions);
  i.out(DType::kFloat32, Shape{x[0], x[1], directions * a.hidden_size});
  i.out(DType::kFloat32, state);
  i.out(DType::kFloat32, state);
}

// Everything that is known at plan time; sizes in elements.
struct Plan {
  RnnMode mode;
  int64_t steps, batch, width, hidden, layers, directions, gates;  // gates: of all hidden units
  int64_t chunks;  // of the batch: tasks of a direction
  bool has_h0, has_c0, has_lengths;
  void (*step)(const RnnStep&);
  std::vector<std::shared_ptr<const void>> packed;  // w_hh of each cell; none: packed at run time
  Indices lengths;

  int64_t cells() const { return layers * directions; }
  int64_t x_gates() const { return directions * steps * batch * gates; }
  int64_t gate_rows() const { return directions * batch * gates; }
  int64_t packed_size() const { return gates * rnn_padded(hidden); }
  int64_t packed_at_run() const { return packed.empty() ? directions * packed_size() : 0; }
  int64_t layer_output() const { return layers > 1 ? steps * batch * directions * hidden : 0; }
};

// The memory of one run.
struct Work {
  float *x_gates, *gates, *weights, *outputs[2];
};

size_t layout_work(const Plan& p, float* at, Work* w) {
  size_t total = 0;
  const auto take = [&](int64_t elements, float** to) {
    if (w) *to = at + total;
    total += align_up(static_cast<size_t>(elements) * sizeof(float)) / sizeof(float);
  };
  Work unused{};
  Work& work = w ? *w : unused;
  take(p.x_gates(), &work.x_gates);
  take(p.gate_rows(), &work.gates);
  take(p.packed_at_run(), &work.weights);
  take(p.layer_output(), &work.outputs[0]);
  take(p.layer_output(), &work.outputs[1]);
  return total;
}

// The input's part of the gates of all steps: x w_ih^T + b_ih + b_hh (but the GRU's candidate,
// whose b_hh is reset).
void input_gates(const Plan& p, const float* x, int64_t width, const float* w, const float* b_ih,
                 const float* b_hh, float* to) {
  const int64_t rows = p.steps * p.batch;
  const int64_t with_hidden_bias = p.mode == RnnMode::kGru ? 2 * p.hidden : p.gates;
  parallel_for(rows, grain_of(p.gates), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t g = 0; g < p.gates; ++g)
        to[r * p.gates + g] = b_ih[g] + (g < with_hidden_bias ? b_hh[g] : 0.f);
  });
  rnn_product('N', 'T', rows, p.gates, width, x, width, w, width, 1.f, to, p.gates);
}

// The rows [first, last) of the batch whose sequence is longer than t; with sorted lengths they are
// few runs.
template <class F>
void for_active_runs(const Plan& p, const Launch& l, int64_t t, int64_t first, int64_t last, F f) {
  if (!p.has_lengths) return f(first, last);
  for (int64_t b = first; b < last;) {
    int64_t e = b;
    while (e < last && p.lengths.get(l, e) > t) ++e;
    if (e > b) f(b, e);
    b = e + 1;
  }
}

// All steps of rows [first, last) of one direction of a layer.
void run_rows(const Plan& p, const Launch& l, const Work& w, int64_t cell, const float* weight,
              float* y, int64_t first, int64_t last) {
  const int64_t direction = cell % p.directions, stride = p.directions * p.hidden;
  const float* b_hh = l.input<float>(kWeights + static_cast<size_t>(2 * p.cells() + 2 * cell + 1));
  float* h = l.output<float>(1) + cell * p.batch * p.hidden;
  float* c = p.mode == RnnMode::kLstm ? l.output<float>(2) + cell * p.batch * p.hidden : nullptr;
  for (int64_t k = 0; k < p.steps; ++k) {
    const int64_t t = direction == 0 ? k : p.steps - 1 - k;
    float* out = y + t * p.batch * stride + direction * p.hidden;
    if (p.has_lengths)
      for (int64_t b = first; b < last; ++b)
        if (p.lengths.get(l, b) <= t)
          std::memset(out + b * stride, 0, static_cast<size_t>(p.hidden) * sizeof(float));
    for_active_runs(p, l, t, first, last, [&](int64_t begin, int64_t end) {
      p.step({p.mode, end - begin, p.hidden,
              w.x_gates + ((direction * p.steps + t) * p.batch + begin) * p.gates, p.gates, weight,
              b_hh + 2 * p.hidden * (p.mode == RnnMode::kGru),
              w.gates + (direction * p.batch + begin) * p.gates, h + begin * p.hidden,
              c ? c + begin * p.hidden : nullptr, out + begin * stride, stride});
    });
  }
}

void run_layer(const Plan& p, const Launch& l, const Work& w, int64_t layer, const float* x,
               int64_t width, float* y) {
  const auto input = [&](int64_t k) { return l.input<float>(kWeights + static_cast<size_t>(k)); };
  const float* weights[2] = {nullptr, nullptr};
  for (int64_t d = 0; d < p.directions; ++d) {
    const int64_t cell = layer * p.directions + d;
    input_gates(p, x, width, input(2 * cell), input(2 * p.cells() + 2 * cell),
                input(2 * p.cells() + 2 * cell + 1), w.x_gates + d * p.steps * p.batch * p.gates);
    if (!p.packed.empty()) {
      weights[d] = static_cast<const float*>(p.packed[static_cast<size_t>(cell)].get());
    } else {
      float* to = w.weights + d * p.packed_size();
      rnn_pack_hidden(input(2 * cell + 1), p.gates / p.hidden, p.hidden, to);
      weights[d] = to;
    }
  }
  parallel_for(p.directions * p.chunks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t d = i / p.chunks, k = i % p.chunks;
      run_rows(p, l, w, layer * p.directions + d, weights[d], y, k * p.batch / p.chunks,
               (k + 1) * p.batch / p.chunks);
    }
  });
}

void run(const Plan& p, const Launch& l) {
  Work w{};
  layout_work(p, static_cast<float*>(l.scratch), &w);
  const auto state = static_cast<size_t>(p.cells() * p.batch * p.hidden) * sizeof(float);
  const auto start = [&](size_t out, bool given, size_t in) {
    if (state == 0) return;
    if (given) std::memcpy(l.out[out], l.in[in], state);
    else std::memset(l.out[out], 0, state);
  };
  start(1, p.has_h0, kH0);
  if (p.mode == RnnMode::kLstm) start(2, p.has_c0, kC0);
  if (p.has_lengths) {
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t n = p.lengths.get(l, b);
      TRI_CHECK(n >= 0 && n <= p.steps,
                message("rnn", "length ", b, " expects 0 to ", p.steps, ", got ", n));
    }
  }
  const float* x = l.input<float>(kX);
  for (int64_t layer = 0; layer < p.layers; ++layer) {
    float* y = layer + 1 == p.layers ? l.output<float>(0) : w.outputs[layer % 2];
    if (p.steps * p.batch > 0)
      run_layer(p, l, w, layer, x, layer == 0 ? p.width : p.directions * p.hidden, y);
    x = y;
  }
  if (p.mode != RnnMode::kLstm && state > 0) std::memcpy(l.out[2], l.out[1], state);
}

Kernel prepare(const Prepare& p) {
  const auto& a = p.attrs<RnnAttrs>();
  const Shape& x = p.in(kX).shape;
  const RnnMode mode = rnn_mode(a);
  const int64_t directions = a.is_bidirec ? 2 : 1, gates = rnn_gates(mode) * a.hidden_size;
  Plan plan{.mode = mode,
            .steps = x[0],
            .batch = x[1],
            .width = x[2],
            .hidden = a.hidden_size,
            .layers = a.num_layers,
            .directions = directions,
            .gates = gates,
            .chunks = std::clamp<int64_t>(x[1] / 4, 1, 8),
            .has_h0 = p.has(kH0),
            .has_c0 = p.has(kC0),
            .has_lengths = p.has(kLengths),
            .step = cpu_features().avx512 ? rnn_step_avx512 : rnn_step_baseline,
            .packed = {},
            .lengths = Indices(p, p.has(kLengths) ? kLengths : kX)};
  for (int64_t cell = 0; cell < plan.cells(); ++cell) {
    const auto at = kWeights + static_cast<size_t>(2 * cell + 1);
    if (!p.constant(at)) {
      plan.packed.clear();
      break;
    }
    const auto pack = [&](const Array& w, void* to) {
      rnn_pack_hidden(w.as<float>(), rnn_gates(mode), a.hidden_size, static_cast<float*>(to));
    };
    plan.packed.push_back(
        p.packed(at, "rnn", static_cast<size_t>(plan.packed_size()) * sizeof(float), pack));
  }
  const size_t scratch = layout_work(plan, nullptr, nullptr) * sizeof(float);
  return {[plan](const Launch& l) { run(plan, l); }, scratch};
}

}  // namespace

namespace ops {

constinit const Op rnn_op{.name = "rnn",
                          .inputs = -1,
                          .outputs = 3,
                          .attrs = &attr_info<RnnAttrs>,
                          .infer = infer,
                          .grad = rnn_grad,
                          .cpu = prepare,
                          .cuda = TRI_CUDA(cuda_rnn),
                          .amp = Amp::kFloat};

std::vector<Value*> rnn(Value* x, Value* h0, Value* c0, Value* lengths,
                        const std::vector<Value*>& weights, const RnnAttrs& attrs) {
  std::vector<Value*> inputs{x, h0, c0, lengths};
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  return record(rnn_op, std::move(inputs), attrs);
}

}  // namespace ops
}  // namespace trireme
