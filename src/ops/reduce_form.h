// How a reduction sees its input, for the kernels of all devices.
#pragma once

#include <vector>

#include "ops/elements.h"

namespace trireme {

// The input as [outer, n, inner], reduced over n. Where its memory order does not allow that, it
// has to be copied first: an array of `dims`, each `strides` apart, which becomes dense.
struct ReduceForm {
  AxisSplit split;
  std::vector<int64_t> dims, strides;

  bool direct() const { return dims.empty(); }
};

ReduceForm reduce_form(const Prepare& p);

}  // namespace trireme
