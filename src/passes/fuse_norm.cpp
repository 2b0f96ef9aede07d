// fuse_norm: training batch norm takes in the residual, ReLU and max pooling behind it, and its
// gradient theirs; two of them that are added become one; the convolution in front sums their
// statistics; the gradients of layer norm and gelu sum that of a bias in front; where the target
// has kernels for that. Forward and backward stand in one graph; each side is rewritten on its own,
// the backward where it finds a rewritten forward.
//
// It comes after `layout`, so that the masks are in the order of memory.
#include <algorithm>

#include "ops/batch_norm_fused.h"
#include "ops/conv.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "passes/fuse.h"
#include "passes/pass.h"

namespace trireme {
namespace {

constexpr size_t kX = 2, kScale = 3, kBias = 4;               // inputs of batch_norm_train
constexpr size_t kY = 2, kMean = 3, kInverse = 4, kKept = 5;  // outputs; kKept: mask or index

bool same_type(const Value* a, const Value* b) { return a->type == b->type; }

class NormFuser : Rewriter {
 public:
  NormFuser(Graph& graph, const Target& target) : Rewriter(graph), target_(target) {}

  void run() {
    for_nodes(ops::batch_norm_train_op, [&](Node* n) { forward(n); });
    for_nodes(ops::relu_grad_op, [&](Node* n) { backward(n); });
    graph_.drop_unused();  // the replaced ones no longer read
    for_nodes(ops::fused_batch_norm_act_op, [&](Node* n) { with_pool(n); });
    graph_.drop_unused();
    for_nodes(ops::conv2d_op, [&](Node* n) { with_statistics(n); });
    for_nodes(ops::layer_norm_grad_op, [&](Node* n) {
      if (n->get<NormAttrs>().axis == n->out()->type.shape.rank() - 1)
        with_sum(n, ops::layer_norm_grad_sum_op);
    });
    for_nodes(ops::gelu_grad_op, [&](Node* n) {
      if (n->out()->type.layout == Layout::kPlain) with_sum(n, ops::gelu_grad_sum_op);
    });
    finish();
  }

 private:
  // A node in the place of `old`; its outputs have the layouts of `like`, null: row-major.
  std::vector<Value*> record(const Node& old, const Op& op, std::vector<Value*> inputs, Attrs attrs,
                             const std::vector<const Value*>& like) {
    const std::vector<Value*> out = add(old, op, std::move(inputs), std::move(attrs));
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
    if (z != nullptr && can_join(*norm, *z)) return dual(norm, z->node, next);
    std::vector<Value*> inputs = norm->inputs;
    if (z) inputs.push_back(z);
    const Op& op = z ? ops::fused_bn_add_activation_op : ops::fused_batch_norm_act_op;
    const auto now = record(*norm, op, std::move(inputs), norm->attrs, {nullptr, nullptr, y});
    replace(norm, now, 5);
    graph_.replace_uses(next->out(), now[kY]);
  }

  // Whether the residual z is a normalisation's result like `norm`'s that nothing else reads.
  bool can_join(const Node& norm, const Value& z) const {
    const Node* n = z.node;
    if (n->op != &ops::batch_norm_train_op || &z != n->out(kY) || only_reader(&z) == nullptr)
      return false;
    for (const size_t k : {kScale, kBias})
      if (!same_type(n->inputs[k], n->inputs[0])) return false;
    return same_type(n->inputs[kX], &z) && n->attrs == norm.attrs;
  }
  void dual(Node* norm, Node* other, Node* relu) {
    std::vector<Value*> inputs(norm->inputs.begin(), norm->inputs.begin() + 5);
    inputs.insert(inputs.end(), other->inputs.begin(), other->inputs.begin() + 5);
    const auto now = record(*norm, ops::fused_dual_bn_add_activation_op, std::move(inputs),
                            norm->attrs, {nullptr, nullptr, norm->out(kY)});
    replace(norm, now, 5);
    constexpr size_t kOf[] = {0, 1, kMean, kInverse};
    for (size_t k = 0; k < 4; ++k) graph_.replace_uses(other->out(kOf[k]), now[5 + k]);
    graph_.replace_uses(relu->out(), now[kY]);
  }

