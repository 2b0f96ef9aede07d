// Choosing between whole kernels of a node by time.
#pragma once

#include <string>
#include <vector>

#include "graph/kernel.h"

namespace trireme::cuda {

struct Alternative {
  std::string name;  // tells it from the others for as long as choices are kept on disk
  Kernel kernel;
};
// The place of the kernel of the node that takes the least time on its device; `what` names the
// question. Measured once and kept on disk; the first where nothing can be measured.
size_t fastest_of(const Prepare& p, const std::vector<Alternative>& all, const char* what);
// Whether `a` takes less time than `b`.
bool is_faster(const Prepare& p, const Kernel& a, const Kernel& b, const char* what);

}  // namespace trireme::cuda
