// Reductions over any set of dimensions.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct ReduceAttrs {
  std::vector<int64_t> axis{};  // sorted, non-negative; the function turns "none" into all
  bool keepdim = false;
  static const Field fields[];
};
inline constexpr Field ReduceAttrs::fields[] = {TRI_FIELD(ReduceAttrs, axis),
                                                TRI_FIELD(ReduceAttrs, keepdim)};

namespace ops {
extern const Op sum_op, mean_op, max_op, min_op, prod_op, any_op, all_op;
// One function for all: reduce(mean_op, x, {2, 3}, true). Empty axis: all dimensions. Sums of bool
// and int32 are int64.
Value* reduce(const Op& op, Value* x, std::vector<int64_t> axis, bool keepdim);
Value* variance(Value* x, const std::vector<int64_t>& axis, bool unbiased, bool keepdim);
Value* standard_deviation(Value* x, const std::vector<int64_t>& axis, bool unbiased, bool keepdim);
Value* logsumexp(Value* x, const std::vector<int64_t>& axis, bool keepdim);
// The p-norm of all elements along the axes; p may be infinite, 0 counts.
Value* norm(Value* x, double p, const std::vector<int64_t>& axis, bool keepdim);
}  // namespace ops
}  // namespace trireme
