// Recurrent networks: LSTM, GRU and simple cells, stacked and bidirectional.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct RnnAttrs {
  std::string mode = "LSTM";  // LSTM, GRU, RNN_TANH, RNN_RELU
  int64_t hidden_size = 0, num_layers = 1;
  bool is_bidirec = false;
  static const Field fields[];
};
inline constexpr Field RnnAttrs::fields[] = {
    TRI_FIELD(RnnAttrs, mode), TRI_FIELD(RnnAttrs, hidden_size), TRI_FIELD(RnnAttrs, num_layers),
    TRI_FIELD(RnnAttrs, is_bidirec)};

namespace ops {
// (x [T, B, I], h0 [L*D, B, H], c0 [L*D, B, H] or null, lengths int [B] or null, weights... in
// Paddle's order: w_ih, w_hh of every (layer, direction), then b_ih, b_hh of every one) -> y [T, B,
// D*H], h [L*D, B, H], c (LSTM) or h again. Gates of LSTM: i, f, g, o. GRU: r, z, c with Paddle's
// reset after the hidden product.
extern const Op rnn_op;
std::vector<Value*> rnn(Value* x, Value* h0, Value* c0, Value* lengths,
                        const std::vector<Value*>& weights, const RnnAttrs& attrs);
}  // namespace ops
}  // namespace trireme
