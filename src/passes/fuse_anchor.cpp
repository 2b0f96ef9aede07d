// fuse_anchor: a convolution or matrix product takes in what follows it (activation, affine,
// residual), a 1x1 convolution also the depthwise one or the channel scaling before it, as far as
// the target has one kernel for all.
#include <algorithm>

#include "ops/pointwise.h"
#include "passes/fuse.h"
#include "passes/pass.h"

namespace trireme {
namespace {

class AnchorFuser {
 public:
  AnchorFuser(Graph& graph, const Target& target)
      : graph_(graph), target_(target), readers_(find_readers(graph)), uses_(graph.count_uses()) {}

  void run() {
    std::vector<Node*> order;
    for (const auto& n : graph_.nodes) order.push_back(n.get());
    for (Node* n : order) {
      if (taken_.contains(n)) continue;
      std::vector<Node*> chain{n};
      const bool anchor = n->op->fuse == Fuse::kAnchor;
      // A scaling of channels is only taken together with the anchor behind it.
      if (!anchor && !(n->op == &ops::multiply_op && grow(chain))) continue;
      while (grow(chain)) {}
      if (chain.size() < 2) continue;
      for (Node* c : chain) taken_.insert(c);
      fuse_nodes(chain);
    }
    graph_.drop_unused();
  }

 private:
  // Adds the only reader of the chain's result when the target still has a kernel for the whole.
  // One step of lookahead bridges a node that is only served together with the next (a scaling of
  // channels before a convolution).
  bool grow(std::vector<Node*>& chain) const {
    std::vector<Node*> longer = chain;
    for (int step = 0; step < 2; ++step) {
      Node* next = only_reader(longer.back());
      if (next == nullptr || taken_.contains(next)) return false;
      longer.push_back(next);
      if (target_.fuses({longer.begin(), longer.end()})) {
        chain = std::move(longer);
        return true;
      }
    }
    return false;
  }

  Node* only_reader(const Node* n) const {
    const Value* v = n->out();
    const auto it = readers_.find(v);
    if (it == readers_.end() || it->second.size() != 1 || uses_.at(v) != 1) return nullptr;
    const bool fusable = it->second[0]->op->fuse != Fuse::kNone;
    return fusable ? it->second[0] : nullptr;
  }

  Graph& graph_;
  const Target& target_;
  Readers readers_;
  std::unordered_map<const Value*, int> uses_;
  std::unordered_set<const Node*> taken_;
};

}  // namespace

void fuse_anchor(Graph& graph, const PassContext& context) {
  AnchorFuser(graph, context.target).run();
}

}  // namespace trireme
