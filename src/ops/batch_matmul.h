// Products of two computed matrices, in batches.
#pragma once

#include "device/cpu/dnn.h"
#include "graph/kernel.h"
#include "ops/anchor.h"

namespace trireme {

// The CPU kernel of a matmul node whose right side is no constant, or whose dtype no convolution
// kernel has.
Kernel batch_matmul(const Prepare& p);

// That of a match_product(), and whether it has one.
Kernel fused_product(const Prepare& p, const Graph& body, const AnchorMatch& match);
bool fuses_product(const AnchorMatch& match);

// Sizes and strides of any matmul node; an operand that is the same in a batch has strides of 0.
cpu::BatchMatmulSpec batch_matmul_spec(const Node& node);

}  // namespace trireme
