// Choosing between whole kernels of a node by time.
#pragma once

#include "graph/kernel.h"

namespace trireme::cuda {

// Whether kernel `a` of the node takes less time than `b` on its device; `what` names the two.
// Measured once and kept on disk; true where nothing can be measured.
bool is_faster(const Prepare& p, const Kernel& a, const Kernel& b, const char* what);

}  // namespace trireme::cuda
