// rnn_layer: one layer of rnn in its training form, which keeps what the gradient needs; and the
// gradient of whole networks, layer by layer.
#include "ops/rnn_layer.h"

#include <cstring>
#include <utility>

#include "base/cpu_features.h"
#include "ops/cudnn_rnn.h"
#include "ops/random.h"
#include "ops/shape.h"

namespace trireme {

RnnShape::RnnShape(const Prepare& p)
    : mode(rnn_mode(p.attrs<RnnAttrs>())),
      steps(p.in(0).shape[0]),
      batch(p.in(0).shape[1]),
      width(p.in(0).shape[2]),
      hidden(p.attrs<RnnAttrs>().hidden_size),
      directions(p.attrs<RnnAttrs>().is_bidirec ? 2 : 1),
      gates(rnn_gates(mode) * hidden),
      chunks(std::clamp<int64_t>(batch / 4, 1, 8)),
      has_h0(p.has(RnnIn::kH0)),
      has_c0(p.has(RnnIn::kC0)),
      has_lengths(p.has(RnnIn::kLengths)),
      lengths(p, has_lengths ? RnnIn::kLengths : RnnIn::kX) {
  chunks = std::min<int64_t>(chunks, std::max(1, num_threads()));
}

void rnn_check_lengths(const RnnShape& s, const Launch& l) {
  for (int64_t b = 0; b < s.batch; ++b)
    TRI_CHECK(s.length(l, b) >= 0 && s.length(l, b) <= s.steps,
              message("rnn", "length ", b, " expects 0 to ", s.steps, ", got ", s.length(l, b)));
}

namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<RnnAttrs>();
  const Shape& x = i.shape(0);
  const DType dtype = i.dtype(0);
  TRI_CHECK((dtype == DType::kFloat32 || dtype == DType::kFloat64) && x.rank() == 3,
            message(i.op.name, "x expects float32 or float64 [T, B, I], got ", i.type(0).str()));
  TRI_CHECK(a.num_layers == 1 && a.hidden_size > 0 && a.hidden_size < (int64_t{1} << 24),
            message(i.op.name, "expects one layer and a positive hidden_size, got ", a.num_layers,
                    " and ", a.hidden_size));
  const int64_t d = a.is_bidirec ? 2 : 1, h = a.hidden_size, g = rnn_gates(rnn_mode(a)) * h;
  TRI_CHECK(std::cmp_equal(i.inputs.size(), 4 + 4 * d),
            message(i.op.name, "expects ", 4 + 4 * d, " inputs, got ", i.inputs.size()));
  const Shape state{d, x[1], h};
  const auto expect = [&](size_t k, const Shape& want) {
    TRI_CHECK(i.dtype(k) == dtype && i.shape(k) == want,
              message(i.op.name, "input ", k, " expects ", dtype, want, ", got ", i.type(k).str()));
  };
  for (const size_t k : {RnnIn::kH0, RnnIn::kC0})
    if (i.has(k)) expect(k, state);
  if (i.has(RnnIn::kLengths)) {
    check_index_dtype(i, RnnIn::kLengths);
    TRI_CHECK(i.shape(RnnIn::kLengths) == Shape{x[1]},
              message(i.op.name, "lengths expects [", x[1], "]"));
  }
  for (int64_t k = 0; k < 2 * d; ++k) {
    expect(RnnIn::kWeights + static_cast<size_t>(k), Shape{g, k % 2 == 0 ? x[2] : h});
    expect(RnnIn::kWeights + static_cast<size_t>(2 * d + k), Shape{g});
  }
  i.out(dtype, Shape{x[0], x[1], d * h});
  i.out(dtype, state);
  i.out(dtype, state);
  i.out(dtype, Shape{d, x[0], x[1], g});
  i.out(dtype, Shape{d, x[0], x[1], h});
}

template <class T> T sigmoid(T v) { return 1 / (1 + std::exp(-v)); }

