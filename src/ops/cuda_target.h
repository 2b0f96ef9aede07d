// GPUs as a target of the passes.
#pragma once

#include <string>
#include <vector>

#include "graph/target.h"

namespace trireme {

const Target& cuda_target();

// The target of a device's name.
const Target& target_of(const std::string& device);

// Whether one of our kernels, or a cuDNN graph, serves these nodes together (Target::fuses).
// Clusters of pointwise operators are fused without asking.
bool cuda_fuses(const std::vector<const Node*>& nodes);

}  // namespace trireme
