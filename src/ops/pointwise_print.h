// Printing a cluster of pointwise operators as one CUDA kernel. Text alone: nothing here needs
// CUDA.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace trireme {

// A kernel `pointwise(inputs..., outputs..., numbers)`: pointers in the order given, then one
// struct of `numbers.size()` 8-byte words by value, which holds sizes, strides and attributes, so
// that the text does not change with them.
struct PrintedPointwise {
  std::string source;
  std::vector<int64_t> numbers;
  int64_t elements = 0;   // of an output
  int64_t per_block = 0;  // elements that a block of kPointwiseThreads makes
  int64_t blocks() const { return (elements + per_block - 1) / per_block; }
};
constexpr int kPointwiseThreads = 256;

// As pointwise_cluster (ops/fused.h): every output has the shape and layout of the first, inputs
// broadcast to it.
PrintedPointwise print_pointwise(const std::vector<const Node*>& nodes,
                                 const std::vector<const Value*>& inputs,
                                 const std::vector<const Value*>& outputs);

}  // namespace trireme
