// fuse_norm: training batch norm takes in the residual, ReLU and max pooling behind it, and its
// gradient theirs, where the target has kernels for that; cross entropy
// of half logits the casts around it. Forward and backward stand in one graph;
// each side is rewritten on its own, the backward where it finds a rewritten forward.
//
// It comes after `layout`, so that the masks are in the order of memory.
#include <algorithm>

#include "ops/batch_norm_fused.h"
#include "ops/cross_entropy.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "passes/fuse.h"
#include "passes/pass.h"

namespace trireme {
namespace {

constexpr size_t kX = 2, kScale = 3, kBias = 4;               // inputs of batch_norm_train
constexpr size_t kY = 2, kMean = 3, kInverse = 4, kKept = 5;  // outputs; kKept: mask or index

bool same_type(const Value* a, const Value* b) { return a->type == b->type; }

class NormFuser {
 public:
  explicit NormFuser(Graph& graph) : graph_(graph) {}

  void run() {
    graph_.fold_below = 0;
    for_nodes(&ops::batch_norm_train_op, [&](Node* n) { forward(n); });
    for_nodes(&ops::relu_grad_op, [&](Node* n) { backward(n); });
    graph_.drop_unused();  // the replaced ones no longer read
    for_nodes(&ops::fused_batch_norm_act_op, [&](Node* n) { with_pool(n); });
    for_nodes(&ops::cross_entropy_with_softmax_op, [&](Node* n) { half_loss(n); });
    set_location({});
    graph_.sort();
    graph_.drop_unused();
  }

 private:
  template <class F> void for_nodes(const Op* op, F f) {
    readers_ = find_readers(graph_);
    uses_ = graph_.count_uses();
    std::vector<Node*> nodes;
    for (const auto& n : graph_.nodes)
      if (n->op == op) nodes.push_back(n.get());
    for (Node* n : nodes) f(n);
  }

  // The node that reads v, if there is only one and v is no result of the graph.
  Node* only_reader(const Value* v) const {
    const auto it = readers_.find(v);
    return it != readers_.end() && it->second.size() == 1 && uses_.at(v) == 1 ? it->second[0]
                                                                              : nullptr;
  }

  // A node in the place of `old`; its outputs have the layouts of `like`, null: row-major.
  std::vector<Value*> record(const Node& old, const Op& op, std::vector<Value*> inputs, Attrs attrs,
                             const std::vector<const Value*>& like) {
    set_location(old.where);
    std::vector<Value*> out = graph_.add(op, std::move(inputs), std::move(attrs));
    for (size_t i = 0; i < like.size(); ++i)
      if (like[i]) out[i]->type.layout = like[i]->type.layout;
    return out;
  }
  void replace(const Node* old, const std::vector<Value*>& now, size_t count) {
    for (size_t i = 0; i < count; ++i) graph_.replace_uses(old->out(i), now[i]);
  }

  void forward(Node* norm) {
    const Value* y = norm->out(kY);
    Node* next = only_reader(y);
    if (next == nullptr || !same_type(norm->inputs[kX], y)) return;
    for (const size_t k : {kScale, kBias})
      if (!same_type(norm->inputs[k], norm->inputs[0])) return;
    Value* z = nullptr;
    if (next->op == &ops::add_op) {
      z = next->inputs[next->inputs[0] == y ? 1 : 0];
      if (!same_type(z, y) || !same_type(next->out(), y)) return;
      next = only_reader(next->out());
      // Of two norms that are added the first takes in the other's result.
      if (next == nullptr || taken_.contains(next)) return;
    }
    if (next->op != &ops::relu_op) return;
    taken_.insert(next);
    std::vector<Value*> inputs = norm->inputs;
    if (z) inputs.push_back(z);
    const Op& op = z ? ops::fused_bn_add_activation_op : ops::fused_batch_norm_act_op;
    const auto now = record(*norm, op, std::move(inputs), norm->attrs, {nullptr, nullptr, y});
    replace(norm, now, 5);
    graph_.replace_uses(next->out(), now[kY]);
  }

