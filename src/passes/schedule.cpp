// schedule: among the nodes that could run next, the one that leaves the fewest bytes alive.
#include <algorithm>
#include <unordered_map>

#include "passes/pass.h"

namespace trireme {

void schedule(Graph& graph, const PassContext&) {
  const size_t count = graph.nodes.size();
  std::unordered_map<const Node*, size_t> place;
  for (size_t i = 0; i < count; ++i) place[graph.nodes[i].get()] = i;
  std::unordered_map<const Value*, int> left = graph.count_uses();
  std::vector<int> waits(count, 0);
  std::vector<std::vector<size_t>> readers(count);
  for (size_t i = 0; i < count; ++i)
    for (const Value* v : graph.nodes[i]->inputs) {
      if (v == nullptr) continue;
      ++waits[i];
      readers[place.at(v->node)].push_back(i);
    }
  const auto growth = [&](const Node& n) {
    int64_t bytes = 0;
    for (const auto& v : n.outputs) bytes += static_cast<int64_t>(v->type.bytes());
    if (n.op->view) bytes = 0;
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const Value* v = n.inputs[i];
      const bool leaf = v == nullptr || v->node->op == &kData || v->node->op == &kConstant;
      const auto earlier = n.inputs.begin() + static_cast<std::ptrdiff_t>(i);
      if (leaf || std::find(n.inputs.begin(), earlier, v) != earlier) continue;
      if (left[v] == static_cast<int>(std::count(n.inputs.begin(), n.inputs.end(), v)) &&
          !n.op->view)
        bytes -= static_cast<int64_t>(v->type.bytes());
    }
    return bytes;
  };
  std::vector<size_t> ready;
  for (size_t i = 0; i < count; ++i)
    if (waits[i] == 0) ready.push_back(i);
  std::vector<std::unique_ptr<Node>> ordered;
  while (!ready.empty()) {
    size_t best = 0;
    int64_t best_growth = 0;
    for (size_t k = 0; k < ready.size(); ++k) {
      const Node& n = *graph.nodes[ready[k]];
      const bool leaf = n.op == &kData || n.op == &kConstant;
      const int64_t g = leaf ? INT64_MIN : growth(n);
      // Ties and growing nodes go by the program's order, which keeps neighbours in the caches
      // together.
      if (k == 0 || g < best_growth || (g == best_growth && ready[k] < ready[best]))
        best = k, best_growth = g;
      if (leaf) break;
    }
    const size_t i = ready[best];
    ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(best));
    for (const Value* v : graph.nodes[i]->inputs)
      if (v) --left[v];
    for (size_t r : readers[i])
      if (--waits[r] == 0) ready.push_back(r);
    ordered.push_back(std::move(graph.nodes[i]));
  }
  graph.nodes = std::move(ordered);
}

}  // namespace trireme