// One row, with the weights as they are: for float64.
template <class T>
void plain_step(const RnnShape& s, const T* w, const T* x, const T* reset_bias, T* gates, T* h,
                T* c, T* y) {
  const int64_t n = s.hidden, with_x = s.mode == RnnMode::kGru ? 2 * n : s.gates;
  for (int64_t g = 0; g < s.gates; ++g) {
    T sum = g < with_x ? x[g] : T(0);
    for (int64_t k = 0; k < n; ++k) sum += w[g * n + k] * h[k];
    gates[g] = sum;
  }
  for (int64_t i = 0; i < n; ++i) {
    T v = gates[i];
    if (s.mode == RnnMode::kLstm) {
      c[i] = sigmoid(gates[n + i]) * c[i] + sigmoid(v) * std::tanh(gates[2 * n + i]);
      v = sigmoid(gates[3 * n + i]) * std::tanh(c[i]);
    } else if (s.mode == RnnMode::kGru) {
      const T candidate = std::tanh(x[2 * n + i] + sigmoid(v) * (gates[2 * n + i] + reset_bias[i]));
      v = (h[i] - candidate) * sigmoid(gates[n + i]) + candidate;
    } else {
      v = s.mode == RnnMode::kTanh ? std::tanh(v) : std::max(v, T(0));
    }
    y[i] = v;
  }
  std::copy_n(y, n, h);
}

// The input's part of all gates; biases but for the GRU's candidate.
template <class T> void input_gates(const RnnShape& s, const Launch& l, int64_t d, T* to) {
  const T *b_ih = l.input<T>(s.bias(d, false)), *b_hh = l.input<T>(s.bias(d, true));
  const int64_t with_hidden = s.mode == RnnMode::kGru ? 2 * s.hidden : s.gates;
  parallel_for(s.rows(), grain_of(s.gates), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t g = 0; g < s.gates; ++g)
        to[r * s.gates + g] = b_ih[g] + (g < with_hidden ? b_hh[g] : T(0));
  });
  rnn_product('N', 'T', s.rows(), s.gates, s.width, l.input<T>(0), s.width,
              l.input<T>(s.weight(d, false)), s.width, T(1), to, s.gates);
}

template <class T> struct Forward {
  const RnnShape& s;
  const Launch& l;
  const T* x_gates;     // [D, T, B, G]
  const float* packed;  // of each direction, float only
  void (*step)(const RnnStep&);

  void run_rows(int64_t d, int64_t first, int64_t last) const {
    const int64_t n = s.hidden, stride = s.directions * n;
    T *h = l.output<T>(1) + d * s.batch * n, *c = l.output<T>(2) + d * s.batch * n;
    for (int64_t k = 0; k < s.steps; ++k) {
      const int64_t t = d == 0 ? k : s.steps - 1 - k, row = (d * s.steps + t) * s.batch;
      T* y = l.output<T>(0) + t * s.batch * stride + d * n;
      for (int64_t b = first; b < last;) {
        if (s.length(l, b) <= t) {
          std::fill_n(y + b * stride, n, T(0));
          ++b;
          continue;
        }
        int64_t e = b + 1;
        while (e < last && s.length(l, e) > t) ++e;
        take(d, row, b, e, h, c, y);
        b = e;
      }
    }
  }

  void take(int64_t d, int64_t row, int64_t b, int64_t e, T* h, T* c, T* y) const {
    const int64_t n = s.hidden, stride = s.directions * n;
    const T* reset = l.input<T>(s.bias(d, true)) + (s.mode == RnnMode::kGru ? 2 * n : 0);
    const T* x = x_gates + (row + b) * s.gates;
    T *gates = l.output<T>(3) + (row + b) * s.gates, *kept = l.output<T>(4) + (row + b) * n;
    if constexpr (std::is_same_v<T, float>) {
      step({s.mode, e - b, n, x, s.gates, packed + d * s.gates * rnn_padded(n), reset, gates,
            h + b * n, c + b * n, y + b * stride, stride});
    } else {
      for (int64_t r = 0; r < e - b; ++r)
        plain_step<T>(s, l.input<T>(s.weight(d, true)), x + r * s.gates, reset, gates + r * s.gates,
                      h + (b + r) * n, c + (b + r) * n, y + (b + r) * stride);
    }
    for (int64_t r = 0; r < e - b; ++r) {
      if (s.mode == RnnMode::kLstm) std::copy_n(c + (b + r) * n, n, kept + r * n);
      if (s.mode == RnnMode::kGru) std::copy_n(x + r * s.gates + 2 * n, n, kept + r * n);
    }
  }
};

