// Matrix products.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct MatmulAttrs {
  bool transpose_x = false, transpose_y = false;  // of the last two dimensions
  // The inputs are seen, and the result is stored, through these permutations (as transpose's
  // `perm`; empty: as they are). `clean` puts transposes here: rank 4 alone, neither side a
  // constant.
  std::vector<int64_t> perm_x{}, perm_y{}, perm_out{};
  static const Field fields[];
};
inline constexpr Field MatmulAttrs::fields[] = {
    TRI_FIELD(MatmulAttrs, transpose_x), TRI_FIELD(MatmulAttrs, transpose_y),
    TRI_FIELD(MatmulAttrs, perm_x), TRI_FIELD(MatmulAttrs, perm_y),
    TRI_FIELD(MatmulAttrs, perm_out)};

namespace ops {
// (x [..., M, K], y [..., K, N], bias [N] or null) -> [..., M, N]; leading dimensions broadcast;
// rank 1 as in NumPy.
extern const Op matmul_op;
Value* matmul(Value* x, Value* y, Value* bias = nullptr, bool transpose_x = false,
              bool transpose_y = false);
}  // namespace ops
}  // namespace trireme
