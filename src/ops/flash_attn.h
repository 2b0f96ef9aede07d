// Attention as one operator: softmax(q k^T scale + mask) v without the products between.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct FlashAttnAttrs {
  double scale = 1;     // of the products of q and k
  bool causal = false;  // query i sees the keys 0 to i
  double dropout = 0;   // of the weights; what is left is scaled by 1 / (1 - dropout)
  int64_t index = 0;    // tells the places of a program that draw numbers apart
  static const Field fields[];
};
inline constexpr Field FlashAttnAttrs::fields[] = {
    TRI_FIELD(FlashAttnAttrs, scale), TRI_FIELD(FlashAttnAttrs, causal),
    TRI_FIELD(FlashAttnAttrs, dropout), TRI_FIELD(FlashAttnAttrs, index)};

// Whether a GPU's flash_attn takes heads of this size in this dtype (of float16 and bfloat16).
bool flash_attn_takes(DType dtype, int64_t head_size);
// Whether a CPU's does: float32 with AVX-512, without dropout.
bool cpu_flash_attn_takes(DType dtype, int64_t head_size);

namespace ops {
// (q [B, Sq, H, D], k and v [B, Sk, Hk, D], mask or null, random state or null without dropout) ->
// out [B, Sq, H, D], softmax_lse float32 [B, H, Sq], the logarithms of the softmax's sums, for the
// gradient. H is a multiple of Hk: neighbouring heads share keys. The mask is added to the scaled
// products; it has their dtype and shape [B, H, Sq, Sk], or 1 in place of any of these. With k and
// v null, q is all three: [B, S, 3, H, D].
extern const Op flash_attn_op;
// (inputs of flash_attn, out, softmax_lse, gradient of out) -> gradients of q, k, v, or of the one
// that is all three. The mask gets none.
extern const Op flash_attn_grad_op;
std::vector<Value*> flash_attn(Value* q, Value* k, Value* v, Value* mask, Value* random_state,
                               const FlashAttnAttrs& attrs);
}  // namespace ops
}  // namespace trireme