template <class T> Kernel prepare_as(const Prepare& p) {
  const RnnShape s(p);
  const int64_t padded = s.gates * rnn_padded(s.hidden),
                x_gates = s.directions * s.rows() * s.gates;
  const size_t x_bytes = align_up(static_cast<size_t>(x_gates) * sizeof(T));
  const auto step = cpu_features().avx512 ? rnn_step_avx512 : rnn_step_baseline;
  const auto run = [=](const Launch& l) {
    rnn_check_lengths(s, l);
    auto* x = static_cast<T*>(l.scratch);
    auto* packed = reinterpret_cast<float*>(static_cast<char*>(l.scratch) + x_bytes);
    const int64_t state = s.directions * s.batch * s.hidden;
    const auto start = [&](size_t k, bool given) {
      T* to = l.output<T>(k);
      if (given) std::copy_n(l.input<T>(k), state, to);
      else std::fill_n(to, state, T(0));
    };
    start(1, s.has_h0);
    start(2, s.has_c0 && s.mode == RnnMode::kLstm);
    for (int64_t d = 0; d < s.directions; ++d) {
      if (s.rows() > 0) input_gates(s, l, d, x + d * s.rows() * s.gates);
      if constexpr (std::is_same_v<T, float>)
        rnn_pack_hidden(l.input<float>(s.weight(d, true)), s.gates / s.hidden, s.hidden,
                        packed + d * padded);
    }
    const Forward<T> forward{s, l, x, packed, step};
    s.for_tasks([&](int64_t d, int64_t first, int64_t last) { forward.run_rows(d, first, last); });
    if (s.mode != RnnMode::kLstm) std::copy_n(l.output<T>(1), state, l.output<T>(2));
  };
  return {run, x_bytes + static_cast<size_t>(s.directions * padded) * sizeof(float)};
}

Kernel prepare(const Prepare& p) {
  return p.in().dtype == DType::kFloat64 ? prepare_as<double>(p) : prepare_as<float>(p);
}

// The layers of rnn's arguments.
struct Network {
  Value *h0, *c0, *lengths;
  std::vector<Value*> weights;
  RnnAttrs attrs;

  int64_t directions() const { return attrs.is_bidirec ? 2 : 1; }
  RnnAttrs one_layer() const {
    RnnAttrs a = attrs;
    a.num_layers = 1;
    return a;
  }
  Value* part(Value* v, int64_t layer) const {
    const int64_t d = directions();
    return v && attrs.num_layers > 1 ? ops::slice(v, {0}, {layer * d}, {(layer + 1) * d}) : v;
  }
  // Where the layer's weight k of one layer stands among all.
  size_t place(int64_t layer, size_t k) const {
    const auto each = static_cast<size_t>(2 * directions());
    const auto l = static_cast<size_t>(layer), n = static_cast<size_t>(attrs.num_layers);
    return k < each ? l * each + k : (n + l) * each + k - each;
  }
  std::vector<Value*> inputs(int64_t layer, Value* x) const {
    std::vector<Value*> in{x, part(h0, layer), part(c0, layer), lengths};
    for (size_t k = 0; k < static_cast<size_t>(4 * directions()); ++k)
      in.push_back(weights[place(layer, k)]);
    return in;
  }
};

void grad(Grad& g) {
  std::vector<Value*> inputs(g.inputs.begin(), g.inputs.end());
  for (const size_t k : {0, 3, 4}) inputs.push_back(g.out(k));
  TRI_CHECK(g.dout(3) == nullptr && g.dout(4) == nullptr,
            message(g.op.name, "what is kept for the gradient has none itself"));
  for (const size_t k : {0, 1, 2}) inputs.push_back(g.dout(k));
  const std::vector<Value*> back = record(ops::rnn_layer_grad_op, inputs, g.attributes);
  g.set(0, back[0]);
  if (g.wants(1)) g.set(1, back[1]);
  if (g.wants(2)) g.set(2, back[2]);
  for (size_t k = RnnIn::kWeights; k < g.inputs.size(); ++k) g.set(k, back[k - 1]);
}

}  // namespace

