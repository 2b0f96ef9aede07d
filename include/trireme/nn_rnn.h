// Recurrent layers: Paddle's nn.SimpleRNN, LSTM, GRU and their cells.
#pragma once

#include <string>
#include <vector>

#include "trireme/layer.h"
#include "trireme/nn_functional.h"

namespace trireme::nn {

struct RnnOptions {
  int64_t num_layers = 1;
  std::string direction = "forward";  // or "bidirect", "bidirectional"
  bool time_major = false;            // [T, N, size] in place of [N, T, size]
  double dropout = 0;                 // between layers, in training
  std::string activation = "tanh";    // of SimpleRNN: or "relu"
  ParamAttr weight_ih_attr{}, weight_hh_attr{}, bias_ih_attr{}, bias_hh_attr{};
};

// Outputs [N, T, directions * hidden_size] (or time major) and last states [layers * directions, N,
// hidden_size]; c for LSTM alone.
struct RnnResult {
  Tensor outputs, h, c;
};

// What the three have in common. State: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 (and
// with _reverse, and for every layer); and the same parameters as the cells', "0.cell.weight_ih"
// or "0.cell_fw.weight_ih", both as Paddle has it. All uniform within 1 / sqrt(hidden_size).
struct RnnBase : Layer {
  // The outputs alone. {x}, or {x, h} or {x, h, c}: with initial states.
  Tensor forward(const std::vector<Tensor>& in) override;
  // lengths int32 or int64 [N]: steps of each sequence; empty: all.
  RnnResult forward_all(const Tensor& x, const Tensor& h = {}, const Tensor& c = {},
                        const Tensor& lengths = {});
  int64_t hidden_size;
  RnnOptions o;

 protected:
  RnnBase(const std::string& mode, const char* cell, int64_t input_size, int64_t hidden,
          const RnnOptions& options);
  std::string mode_;
  std::vector<Tensor> weights_;  // four for each (layer, direction); biases may be empty
};
struct SimpleRNN : RnnBase {
  SimpleRNN(int64_t input_size, int64_t hidden, const RnnOptions& options = {})
      : RnnBase(options.activation == "relu" ? "RNN_RELU" : "RNN_TANH", "simple_rnn_cell",
                input_size, hidden, options) {}
};
struct LSTM : RnnBase {
  LSTM(int64_t input_size, int64_t hidden, const RnnOptions& options = {})
      : RnnBase("LSTM", "lstm_cell", input_size, hidden, options) {}
};
struct GRU : RnnBase {
  GRU(int64_t input_size, int64_t hidden, const RnnOptions& options = {})
      : RnnBase("GRU", "gru_cell", input_size, hidden, options) {}
};

struct RnnCellOptions {
  std::string activation = "tanh";  // of SimpleRNNCell: or "relu"
  ParamAttr weight_ih_attr{}, weight_hh_attr{}, bias_ih_attr{}, bias_hh_attr{};
};
// One step: {x [N, input_size]}, {x, h} or (LSTM) {x, h, c} -> the new h [N, hidden_size]. Without
// states they are zeros. step() gives h and, of LSTM, c.
struct RnnCellBase : Layer {
  Tensor weight_ih, weight_hh, bias_ih, bias_hh;
  int64_t hidden_size;
  Tensor forward(const std::vector<Tensor>& in) override { return step(in)[0]; }
  virtual std::vector<Tensor> step(const std::vector<Tensor>& in) = 0;

 protected:
  RnnCellBase(const char* type, int64_t gates, int64_t input_size, int64_t hidden,
              const RnnCellOptions& options);
  Tensor state(const std::vector<Tensor>& in, size_t i) const;
};
struct SimpleRNNCell : RnnCellBase {
  std::string activation;
  SimpleRNNCell(int64_t input_size, int64_t hidden, const RnnCellOptions& options = {})
      : RnnCellBase("simple_rnn_cell", 1, input_size, hidden, options),
        activation(options.activation) {}
  std::vector<Tensor> step(const std::vector<Tensor>& in) override;
};
struct LSTMCell : RnnCellBase {
  LSTMCell(int64_t input_size, int64_t hidden, const RnnCellOptions& options = {})
      : RnnCellBase("lstm_cell", 4, input_size, hidden, options) {}
  std::vector<Tensor> step(const std::vector<Tensor>& in) override;
};
struct GRUCell : RnnCellBase {
  GRUCell(int64_t input_size, int64_t hidden, const RnnCellOptions& options = {})
      : RnnCellBase("gru_cell", 3, input_size, hidden, options) {}
  std::vector<Tensor> step(const std::vector<Tensor>& in) override;
};

}  // namespace trireme::nn
