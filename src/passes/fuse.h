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

// What a pass that replaces nodes one kind after the other needs.
class Rewriter {
 public:
  explicit Rewriter(Graph& graph) : graph_(graph) { graph_.fold_below = 0; }

 protected:
  // f(node) for the nodes of `op` that are there now; what reads a value is told as it is now.
  template <class F> void for_nodes(const Op& op, F f) {
    readers_ = find_readers(graph_);
    uses_ = graph_.count_uses();
    std::vector<Node*> nodes;
    for (const auto& n : graph_.nodes)
      if (n->op == &op) nodes.push_back(n.get());
    for (Node* n : nodes) f(n);
  }
  // The node that reads v, if there is only one and v is no result of the graph.
  Node* only_reader(const Value* v) const;
  // Whether nodes alone read v, each once.
  bool only_read(const Value* v) const;
  // A node in the place of `old`; it is put in order by finish().
  std::vector<Value*> add(const Node& old, const Op& op, std::vector<Value*> inputs, Attrs attrs);
  void finish();

  Graph& graph_;
  Readers readers_;
  std::unordered_map<const Value*, int> uses_;
};

}  // namespace trireme
