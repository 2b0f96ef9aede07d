// The elements of a pointwise cluster in memory order, and how its operands lie along them.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace trireme {

struct PointwiseSpace {
  std::vector<int64_t> dims;  // collapsed as far as all operands go on evenly, outermost first; two
                              // or more
  std::vector<std::vector<int64_t>> strides;  // in elements: of every input (0: broadcast), and
                                              // last of the result, which is dense

  PointwiseSpace(const std::vector<const Value*>& inputs, const Type& result);
};

}  // namespace trireme
