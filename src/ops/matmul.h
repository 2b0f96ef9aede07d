// Matrix products.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct MatmulAttrs {
  bool transpose_x = false, transpose_y = false;  // of the last two dimensions
  static const Field fields[];
};
inline constexpr Field MatmulAttrs::fields[] = {TRI_FIELD(MatmulAttrs, transpose_x),
                                                TRI_FIELD(MatmulAttrs, transpose_y)};

namespace ops {
// (x [..., M, K], y [..., K, N], bias [N] or null) -> [..., M, N]; leading dimensions broadcast;
// rank 1 as in NumPy.
extern const Op matmul_op;
Value* matmul(Value* x, Value* y, Value* bias = nullptr, bool transpose_x = false,
              bool transpose_y = false);
}  // namespace ops
}  // namespace trireme
