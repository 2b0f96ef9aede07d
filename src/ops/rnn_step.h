// One time step of a recurrent layer: the hidden product and the gates. rnn.cpp chooses the form at
// plan time.
#pragma once

#include <cstdint>

namespace trireme {

// The packed form of w_hh: for each gate panels of up to 64 of its columns (of w_hh transposed:
// hidden units), each panel [hidden, width] and dense; a gate's columns are padded with zeros to a
// multiple of 16.
constexpr int64_t kRnnPanel = 64;
constexpr int64_t rnn_padded(int64_t hidden) { return (hidden + 15) / 16 * 16; }

enum class RnnMode : uint8_t { kLstm, kGru, kTanh, kRelu };

// Rows of the batch for which the step is taken; all pointers are to the first of `rows` rows.
struct RnnStep {
  RnnMode mode;
  int64_t rows, hidden;
  const float* x_gates;  // the input's part of the gates, biases included: gates x hidden a row
  int64_t x_stride;
  const float* weight;      // w_hh, packed
  const float* reset_bias;  // GRU: b_hh of the candidate gate [hidden]
  float* gates;             // scratch, gates x hidden a row
  float* h;                 // [rows, hidden]: read, then overwritten
  float* c;                 // LSTM: the same
  float* y;                 // where h goes too, or null
  int64_t y_stride;
};

void rnn_step_baseline(const RnnStep& s);
void rnn_step_avx512(const RnnStep& s);

// One row's part of a step backwards, from what the forward step kept: the gates before their
// activations and, of an LSTM, the cells; of a GRU, the input's part of the candidate.
template <class T> struct RnnGradRow {
  const T *gates, *kept;         // of this step
  const T *c_before, *h_before;  // states before it, null for zero
  const T* reset_bias;           // GRU: b_hh of the candidate
  T *dh, *dc;                    // gradients of the states: after the step, then before it
  T *dx_gates, *dh_gates;        // of the gates' two parts (the same but for the GRU)
};
template <class T>
using RnnGradRowFn = void (*)(RnnMode mode, int64_t hidden, const RnnGradRow<T>&);
void rnn_grad_row_avx512(RnnMode mode, int64_t hidden, const RnnGradRow<float>& r);

}  // namespace trireme
