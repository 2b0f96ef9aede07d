// Connectionist temporal classification.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct CtcAttrs {
  int64_t blank = 0;
  bool norm_by_times = false;  // divides the gradient by the row's steps
  static const Field fields[];
};
inline constexpr Field CtcAttrs::fields[] = {TRI_FIELD(CtcAttrs, blank),
                                             TRI_FIELD(CtcAttrs, norm_by_times)};

namespace ops {
// (logits [T, N, C], labels int [N, L], steps int [N], label lengths int [N]) -> loss [N], and the
// gradient of their sum by the logits [T, N, C]. Softmax is inside. A label that needs more steps
// than there are has loss 0 and no gradient, as Paddle has it (Paddle's zero_infinity is always
// on).
extern const Op warpctc_op;
std::vector<Value*> warpctc(Value* logits, Value* labels, Value* logits_length,
                            Value* labels_length, const CtcAttrs& attrs);
}  // namespace ops
}  // namespace trireme
