// Recurrent networks by cuDNN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "device/device.h"
#include "trireme/types.h"

namespace trireme::cuda {

struct RnnSpec {
  enum class Mode : uint8_t { kRelu, kTanh, kLstm, kGru };

  Mode mode = Mode::kLstm;
  DType dtype = DType::kFloat32;  // of everything; halves are summed in float32
  int64_t steps = 1, batch = 1, width = 1, hidden = 1, layers = 1;
  bool both_ways = false;
  bool training = false;  // forward keeps what backward needs
  bool tf32 = false;
  std::vector<int32_t> lengths{};  // of each sequence; empty: all steps

  int64_t directions() const { return both_ways ? 2 : 1; }
  int64_t cells() const { return layers * directions(); }
  int64_t gates() const { return mode == Mode::kLstm ? 4 : mode == Mode::kGru ? 3 : 1; }
};

// A run of weights: elements [from, from + count) of weight `input`, which stand from element `to`
// on in cuDNN's weight space. Weights are counted as the rnn operator has them: w_ih, w_hh of every
// cell, then b_ih, b_hh of every cell; their gates in the operator's order.
struct RnnPiece {
  int64_t input, from, to, count;
};

struct RnnForward {
  const void *x, *h0, *c0;  // [T, B, I], [L*D, B, H]; states may be null: zeros
  void *y, *h, *c;          // c is only written by an LSTM
  const void* weights;      // the weight space
  void* kept;               // reserve() bytes, or null
};
struct RnnBackward {
  const void *x, *h0, *c0, *y, *weights, *dy, *dh, *dc;  // dh and dc may be null
  void *dx, *dh0, *dc0, *dweights;                       // dc0 is only written by an LSTM
  void* kept;                                            // of forward; changed
};

class DnnRnn {
 public:
  // The faster of cuDNN's ways, measured when this is new (it waits for the device's work). What is
  // made is kept for the process. Throws kUnavailable, kUnimplemented.
  static std::shared_ptr<const DnnRnn> create(const RnnSpec& spec, Device& device);

  virtual ~DnnRnn() = default;
  virtual size_t weight_bytes() const = 0;
  virtual size_t reserve() const = 0;
  virtual size_t workspace() const = 0;
  virtual const std::vector<RnnPiece>& pieces() const = 0;
  // Give work to the stream alone. Thread-safe.
  virtual void forward(const RnnForward& args, void* workspace, void* stream) const = 0;
  virtual void backward(const RnnBackward& args, void* workspace, void* stream) const = 0;
};

}  // namespace trireme::cuda
