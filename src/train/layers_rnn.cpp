// Recurrent layers over the rnn operator, and cells.
#include <cmath>

#include "ops/rnn.h"
#include "runtime/amp_mode.h"
#include "runtime/call.h"
#include "trireme/autograd.h"
#include "trireme/nn_initializer.h"
#include "trireme/nn_rnn.h"

namespace trireme::nn {
namespace {

Initializer within(int64_t hidden_size) {
  TRI_CHECK(hidden_size > 0,
            "[rnn] hidden_size expects 1 or more, got " + std::to_string(hidden_size));
  const double limit = 1 / std::sqrt(static_cast<double>(hidden_size));
  return initializer::Uniform(-limit, limit);
}

}  // namespace

// ---- cells

RnnCellBase::RnnCellBase(const char* type, int64_t gates, int64_t input_size, int64_t hidden,
                         const RnnCellOptions& o)
    : Layer(type), hidden_size(hidden) {
  TRI_CHECK(input_size > 0, '[' + std::string(type) + "] input_size expects 1 or more, got " +
                                std::to_string(input_size));
  const Initializer init = within(hidden);
  const int64_t rows = gates * hidden;
  weight_ih = create_parameter("weight_ih", Shape{rows, input_size}, o.weight_ih_attr, init);
  weight_hh = create_parameter("weight_hh", Shape{rows, hidden}, o.weight_hh_attr, init);
  bias_ih = create_parameter("bias_ih", Shape{rows}, o.bias_ih_attr, init, true);
  bias_hh = create_parameter("bias_hh", Shape{rows}, o.bias_hh_attr, init, true);
}

Tensor RnnCellBase::state(const std::vector<Tensor>& in, size_t i) const {
  TRI_CHECK(!in.empty() && in[0].ndim() == 2, "[rnn cell] expects x [N, input_size]");
  return i < in.size() && in[i].defined() ? in[i]
                                          : zeros({in[0].size(0), hidden_size}, in[0].dtype());
}

namespace {
Tensor product(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const Tensor y = matmul(x, weight, false, true);
  return bias.defined() ? y + bias : y;
}
}  // namespace

std::vector<Tensor> SimpleRNNCell::step(const std::vector<Tensor>& in) {
  return {functional::activation(
      activation, product(in[0], weight_ih, bias_ih) + product(state(in, 1), weight_hh, bias_hh))};
}
std::vector<Tensor> LSTMCell::step(const std::vector<Tensor>& in) {
  const std::vector<Tensor> g =
      chunk(product(in[0], weight_ih, bias_ih) + product(state(in, 1), weight_hh, bias_hh), 4, -1);
  const Tensor c = sigmoid(g[1]) * state(in, 2) + sigmoid(g[0]) * tanh(g[2]);
  return {sigmoid(g[3]) * tanh(c), c};
}
std::vector<Tensor> GRUCell::step(const std::vector<Tensor>& in) {
  const Tensor before = state(in, 1);
  const std::vector<Tensor> x = chunk(product(in[0], weight_ih, bias_ih), 3, -1);
  const std::vector<Tensor> h = chunk(product(before, weight_hh, bias_hh), 3, -1);
  const Tensor r = sigmoid(x[0] + h[0]), z = sigmoid(x[1] + h[1]);
  const Tensor c = tanh(x[2] + r * h[2]);
  return {(before - c) * z + c};
}

// ---- layers

namespace {

// A cell that only owns parameters: the layer runs them all in one operator.
struct Parameters : RnnCellBase {
  Parameters(const char* type, int64_t gates, int64_t input_size, int64_t hidden,
             const RnnOptions& o)
      : RnnCellBase(type, gates, input_size, hidden,
                    {.weight_ih_attr = o.weight_ih_attr,
                     .weight_hh_attr = o.weight_hh_attr,
                     .bias_ih_attr = o.bias_ih_attr,
                     .bias_hh_attr = o.bias_hh_attr}) {}
  std::vector<Tensor> step(const std::vector<Tensor>&) override { return {}; }
};

}  // namespace

RnnBase::RnnBase(const std::string& mode, const char* cell, int64_t input_size, int64_t hidden,
                 const RnnOptions& options)
    : Layer("rnn"), hidden_size(hidden), o(options), mode_(mode) {
  const bool both = o.direction == "bidirect" || o.direction == "bidirectional";
  TRI_CHECK(both || o.direction == "forward",
            "[rnn] direction expects forward, bidirect or bidirectional, got " + o.direction);
  TRI_CHECK(o.num_layers > 0 && input_size > 0, "[rnn] num_layers and input_size expect 1 or more");
  const int64_t gates = mode == "LSTM" ? 4 : mode == "GRU" ? 3 : 1;
  std::vector<std::pair<std::string, Layer>> cells;
  for (int64_t l = 0; l < o.num_layers; ++l) {
    Layer wrapper(both ? "birnn" : "rnn");
    for (int d = 0; d < (both ? 2 : 1); ++d) {
      const int64_t width = l == 0 ? input_size : hidden * (both ? 2 : 1);
      const Parameters p(cell, gates, width, hidden, o);
      const std::string tail = "_l" + std::to_string(l) + (d == 1 ? "_reverse" : "");
      for (const auto& [name, t] : {std::pair<const char*, Tensor>{"weight_ih", p.weight_ih},
                                    {"weight_hh", p.weight_hh},
                                    {"bias_ih", p.bias_ih},
                                    {"bias_hh", p.bias_hh}}) {
        if (t.defined()) add_parameter(name + tail, t);
        weights_.push_back(t);
      }
      wrapper.add_sublayer(both ? (d == 0 ? "cell_fw" : "cell_bw") : "cell", p);
    }
    cells.emplace_back(std::to_string(l), wrapper);
  }
  for (const auto& [name, layer] : cells) add_sublayer(name, layer);
}

RnnResult RnnBase::forward_all(const Tensor& input, const Tensor& h0, const Tensor& c0,
                               const Tensor& lengths) {
  TRI_CHECK(input.ndim() == 3, "[rnn] x expects rank 3, got " + input.shape().str());
  const Tensor x = o.time_major ? input : transpose(input, {1, 0, 2});
  const bool lstm = mode_ == "LSTM";
  const int64_t directions = o.direction == "forward" ? 1 : 2;
  const Ints shape{o.num_layers * directions, x.size(1), hidden_size};
  const Tensor h = h0.defined() ? h0 : zeros(shape, x.dtype());
  const Tensor c = !lstm ? Tensor() : c0.defined() ? c0 : zeros(shape, x.dtype());
  std::vector<Tensor> in{x, h, c, lengths};
  // Weights of every (layer, direction), then biases.
  const size_t cells = weights_.size() / 4;
  for (const size_t half : {0U, 2U})
    for (size_t i = 0; i < cells; ++i)
      for (size_t k = half; k < half + 2; ++k) {
        const Tensor& w = weights_[4 * i + k];
        in.push_back(w.defined() ? w : zeros({weights_[4 * i].size(0)}, x.dtype()));
      }
  const RnnAttrs attrs{mode_, hidden_size, o.num_layers, directions == 2};
  Recorder& recorder = recorder_for({&x});
  Device* const gpu =
      recorder.device().is_host() || recorder.tracing() ? nullptr : &recorder.device();
  const bool kept = training() || is_grad_enabled();
  if (const AmpMode* amp = amp_mode(); amp && gpu && kept)
    for (Tensor& t : in)
      if (t.defined() && t.dtype() == DType::kFloat32) t = cast(t, amp->half);
  DropoutAttrs dropout;
  dropout.p = training() ? o.dropout : 0;
  const bool random = dropout.p > 0 && o.num_layers > 1;
  if (random) {
    dropout.index = recorder.next_random();
    for (int64_t l = 1; l < o.num_layers; ++l) (void)recorder.next_random();
  }
  const std::vector<Tensor> r = call_list(
      [&](const std::vector<Value*>& v) {
        const std::vector<Value*> weights{v.begin() + 4, v.end()};
        if (!kept) return ops::rnn(v[0], v[1], v[2], v[3], weights, attrs);
        return ops::rnn_train(v[0], v[1], v[2], v[3], weights,
                              random ? recorder.random_state() : nullptr, attrs, dropout, gpu);
      },
      in);
  return {o.time_major ? r[0] : transpose(r[0], {1, 0, 2}), r[1], lstm ? r[2] : Tensor()};
}

Tensor RnnBase::forward(const std::vector<Tensor>& in) {
  TRI_CHECK(!in.empty() && in.size() <= 3, "[rnn] expects x and initial states");
  return forward_all(in[0], in.size() > 1 ? in[1] : Tensor(), in.size() > 2 ? in[2] : Tensor())
      .outputs;
}

}  // namespace trireme::nn
