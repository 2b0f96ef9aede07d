// fuse_attention: softmax(q k^T scale + mask) v, as models spell it, becomes flash_attn where the
// target has a kernel for it.
#include <algorithm>
#include <array>
#include <optional>

#include "ops/flash_attn.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/shape.h"
#include "passes/fuse.h"
#include "passes/pass.h"

namespace trireme {
namespace {

using Order = std::array<int64_t, 4>;
constexpr Order kHeadsInside = {0, 2, 1, 3};

// One of three matrices that lie in one value: [B, S, 3, H, D].
struct Part {
  Value* whole = nullptr;
  int64_t index = 0;
};

// A product's operand: dimension i of [B, H, rows, columns] is dimension order[i] of the value.
struct Operand {
  Value* value;
  Order order;
  int64_t size(int i) const {
    return value->type.shape[static_cast<int>(order[static_cast<size_t>(i)])];
  }
};

std::optional<Operand> operand(const Node& product, size_t side) {
  const auto& a = product.get<MatmulAttrs>();
  const std::vector<int64_t>& perm = side == 0 ? a.perm_x : a.perm_y;
  Operand o{product.inputs[side], {0, 1, 2, 3}};
  if (o.value->type.shape.rank() != 4) return std::nullopt;
  std::copy(perm.begin(), perm.end(), o.order.begin());
  if (side == 0 ? a.transpose_x : a.transpose_y) std::swap(o.order[2], o.order[3]);
  return o;
}

bool is_plain_product(const Node* n) {
  return n && n->op == &ops::matmul_op && (n->inputs.size() < 3 || n->inputs[2] == nullptr);
}

// reshape(slice(transpose(whole))) as it comes of one product for queries, keys and values.
Part part_of(const Value* v) {
  const Node* reshape = v->node;
  const Node* slice = reshape->op == &ops::reshape_op ? reshape->inputs[0]->node : nullptr;
  if (slice == nullptr || slice->op != &ops::slice_op) return {};
  const auto& cut = slice->get<SliceAttrs>();
  const Node* transpose = slice->inputs[0]->node;
  if (transpose == nullptr || transpose->op != &ops::transpose_op ||
      transpose->get<PermAttrs>().perm != std::vector<int64_t>{2, 0, 3, 1, 4} ||
      cut.axes != std::vector<int64_t>{0} || cut.ends[0] != cut.starts[0] + 1)
    return {};
  const Shape& s = slice->out()->type.shape;
  const Shape& whole = transpose->inputs[0]->type.shape;
  if (whole[2] != 3 || v->type.shape != Shape{s[1], s[2], s[3], s[4]}) return {};
  return {transpose->inputs[0], cut.starts[0]};
}

class AttentionFuser : Rewriter {
 public:
  AttentionFuser(Graph& graph, const PassContext& context) : Rewriter(graph), context_(context) {}

  void run() {
    for_nodes(ops::softmax_op, [&](Node* n) { fuse(*n); });
    finish();
  }

 private:
  // Of products with a factor; v becomes what it is a multiple of.
  double take_scale(Value*& v) const {
    const Node* n = v->node;
    if (n == nullptr || n->op != &ops::affine_op) return 1;
    const auto& a = n->get<PointwiseAttrs>();
    if (a.beta != 0) return 1;
    v = n->inputs[0];
    return a.alpha;
  }

  // What is added to the products, in four dimensions, if it fits; scores becomes the products.
  std::optional<Value*> take_mask(Value*& scores) const {
    const Node* n = scores->node;
    if (n == nullptr || n->op != &ops::add_op) return nullptr;
    const size_t side = is_scores(n->inputs[0]) ? 0 : 1;
    Value* mask = n->inputs[1 - side];
    const Shape &full = scores->type.shape, &m = mask->type.shape;
    if (!is_scores(n->inputs[side]) || n->inputs[side]->type != scores->type || m.rank() > 4 ||
        mask->type.dtype != scores->type.dtype)
      return std::nullopt;
    for (int d = 1; d <= m.rank(); ++d)
      if (m[m.rank() - d] != 1 && m[m.rank() - d] != full[4 - d]) return std::nullopt;
    scores = n->inputs[side];
    return mask;
  }
  bool is_scores(const Value* v) const {
    if (v->node && v->node->op == &ops::affine_op) v = v->node->inputs[0];
    return v->node && v->node->op == &ops::matmul_op && v->type.shape.rank() == 4;
  }

