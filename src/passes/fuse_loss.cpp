// fuse_loss: cross entropy of half logits takes in the casts around it, and its gradient, where the
// target has kernels for that; a large vocabulary is padded to what tensor cores like.
#include <algorithm>

#include "ops/cross_entropy.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "passes/fuse.h"
#include "passes/pass.h"

namespace trireme {
namespace {

class LossFuser : Rewriter {
 public:
  using Rewriter::Rewriter;

  void run() {
    for_nodes(ops::cross_entropy_with_softmax_op, [&](Node* n) { half(n); });
    graph_.drop_unused();  // the replaced ones no longer read
    for_nodes(ops::cross_entropy_half_op, [&](Node* n) { pad(n); });
    graph_.drop_unused();
    for_nodes(ops::cross_entropy_half_op, [&](Node* n) { with_gradient(n); });
    finish();
  }

 private:
  // The value of half precision that was widened to v; else null.
  static Value* widened(const Value* v) {
    if (v->node->op != &ops::cast_op || v->type.dtype != DType::kFloat32) return nullptr;
    Value* from = v->node->inputs[0];
    const bool half = from->type.dtype == DType::kFloat16 || from->type.dtype == DType::kBFloat16;
    return half ? from : nullptr;
  }

  // The softmax may be wanted by gradients alone that are rounded to half again.
  void half(Node* loss) {
    Value *logits = widened(loss->inputs[0]), *label = loss->inputs[1];
    const auto attrs = loss->get<CrossEntropyAttrs>();
    const Value* softmax = loss->out(0);
    if (logits == nullptr || attrs.soft_label) return;
    std::vector<std::pair<Node*, Node*>> backs;  // a gradient and the cast behind it
    if (readers_.contains(softmax)) {
      if (!only_read(softmax)) return;
      for (Node* n : readers_.at(softmax)) {
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
    const auto now = add(*loss, ops::cross_entropy_half_op, {logits, label}, attrs);
    graph_.replace_uses(loss->out(1), now[0]);
    for (const auto& [back, cast] : backs) {
      const auto d = add(*back, ops::cross_entropy_half_grad_op,
                         {logits, label, now[1], back->inputs[2]}, attrs);
      graph_.replace_uses(cast->out(), d[0]);
    }
  }

  // Logits are read once where the loss's gradient is known before the loss, as that of a mean is.
  void with_gradient(Node* loss) {
    Value* log_sum = loss->out(1);
    Node* back = only_reader(log_sum);
    if (back == nullptr || back->op != &ops::cross_entropy_half_grad_op ||
        back->inputs[0] != loss->inputs[0] || back->inputs[1] != loss->inputs[1])
      return;
    Value* dloss = back->inputs[3];
    std::unordered_set<const Node*> seen;
    if (depends(dloss, loss, seen)) return;
    const auto now = add(*back, ops::cross_entropy_half_both_op,
                         {loss->inputs[0], loss->inputs[1], dloss}, loss->attrs);
    graph_.replace_uses(back->out(), now[0]);
    graph_.replace_uses(loss->out(0), now[1]);
  }
  static bool depends(const Value* v, const Node* on, std::unordered_set<const Node*>& seen) {
    if (v == nullptr || v->node == on) return v != nullptr;
    if (v->node == nullptr || !seen.insert(v->node).second) return false;
    return std::ranges::any_of(v->node->inputs,
                               [&](const Value* in) { return depends(in, on, seen); });
  }

  // ---- padding: logits = x w [+ bias] of so many classes that their rows are not aligned.
  // Products run at a third of their speed then (measured on an H200: 30,522 classes 5.9 ms,
  // 30,528 2.0 ms).

  static constexpr int64_t kMultiple = 64, kFewest = 1024;

  static bool plain_product(const Node* n) {
    if (n->op != &ops::matmul_op || (n->inputs.size() > 2 && n->inputs[2])) return false;
    const auto& a = n->get<MatmulAttrs>();
    return a.perm_x.empty() && a.perm_y.empty() && a.perm_out.empty();
  }
  static int last(const Value* v) { return v->type.shape.rank() - 1; }
  // v with zeros behind the classes, which are its dimension `axis`.
  Value* widen(Value* v, int axis) const {
    std::vector<int64_t> pads(2 * static_cast<size_t>(v->type.shape.rank()), 0);
    pads[2 * static_cast<size_t>(axis) + 1] = padded_ - classes_;
    return ops::pad(v, std::move(pads), "constant", 0);
  }
  Value* narrow(Value* v, int axis) const { return ops::slice(v, {axis}, {0}, {classes_}); }

  void pad(Node* loss) {
    Value* logits = loss->inputs[0];
    classes_ = logits->type.shape.back();
    padded_ = (classes_ + kMultiple - 1) / kMultiple * kMultiple;
    auto attrs = loss->get<CrossEntropyAttrs>();
    if (padded_ == classes_ || classes_ < kFewest || attrs.axis != last(logits) ||
        attrs.classes != 0 || !only_read(logits))
      return;
    for (const Node* n : readers_.at(logits))
      if (n->op != &ops::cross_entropy_half_op && n->op != &ops::cross_entropy_half_grad_op) return;
    Node* product = logits->node;
    Value* bias = nullptr;
    if (product->op == &ops::add_op) {
      const size_t k = product->inputs[0]->node && plain_product(product->inputs[0]->node) ? 1 : 0;
      bias = product->inputs[k];
      product = product->inputs[1 - k]->node;
      if (bias->type.shape != Shape{classes_} || product == nullptr ||
          only_reader(product->out()) == nullptr)
        return;
    }
    if (!plain_product(product) || product->inputs[1]->type.shape.rank() != 2) return;
    const auto& how = product->get<MatmulAttrs>();
    const BuilderScope scope(graph_);
    set_location(loss->where);
    weight_ = product->inputs[1];
    wide_weight_ = widen(weight_, how.transpose_y ? 0 : 1);
    Value* wide =
        ops::matmul(product->inputs[0], wide_weight_, nullptr, how.transpose_x, how.transpose_y);
    if (bias) wide = ops::add(wide, widen(bias, 0));
    attrs.classes = classes_;
    const std::vector<Node*> readers = readers_.at(logits);
    for (Node* n : readers) {
      std::vector<Value*> inputs = n->inputs;
      inputs[0] = wide;
      const auto now = add(*n, *n->op, std::move(inputs), attrs);
      if (n->op == &ops::cross_entropy_half_grad_op) {
        replace(n->out(), now[0]);
        continue;
      }
      graph_.replace_uses(n->out(0), now[0]);
      graph_.replace_uses(n->out(1), now[1]);
    }
  }

  // Readers of v, whose last dimension is the classes, read `wide` instead, which has the padding.
  void replace(Value* v, Value* wide) {
    if (readers_.contains(v)) {
      const std::vector<Node*> readers = readers_.at(v);
      for (Node* n : readers) replace_in(n, v, wide);
    }
    if (graph_.count_uses().contains(v)) graph_.replace_uses(v, narrow(wide, last(v)));
  }
  void replace_in(Node* n, const Value* v, Value* wide) {
    Value* out = n->out();
    if (plain_product(n)) {
      const auto& a = n->get<MatmulAttrs>();
      Value *x = n->inputs[0], *y = n->inputs[1];
      if (x == v && y == weight_ && !a.transpose_x) {
        Value* now = ops::matmul(wide, wide_weight_, nullptr, false, a.transpose_y);
        graph_.replace_uses(out, now);
      } else if (x == v && y != v && a.transpose_x) {
        graph_.replace_uses(
            out, narrow(ops::matmul(wide, y, nullptr, true, a.transpose_y), last(out) - 1));
      } else if (y == v && x != v && !a.transpose_y) {
        graph_.replace_uses(out,
                            narrow(ops::matmul(x, wide, nullptr, a.transpose_x, false), last(out)));
      }
    } else if (n->op == &ops::sum_op) {
      const auto& a = n->get<ReduceAttrs>();
      if (std::find(a.axis.begin(), a.axis.end(), last(v)) != a.axis.end()) return;
      Value* now = ops::reduce(ops::sum_op, wide, a.axis, a.keepdim);
      graph_.replace_uses(out, narrow(now, last(out)));
    } else if (n->op == &ops::reshape_op && out->type.shape.back() == classes_) {
      std::vector<int64_t> dims(out->type.shape.begin(), out->type.shape.end());
      dims.back() = padded_;
      replace(out, ops::reshape(wide, dims));
    }
  }

  int64_t classes_ = 0, padded_ = 0;
  Value *weight_ = nullptr, *wide_weight_ = nullptr;
};

}  // namespace

void fuse_loss(Graph& graph, const PassContext& context) {
  if (context.target.fuses_norms()) LossFuser(graph).run();
}

}  // namespace trireme
