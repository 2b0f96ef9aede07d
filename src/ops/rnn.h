// Recurrent networks: LSTM, GRU and simple cells, stacked and bidirectional.
#pragma once

#include "graph/graph.h"
#include "ops/random.h"

namespace trireme {

class Device;

struct RnnAttrs {
  std::string mode = "LSTM";  // LSTM, GRU, RNN_TANH, RNN_RELU
  int64_t hidden_size = 0, num_layers = 1;
  bool is_bidirec = false;
  int64_t reserve_bytes = 0;  // of cudnn_rnn alone: what is kept for the gradient
  static const Field fields[];
};
inline constexpr Field RnnAttrs::fields[] = {
    TRI_FIELD(RnnAttrs, mode), TRI_FIELD(RnnAttrs, hidden_size), TRI_FIELD(RnnAttrs, num_layers),
    TRI_FIELD(RnnAttrs, is_bidirec), TRI_FIELD(RnnAttrs, reserve_bytes)};

namespace ops {
// (x [T, B, I], h0 [L*D, B, H], c0 [L*D, B, H] or null, lengths int [B] or null, weights... in
// Paddle's order: w_ih, w_hh of every (layer, direction), then b_ih, b_hh of every one) -> y [T, B,
// D*H], h [L*D, B, H], c (LSTM) or h again. Gates of LSTM: i, f, g, o. GRU: r, z, c with Paddle's
// reset after the hidden product.
extern const Op rnn_op;
std::vector<Value*> rnn(Value* x, Value* h0, Value* c0, Value* lengths,
                        const std::vector<Value*>& weights, const RnnAttrs& attrs);

// One layer in its training form, float32 or float64: inputs of rnn with num_layers 1 -> y, h, c,
// and what the gradient needs: the gates before their activations [D, T, B, G*H], and [D, T, B, H].
extern const Op rnn_layer_op;
extern const Op rnn_layer_grad_op;  // (inputs of rnn_layer, y, the two kept ones, dy, dh, dc or
                                    // null) -> gradients of x, h0, c0 and the weights
// rnn in training: a rnn_layer for each layer, dropout between them (when p > 0 and there is a
// random state; layer k draws with dropout.index + k). The results are rnn's. For a GPU: cudnn_rnn.
std::vector<Value*> rnn_train(Value* x, Value* h0, Value* c0, Value* lengths,
                              const std::vector<Value*>& weights, Value* random_state,
                              const RnnAttrs& attrs, const DropoutAttrs& dropout,
                              Device* gpu = nullptr);
}  // namespace ops
}  // namespace trireme
