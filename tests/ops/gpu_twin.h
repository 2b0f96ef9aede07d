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

// The graph's outputs, computed on a device, for these values of its inputs (absent ones left out).
std::vector<Array> run_on(Device& device, std::unique_ptr<Graph> graph,
                          const std::vector<Array>& inputs);

// Largest difference, relative to the largest value wanted; NaN and infinity have to agree.
double distance(const Array& got, const Array& want);

}  // namespace trireme::test
