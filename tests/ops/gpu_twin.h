// Nodes of the operators' tests once more on a GPU, against the CPU's results.
#pragma once

#include "device/device.h"
#include "graph/kernel.h"

namespace trireme::test {

// Does nothing unless $TRIREME_TEST_GPU names a device ("gpu:0"), or where the operator has no CUDA
// kernel. Otherwise runs the node there twice, the second time from a recording where that can be
// done, and compares with `out`, the CPU's results: integers exactly, the others within a few units
// in the last place of the largest; and both runs bit by bit.
void check_on_gpu(const Node& node, const std::vector<void*>& in, const std::vector<void*>& out);

// Results are compared relative to their largest, but to no less than this.
inline constexpr double kLeastScale = 1e-3;

}  // namespace trireme::test
