// verify: a graph obeys the rules that every pass relies on.
#pragma once

#include <string_view>

#include "graph/graph.h"

namespace trireme {

// Throws kInternal, naming the pass, the node and the rule:
//  - a node's inputs are outputs of earlier nodes of the same graph;
//  - inputs are `data` nodes (or constants, in a fused body), outputs belong to the graph;
//  - the operator's rule gives the dtypes and shapes that the outputs have;
//  - only values whose layouts disagree are channels-last, and only operators that may see them do.
void verify(const Graph& graph, std::string_view pass);

}  // namespace trireme