// Whoever recorded rnn itself kept nothing: the layers run once more.
void rnn_grad(Grad& g) {
  const Network net{
      g.in(1), g.in(2), g.in(3), {g.inputs.begin() + 4, g.inputs.end()}, g.attrs<RnnAttrs>()};
  std::vector<std::vector<Value*>> ins, outs;
  Value* x = g.in(0);
  for (int64_t layer = 0; layer < net.attrs.num_layers; ++layer) {
    ins.push_back(net.inputs(layer, x));
    outs.push_back(record(ops::rnn_layer_op, ins.back(), net.one_layer()));
    x = outs.back()[0];
  }
  Value* dy = g.dout(0);
  std::vector<Value*> dh(ins.size()), dc(ins.size());
  for (int64_t layer = net.attrs.num_layers - 1; layer >= 0; --layer) {
    const auto u = static_cast<size_t>(layer);
    std::vector<Value*> in = ins[u];
    for (const size_t k : {0, 3, 4}) in.push_back(outs[u][k]);
    in.insert(in.end(), {dy, net.part(g.dout(1), layer), net.part(g.dout(2), layer)});
    const std::vector<Value*> back = record(ops::rnn_layer_grad_op, in, net.one_layer());
    dy = back[0], dh[u] = back[1], dc[u] = back[2];
    for (size_t k = 0; k < static_cast<size_t>(4 * net.directions()); ++k)
      g.set(RnnIn::kWeights + net.place(layer, k), back[3 + k]);
  }
  g.set(0, dy);
  if (g.wants(1)) g.set(1, ops::concat(dh, 0));
  if (g.wants(2)) g.set(2, ops::concat(dc, 0));
}

namespace ops {

constinit const Op rnn_layer_op{.name = "rnn_layer",
                                .inputs = -1,
                                .outputs = 5,
                                .attrs = &attr_info<RnnAttrs>,
                                .infer = infer,
                                .grad = grad,
                                .cpu = prepare,
                                .amp = Amp::kFloat};

std::vector<Value*> rnn_train(Value* x, Value* h0, Value* c0, Value* lengths,
                              const std::vector<Value*>& weights, Value* random_state,
                              const RnnAttrs& attrs, const DropoutAttrs& dropout, Device* gpu) {
  const Network net{h0, c0, lengths, weights, attrs};
  const int64_t layers = attrs.num_layers;
  TRI_CHECK(layers > 0 && std::cmp_equal(weights.size(), 4 * net.directions() * layers),
            message("rnn", "weights expects ", 4 * net.directions() * std::max<int64_t>(layers, 0),
                    " arrays, got ", weights.size()));
  const bool drops = dropout.p > 0 && random_state && layers > 1;
  if (gpu && !drops) {
    std::vector<Value*> inputs{x, h0, c0, lengths};
    inputs.insert(inputs.end(), weights.begin(), weights.end());
    const std::vector<Value*> out = cudnn_rnn(inputs, attrs, *gpu);
    return {out[0], out[1], out[2]};
  }
  std::vector<Value*> hs, cs;
  for (int64_t layer = 0; layer < layers; ++layer) {
    const std::vector<Value*> inputs = net.inputs(layer, x);
    const std::vector<Value*> out = gpu ? cudnn_rnn(inputs, net.one_layer(), *gpu)
                                        : record(rnn_layer_op, inputs, net.one_layer());
    x = out[0];
    hs.push_back(out[1]);
    cs.push_back(out[2]);
    if (drops && layer + 1 < layers) {
      DropoutAttrs own = dropout;
      own.index += layer;
      x = ops::dropout(x, random_state, own);
    }
  }
  if (layers == 1) return {x, hs[0], cs[0]};
  return {x, concat(hs, 0), concat(cs, 0)};
}

}  // namespace ops
}  // namespace trireme