  // The one reader of the chain from the first product to the last.
  bool only_leads(const Value* from, const Node* to) const {
    while (const Node* n = only_reader(from)) {
      if (n == to) return true;
      from = n->out();
    }
    return false;
  }

  void fuse(const Node& softmax) {
    Node* last = only_reader(softmax.out());
    Value* scores = softmax.inputs[0];
    if (scores->type.shape.rank() != 4 || softmax.get<NormAttrs>().axis != 3 ||
        scores->type.shape.numel() == 0 || !is_plain_product(last))
      return;
    const std::optional<Value*> mask = take_mask(scores);
    if (!mask) return;
    double scale = take_scale(scores);
    if (!is_plain_product(scores->node) || !scores->node->get<MatmulAttrs>().perm_out.empty() ||
        !only_leads(scores, last))
      return;
    auto q = operand(*scores->node, 0), k = operand(*scores->node, 1), v = operand(*last, 1);
    const auto weights = operand(*last, 0);
    if (!q || !k || !v || weights->value != softmax.out() || weights->order != Order{0, 1, 2, 3})
      return;
    std::swap(k->order[2], k->order[3]);  // the product reads its columns
    scale *= take_scale(q->value) * take_scale(k->value);
    replace(*last, {*q, *k, *v}, *mask, scale);
  }

  void replace(Node& last, const std::array<Operand, 3>& qkv, Value* mask, double scale) {
    const Type& type = qkv[0].value->type;
    const DType dtype = type.dtype == DType::kFloat32 ? context_.precision : type.dtype;
    for (const Operand& o : qkv)
      if (o.value->type.dtype != type.dtype || o.size(0) != qkv[0].size(0) ||
          o.size(1) != qkv[0].size(1) || o.size(3) != qkv[0].size(3))
        return;
    const std::vector<int64_t>& stored = last.get<MatmulAttrs>().perm_out;
    const bool turned = stored.empty();
    if (!turned && !std::equal(stored.begin(), stored.end(), kHeadsInside.begin())) return;
    if (!context_.target.fuses_attention(dtype, qkv[0].size(3))) return;
    std::vector<Value*> inputs = whole(qkv);
    if (inputs.empty()) return;
    const BuilderScope scope(graph_);
    set_location(last.where);
    if (mask) {
      std::vector<int64_t> dims(static_cast<size_t>(4 - mask->type.shape.rank()), 1);
      for (const int64_t d : mask->type.shape) dims.push_back(d);
      if (mask->type.shape.rank() < 4) mask = ops::reshape(mask, dims);
    }
    inputs.insert(inputs.end(), {mask, nullptr});
    Value* out =
        add(last, ops::flash_attn_op, std::move(inputs), FlashAttnAttrs{.scale = scale})[0];
    if (turned) out = ops::transpose(out, {0, 2, 1, 3});
    graph_.replace_uses(last.out(), out);
  }

  // What flash_attn reads: [B, S, H, D] each, or all in one; empty where a copy would be needed.
  static std::vector<Value*> whole(const std::array<Operand, 3>& qkv) {
    if (std::ranges::all_of(qkv, [](const Operand& o) { return o.order == kHeadsInside; }))
      return {qkv[0].value, qkv[1].value, qkv[2].value};
    Value* all = nullptr;
    for (size_t i = 0; i < 3; ++i) {
      if (qkv[i].order != Order{0, 1, 2, 3} || qkv[i].value->node == nullptr) return {};
      const Part part = part_of(qkv[i].value);
      if (part.whole == nullptr || part.index != static_cast<int64_t>(i) ||
          (all && part.whole != all))
        return {};
      all = part.whole;
    }
    return {all, nullptr, nullptr};
  }

  const PassContext& context_;
};

}  // namespace

void fuse_attention(Graph& graph, const PassContext& context) {
  AttentionFuser(graph, context).run();
}

}  // namespace trireme
