// fuse_pointwise: chains and trees of pointwise operators over the same elements become one pass
// over memory.
#include <algorithm>

#include "passes/fuse.h"
#include "passes/pass.h"

namespace trireme {
namespace {

constexpr size_t kLargestCluster = 24;  // tiles of a cluster have to fit the first-level cache

bool same_space(const Value* a, const Value* b) {
  return a->type.shape == b->type.shape && a->type.layout == b->type.layout;
}

}  // namespace

void fuse_pointwise(Graph& graph, const PassContext&) {
  const Readers readers = find_readers(graph);
  const auto uses = graph.count_uses();
  std::unordered_map<const Node*, size_t> place;
  std::vector<Node*> order;
  for (const auto& n : graph.nodes) {
    place[n.get()] = order.size();
    order.push_back(n.get());
  }
  std::unordered_set<const Node*> taken;
  // From the sinks upwards: a producer joins when the cluster alone reads it, so no cycle can
  // arise.
  for (size_t i = order.size(); i-- > 0;) {
    Node* sink = order[i];
    if (sink->op->fuse != Fuse::kPointwise || taken.contains(sink)) continue;
    std::vector<Node*> cluster{sink};
    std::unordered_set<const Node*> members{sink};
    for (size_t k = 0; k < cluster.size() && cluster.size() < kLargestCluster; ++k) {
      for (Value* v : cluster[k]->inputs) {
        if (v == nullptr || v->node->op->fuse != Fuse::kPointwise || members.contains(v->node))
          continue;
        if (taken.contains(v->node) || !same_space(v, sink->out())) continue;
        const auto& who = readers.at(v);
        const bool inside =
            std::all_of(who.begin(), who.end(), [&](Node* r) { return members.contains(r); });
        int reads = 0;
        for (const Node* r : who)
          reads += static_cast<int>(std::count(r->inputs.begin(), r->inputs.end(), v));
        if (!inside || reads != uses.at(v)) continue;  // a graph output is a use of its own
        members.insert(v->node);
        cluster.push_back(v->node);
      }
    }
    if (cluster.size() < 2) continue;
    std::sort(cluster.begin(), cluster.end(),
              [&](Node* a, Node* b) { return place.at(a) < place.at(b); });
    for (Node* n : cluster) taken.insert(n);
    fuse_nodes(cluster);
  }
  graph.drop_unused();
}

}  // namespace trireme
