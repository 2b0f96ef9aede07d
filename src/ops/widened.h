// Kernels of float16 nodes where only float32 ones exist.
#pragma once

#include "graph/kernel.h"

namespace trireme {

bool any_float16(const Prepare& p);  // among the node's floating inputs and outputs

// The kernel that `prepare` gives for the same node on float32, with float16 inputs and outputs
// converted around it. Its scratch memory holds them.
Kernel widened(const Prepare& p, Kernel (*prepare)(const Prepare&));

}  // namespace trireme