  // Whether `n` is the gradient of the normalisation in `fused` with `dy` coming in.
  static bool is_gradient_of(const Node* n, const Node* fused, const Value* dy) {
    return n->op == &ops::batch_norm_grad_op && n->inputs[0] == fused->inputs[kX] &&
           n->inputs[1] == fused->inputs[kScale] && n->inputs[2] == fused->out(kMean) &&
           n->inputs[3] == fused->out(kInverse) && n->inputs[4] == dy;
  }

  // The two gradients whose sum `dy` is and that nothing else reads; else dy and null.
  std::pair<Value*, Value*> summands(Value* dy) const {
    const Node* n = dy->node;
    if (n->op != &ops::add_op || only_reader(dy) == nullptr || !same_type(n->inputs[0], dy) ||
        !same_type(n->inputs[1], dy))
      return {dy, nullptr};
    return {n->inputs[0], n->inputs[1]};
  }

  void backward(Node* kink) {
    const Value* y = kink->inputs[0];
    const Node* fused = y->node;
    Value *dy = kink->inputs[1], *g = kink->out();
    const bool residual = fused->op == &ops::fused_bn_add_activation_op;
    if ((!residual && fused->op != &ops::fused_batch_norm_act_op) || y != fused->out(kY)) return;
    if (!same_type(dy, y) || !readers_.contains(g)) return;
    const auto& readers = readers_.at(g);
    const auto norm = std::find_if(readers.begin(), readers.end(),
                                   [&](const Node* n) { return is_gradient_of(n, fused, g); });
    if (norm == readers.end() || (!residual && only_reader(g) == nullptr)) return;
    Value *x = fused->inputs[kX], *scale = fused->inputs[kScale], *mean = fused->out(kMean),
          *inverse = fused->out(kInverse);
    if (!residual) {
      const auto now =
          record(**norm, ops::fused_batch_norm_act_grad_op,
                 {x, scale, mean, inverse, fused->inputs[kBias], dy}, {}, {(*norm)->out(0)});
      return replace(*norm, now, 3);
    }
    const auto [first, second] = summands(dy);
    const auto now = record(**norm, ops::fused_bn_add_activation_grad_op,
                            {x, scale, mean, first, inverse, fused->out(kKept), second}, {},
                            {(*norm)->out(0), nullptr, nullptr, g});
    replace(*norm, now, 3);
    graph_.replace_uses(g, now[3]);
  }

  static bool poolable(const Node& pool) {
    const auto& a = pool.get<Pool2dAttrs>();
    return a.pooling_type == "max" && !a.adaptive && a.kernel[0] * a.kernel[1] <= 255 &&
           pool.inputs[0]->type.layout == Layout::kChannelsLast &&
           pool.out()->type.layout == Layout::kChannelsLast;
  }
  static bool same_windows(const Pool2dAttrs& a, const Pool2dAttrs& b) {
    return a.pooling_type == b.pooling_type && !b.adaptive && a.kernel == b.kernel &&
           a.strides == b.strides && a.paddings == b.paddings;
  }

