// Recurrent networks on GPUs in their training form: all layers by one operator.
#pragma once

#include "ops/rnn.h"

namespace trireme {

class Device;

namespace ops {
// (inputs of rnn; all of one of float32, float16, bfloat16, float64; lengths a constant) -> y, h, c
// as rnn gives them, and uint8 [attrs.reserve_bytes], which only cudnn_rnn_grad understands.
extern const Op cudnn_rnn_op;
// (what was kept, inputs of cudnn_rnn, y, dy, dh or null, dc or null) -> what was kept (used up),
// gradients of x, h0, c0 and the weights.
extern const Op cudnn_rnn_grad_op;

// For the GPU that will run it: cuDNN tells how much is kept. In a build without CUDA kInternal.
std::vector<Value*> cudnn_rnn(const std::vector<Value*>& inputs, const RnnAttrs& attrs,
                              Device& gpu);
}  // namespace ops
}  // namespace trireme
