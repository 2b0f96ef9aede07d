// Anchors: how a convolution or matrix product, alone or with its neighbours, becomes one CPU
// kernel.
#pragma once

#include <optional>
#include <vector>

#include "device/cpu/conv.h"
#include "graph/kernel.h"
#include "graph/target.h"

namespace trireme {

// What one fused convolution consists of; values are those of the graph that holds the nodes. The
// pattern:
//   [depthwise conv2d -> act -> affine] -> [multiply by an [N, C, 1, 1] value] -> conv2d,
//   conv2d_transpose or matmul by a constant -> [add residual] -> [act] -> [affine] -> [add
//   residual]
struct AnchorMatch {
  const Node* anchor = nullptr;
  const Node* depthwise = nullptr;
  const Value* x = nullptr;  // the data input of the first node
  const Value* input_scale = nullptr;
  const Value* residual = nullptr;
  const Value* result = nullptr;
  cpu::Epilogue epilogue, depthwise_epilogue;
};

// The match that covers all nodes (given in running order), or nothing.
std::optional<AnchorMatch> match_anchor(const std::vector<const Node*>& nodes);

// A product by a computed matrix (a weight that is trained) and what follows it, on the CPU: the
// epilogue of the pattern above.
std::optional<AnchorMatch> match_product(const std::vector<const Node*>& nodes);

// A picture whose channels are planes, where kernels want them innermost.
bool lies_planar(const Value* v);

// Geometry of a convolution node, or of a matmul by a constant as a 1x1 convolution over its rows.
cpu::ConvSpec conv_spec(const Node& node);

// Where a value of the pattern stands among the node's inputs; `body` is null when the node is not
// fused. -1: there is no such value.
int place_among_inputs(const Prepare& p, const Graph* body, const Value* v);

// Whether a GPU runs a convolution (forward, transposed, or its weight's gradient) by our depthwise
// kernels: as many channels out as in, a group each.
bool is_own_depthwise(const Node& n);

// The kernel of an anchor node alone, and of a fused node whose body matches.
Kernel prepare_anchor(const Prepare& p);
Kernel prepare_fused_anchor(const Prepare& p, const Graph& body, const AnchorMatch& match);

// The CPU as a target of the passes.
const Target& cpu_target();

}  // namespace trireme
