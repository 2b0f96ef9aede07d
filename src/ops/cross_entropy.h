// Softmax and cross entropy in one, numerically stable.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct CrossEntropyAttrs {
  bool soft_label = false;
  int64_t ignore_index = -100;  // hard labels: such ones have no loss and no gradient
  int64_t axis = -1;            // of the classes; normalised by the function
  int64_t classes = 0;          // cross_entropy_half: logits behind them are padding; 0: none are
  static const Field fields[];
};
inline constexpr Field CrossEntropyAttrs::fields[] = {
    TRI_FIELD(CrossEntropyAttrs, soft_label), TRI_FIELD(CrossEntropyAttrs, ignore_index),
    TRI_FIELD(CrossEntropyAttrs, axis), TRI_FIELD(CrossEntropyAttrs, classes)};

namespace ops {
// (logits, label) -> softmax, loss. The loss has the logits' shape with 1 along the axis. Hard
// labels: int32 or int64 of the loss's shape. Soft ones: of the logits' dtype and shape; they get
// no gradient.
extern const Op cross_entropy_with_softmax_op;
extern const Op cross_entropy_with_softmax_grad_op;  // (label, softmax, dloss) -> dlogits
// What the pass fuse_loss makes, on a GPU, of the two above between casts of half logits:
// (logits, label) -> (loss, log_sum), float32; (logits, label, log_sum, dloss) -> dlogits, half,
// zeros in the padding.
extern const Op cross_entropy_half_op, cross_entropy_half_grad_op;
// Both at once, where dloss is known before the loss: (logits, label, dloss) -> (dlogits, loss).
extern const Op cross_entropy_half_both_op;
// A hard label may leave out the axis.
std::vector<Value*> cross_entropy_with_softmax(Value* logits, Value* label, bool soft_label = false,
                                               int64_t ignore_index = -100, int64_t axis = -1);
}  // namespace ops

Kernel cuda_cross_entropy_half(const Prepare& p);
Kernel cuda_cross_entropy_half_grad(const Prepare& p);
Kernel cuda_cross_entropy_half_both(const Prepare& p);
}  // namespace trireme