  void with_pool(Node* norm) {
    const Value* y = norm->out(kY);
    if (!readers_.contains(y) || readers_.at(y).size() != static_cast<size_t>(uses_.at(y))) return;
    Node *pool = nullptr, *pool_back = nullptr;
    for (Node* n : readers_.at(y)) {
      Node*& place = n->op == &ops::pool2d_op ? pool : pool_back;
      if (place != nullptr || (n->op != &ops::pool2d_op && n->op != &ops::pool2d_grad_op)) return;
      place = n;
    }
    if (pool == nullptr || !poolable(*pool)) return;
    const auto& a = pool->get<Pool2dAttrs>();
    Node* norm_back = nullptr;
    if (pool_back) {
      norm_back = only_reader(pool_back->out());
      if (norm_back == nullptr || norm_back->op != &ops::fused_batch_norm_act_grad_op ||
          norm_back->inputs[5] != pool_back->out() || norm_back->inputs[2] != norm->out(kMean) ||
          !same_windows(a, pool_back->get<Pool2dAttrs>()) ||
          !same_type(pool_back->inputs[0], pool->out()))
        return;
    }
    const auto& own = norm->get<BatchNormAttrs>();
    const Shape& out = pool->out()->type.shape;
    const BatchNormPoolAttrs attrs{.momentum = own.momentum,
                                   .epsilon = own.epsilon,
                                   .kernel = a.kernel,
                                   .strides = a.strides,
                                   .paddings = {a.paddings[0], a.paddings[2]},
                                   .size = {out[2], out[3]}};
    const Value* like = pool->out();
    const auto now = record(*norm, ops::fused_batch_norm_act_pool_op, norm->inputs, attrs,
                            {nullptr, nullptr, like, nullptr, nullptr, like});
    for (const size_t i : {0, 1, 3, 4}) graph_.replace_uses(norm->out(i), now[i]);
    graph_.replace_uses(pool->out(), now[kY]);
    if (norm_back == nullptr) return;
    const auto [first, second] = summands(pool_back->inputs[0]);
    const auto back = record(*norm_back, ops::fused_batch_norm_act_pool_grad_op,
                             {norm->inputs[kX], norm->inputs[kScale], now[kMean], now[kInverse],
                              norm->inputs[kBias], first, now[kKept], second},
                             attrs, {norm_back->out(0)});
    replace(norm_back, back, 3);
  }

  // The value of half precision that was widened to v; else null.
  static Value* widened(const Value* v) {
    if (v->node->op != &ops::cast_op || v->type.dtype != DType::kFloat32) return nullptr;
    Value* from = v->node->inputs[0];
    const bool half = from->type.dtype == DType::kFloat16 || from->type.dtype == DType::kBFloat16;
    return half ? from : nullptr;
  }

  // The softmax may be wanted by gradients alone that are rounded to half again.
  void half_loss(Node* loss) {
    Value *logits = widened(loss->inputs[0]), *label = loss->inputs[1];
    const auto attrs = loss->get<CrossEntropyAttrs>();
    const Value* softmax = loss->out(0);
    if (logits == nullptr || attrs.soft_label) return;
    std::vector<std::pair<Node*, Node*>> backs;  // a gradient and the cast behind it
    if (const auto it = readers_.find(softmax); it != readers_.end()) {
      if (static_cast<size_t>(uses_.at(softmax)) != it->second.size()) return;
      for (Node* n : it->second) {
        Node* cast =
            n->op == &ops::cross_entropy_with_softmax_grad_op ? only_reader(n->out()) : nullptr;
        if (cast == nullptr || n->inputs[0] != label || cast->op != &ops::cast_op ||
            cast->out()->type != logits->type)
          return;
        backs.emplace_back(n, cast);
      }
    } else if (uses_.contains(softmax) && uses_.at(softmax) > 0) {
      return;  // a result of the graph
    }
    const auto now = record(*loss, ops::cross_entropy_half_op, {logits, label}, attrs, {});
    graph_.replace_uses(loss->out(1), now[0]);
    for (const auto& [back, cast] : backs) {
      const auto d = record(*back, ops::cross_entropy_half_grad_op,
                            {logits, label, now[1], back->inputs[2]}, attrs, {});
      graph_.replace_uses(cast->out(), d[0]);
    }
  }

  Graph& graph_;
  Readers readers_;
  std::unordered_map<const Value*, int> uses_;
  std::unordered_set<const Node*> taken_;
};

}  // namespace

void fuse_norm(Graph& graph, const PassContext& context) {
  if (context.target.fuses_norms()) NormFuser(graph).run();
}

}  // namespace trireme
