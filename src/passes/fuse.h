// What both fusion passes need: putting nodes into the body of a fused node.
#pragma once

#include <unordered_set>
#include <vector>

#include "graph/graph.h"

namespace trireme {

// Replaces `nodes` (in running order; only the last one's output is used outside) by one fused node
// in the last one's place. The other nodes are left without users.
void fuse_nodes(const std::vector<Node*>& nodes);

// For every value: the nodes that read it.
using Readers = std::unordered_map<const Value*, std::vector<Node*>>;
Readers find_readers(const Graph& graph);

}  // namespace trireme
