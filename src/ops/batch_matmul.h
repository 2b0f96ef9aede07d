// Products of two computed matrices, in batches.
#pragma once

#include "graph/kernel.h"

namespace trireme {

// The CPU kernel of a matmul node whose right side is no constant, or whose dtype no convolution
// kernel has.
Kernel batch_matmul(const Prepare& p);

}  // namespace trireme
