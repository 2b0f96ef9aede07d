// The text form of graphs: what `trireme graph` prints and what the pass tests are written in.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "graph/graph.h"

namespace trireme {

//   graph(%x: float32[1, 3, 8, 8]) {
//     %w: float32[4, 3, 1, 1] = constant "conv.w"
//     %0: float32[1, 4, 8, 8] nhwc = conv2d(%x, %w, -) {strides=[2, 2]}
//     %1: float32[1, 4, 8, 8] nhwc = fused(%0) {body=graph(%a: ...) { ... }}
//     return %1
//   }
// "-" is an absent input. Values of constants are left out, except those of one element:
// constant 1.5.
std::string to_text(const Graph& graph);

// Reads that form back. A constant without a value gets pseudo-random elements that its name
// decides. Throws kInvalidArgument with the line.
std::unique_ptr<Graph> parse_graph(std::string_view text);

}  // namespace trireme