  // Whether `n` is the gradient of the normalisation in `fused` that stands at `at`, with `dy`
  // coming in.
  static bool is_gradient_of(const Node* n, const Node* fused, const NormPlaces& at,
                             const Value* dy) {
    return n->op == &ops::batch_norm_grad_op && n->inputs[0] == fused->inputs[at.x] &&
           n->inputs[1] == fused->inputs[at.scale] && n->inputs[2] == fused->out(at.saved_mean) &&
           n->inputs[3] == fused->out(at.saved_mean + 1) && n->inputs[4] == dy;
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
    if (fused->op == &ops::fused_dual_bn_add_activation_op) return dual_backward(kink, fused);
    const bool residual = fused->op == &ops::fused_bn_add_activation_op;
    if ((!residual && fused->op != &ops::fused_batch_norm_act_op) || y != fused->out(kY)) return;
    if (!same_type(dy, y) || !readers_.contains(g)) return;
    const auto& readers = readers_.at(g);
    const auto norm = std::find_if(readers.begin(), readers.end(),
                                   [&](const Node* n) { return is_gradient_of(n, fused, {}, g); });
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

  void dual_backward(Node* kink, const Node* fused) {
    constexpr size_t kMask = 9;
    Value *y = kink->inputs[0], *g = kink->out();
    if (y != fused->out(kY) || !same_type(kink->inputs[1], y) || !readers_.contains(g)) return;
    const auto& readers = readers_.at(g);
    if (readers.size() != 2 || uses_.at(g) != 2) return;
    Node* norms[2] = {};
    std::vector<Value*> inputs{fused->inputs[kDualPlaces[0].x], fused->inputs[kDualPlaces[1].x]};
    for (size_t k = 0; k < 2; ++k) {
      const NormPlaces& at = kDualPlaces[k];
      for (Node* n : readers)
        if (is_gradient_of(n, fused, at, g)) norms[k] = n;
      if (norms[k] == nullptr) return;
      inputs.insert(inputs.end(), {fused->inputs[at.scale], fused->out(at.saved_mean),
                                   fused->out(at.saved_mean + 1)});
    }
    const auto [first, second] = summands(kink->inputs[1]);
    inputs.insert(inputs.end(), {first, fused->out(kMask), second});
    const auto now = record(*norms[0], ops::fused_dual_bn_add_activation_grad_op, std::move(inputs),
                            {}, {norms[0]->out(0), norms[1]->out(0)});
    for (size_t k = 0; k < 2; ++k) {
      graph_.replace_uses(norms[k]->out(0), now[k]);
      graph_.replace_uses(norms[k]->out(1), now[2 + 2 * k]);
      graph_.replace_uses(norms[k]->out(2), now[3 + 2 * k]);
    }
  }

  // The input at which a normalisation of x takes x's sums; 0 where it does not take x.
  static size_t place_of_sums(const Node& n, const Value* x) {
    if (n.op == &ops::fused_dual_bn_add_activation_op) {
      for (const NormPlaces& at : kDualPlaces)
        if (n.inputs[at.x] == x) return at.sums;
    } else if (n.op == &ops::batch_norm_train_op || n.op == &ops::fused_batch_norm_act_op ||
               n.op == &ops::fused_bn_add_activation_op ||
               n.op == &ops::fused_batch_norm_act_pool_op) {
      if (n.inputs[kX] == x) return n.op == &ops::fused_bn_add_activation_op ? 6 : 5;
    }
    return 0;
  }

  void with_statistics(Node* conv) {
    Value* x = conv->out();
    if (x->type.layout != Layout::kChannelsLast || !target_.sums_behind(*conv) ||
        (conv->inputs.size() > 2 && conv->inputs[2]) || !readers_.contains(x))
      return;
    Node* norm = nullptr;
    for (Node* n : readers_.at(x))
      if (place_of_sums(*n, x) > 0) norm = norm == nullptr ? n : norm;
    if (norm == nullptr) return;
    const auto now = record(*conv, ops::conv2d_statistics_op, {conv->inputs[0], conv->inputs[1]},
                            conv->attrs, {x});
    const size_t at = place_of_sums(*norm, x);
    norm->inputs.resize(std::max(norm->inputs.size(), at + 1), nullptr);
    norm->inputs[at] = now[1];
    graph_.replace_uses(x, now[0]);
  }

  // A gradient of a layer norm or of gelu is that of a product with a bias in front of it, whose
  // sum over the rows is wanted: `joined` gives it as its last output.
  void with_sum(Node* grad, const Op& joined) {
    const Value* dx = grad->out(0);
    const int rank = dx->type.shape.rank();
    if (!readers_.contains(dx)) return;
    std::vector<Node*> sums;
    for (Node* n : readers_.at(dx))
      if (n->op == &ops::sum_op &&
          n->get<ReduceAttrs>().axis.size() == static_cast<size_t>(rank - 1) &&
          n->out()->type.shape.numel() == dx->type.shape.back())
        sums.push_back(n);
    if (sums.empty()) return;
    const auto now = record(*grad, joined, grad->inputs, grad->attrs, {dx});
    for (Node* n : sums) {
      const BuilderScope scope(graph_);
      const Shape& shape = n->out()->type.shape;
      graph_.replace_uses(n->out(), ops::reshape(now.back(), {shape.begin(), shape.end()}));
    }
    replace(grad, now, grad->outputs.size());
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
                            {nullptr, nullptr, like, nullptr, nullptr, like, like});
    for (const size_t i : {0, 1, 3, 4}) graph_.replace_uses(norm->out(i), now[i]);
    graph_.replace_uses(pool->out(), now[kY]);
    if (norm_back == nullptr) return;
    const auto [first, second] = summands(pool_back->inputs[0]);
    const auto back = record(*norm_back, ops::fused_batch_norm_act_pool_grad_op,
                             {norm->inputs[kX], norm->inputs[kScale], now[kMean], now[kInverse],
                              norm->inputs[kBias], first, now[kKept], now[kKept + 1], second},
                             attrs, {norm_back->out(0)});
    replace(norm_back, back, 3);
  }

  const Target& target_;
  std::unordered_set<const Node*> taken_;
};

}  // namespace

void fuse_norm(Graph& graph, const PassContext& context) {
  if (context.target.fuses_norms()) NormFuser(graph, context.target).run();
}

}  // namespace trireme
