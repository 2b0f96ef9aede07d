// Attention by one operator, where the device has it.
#pragma once

#include "trireme/tensor.h"

namespace trireme::nn {

// softmax(q k^T scale + mask) v by flash_attn: q [N, Sq, heads, D], k and v [N, Sk, heads, D] ->
// [N, Sq, heads, D]. An empty tensor where single operators have to do it: on the CPU, in float32,
// in a program that is being recorded, for sizes that flash_attn does not take, and for a mask that
// wants a gradient or does not broadcast. mask: bool (true is seen) or what is added, of rank 2 to
// 4; may be empty. With k and v empty, q is all three: [N, S, 3, heads, D].
Tensor flash_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                       double scale, double dropout, bool causal);

}  // namespace trireme::nn
