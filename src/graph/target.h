// Target: what a pass may ask about the device that a graph is compiled for. Passes never see a
// device API.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace trireme {

class Target {
 public:
  virtual ~Target() = default;
  // Whether one kernel serves these nodes, given in the order in which they run; the last one gives
  // the result.
  virtual bool fuses(const std::vector<const Node*>& nodes) const = 0;
  // Whether `if` runs one of its graphs alone.
  virtual bool branches() const { return true; }
  // Whether training batch norm and what stands around it (ops/batch_norm_fused.h) are one kernel.
  virtual bool fuses_norms() const { return false; }
  // Whether a convolution sums what the batch norm behind it wants to know on the way
  // (conv2d_statistics).
  virtual bool sums_behind(const Node& /*conv*/) const { return false; }
  // Whether products read through strides as fast as side by side, so that a transpose is best left
  // to them even when several read it.
  virtual bool products_take_strides() const { return false; }
  // Whether flash_attn has a kernel for heads of this size in this dtype.
  virtual bool fuses_attention(DType /*dtype*/, int64_t /*head_size*/) const { return false; }
  // Which input's memory the kernel lets a node's first output take over; -1: none (beside those of
  // Op::in_place). That this value is no other input's memory is the planner's to see; what a body
  // does with one input is the target's.
  virtual int overwrites(const Node& /*node*/) const { return -1; }
  // The layout in which an anchor wants input 0, and gives output 0; in which an operator that
  // reads channels-last pictures wants input 0.
  virtual Layout input_layout(const Node& anchor) const = 0;
};

}  // namespace trireme
