// Recognising what one convolution kernel can do in one go.
#include <algorithm>
#include <limits>
#include <unordered_map>

#include "base/cpu_features.h"
#include "ops/anchor.h"
#include "ops/batch_matmul.h"
#include "ops/conv.h"
#include "ops/flash_attn.h"
#include "ops/fused.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"

namespace trireme {
namespace {

using cpu::Act;
using cpu::Epilogue;

bool is_convolution(const Node& n) {
  return n.op == &ops::conv2d_op || n.op == &ops::conv2d_transpose_op;
}

// A product whose right side is a constant matrix: a 1x1 convolution over rows.
bool is_linear(const Node& n) {
  if (n.op != &ops::matmul_op || n.get<MatmulAttrs>().transpose_x) return false;
  if (!n.get<MatmulAttrs>().perm_x.empty() || !n.get<MatmulAttrs>().perm_out.empty()) return false;
  return n.inputs[1]->type.shape.rank() == 2 && n.inputs[0]->type.shape.rank() >= 2 &&
         constant_of(n.inputs[1]);
}

// A product by one matrix that is computed, or a parameter.
bool is_product(const Node& n) {
  if (n.op != &ops::matmul_op || n.get<MatmulAttrs>().transpose_x) return false;
  if (!n.get<MatmulAttrs>().perm_x.empty() || !n.get<MatmulAttrs>().perm_out.empty()) return false;
  return n.inputs[1]->type.shape.rank() == 2 && n.inputs[0]->type.shape.rank() >= 2 &&
         n.inputs[0]->type.dtype == DType::kFloat32 && !constant_of(n.inputs[1]);
}

bool is_depthwise(const Node& n) {
  if (n.op != &ops::conv2d_op) return false;
  const int64_t channels = n.inputs[0]->type.shape[1];
  return channels > 1 && n.get<Conv2dAttrs>().groups == channels &&
         n.out()->type.shape[1] == channels;
}

bool is_pointwise_conv(const Node& n) {
  if (n.op != &ops::conv2d_op) return false;
  const auto& a = n.get<Conv2dAttrs>();
  const Shape& w = n.inputs[1]->type.shape;
  return w[2] == 1 && w[3] == 1 && a.groups == 1 && a.strides == std::vector<int64_t>{1, 1} &&
         std::all_of(a.paddings.begin(), a.paddings.end(), [](int64_t p) { return p == 0; });
}

bool set_act(const Node& n, Epilogue& e) {
  static const std::unordered_map<const Op*, Act> acts = {
      {&ops::relu_op, Act::kRelu},           {&ops::relu6_op, Act::kClip},
      {&ops::clip_op, Act::kClip},           {&ops::leaky_relu_op, Act::kLeakyRelu},
      {&ops::hardswish_op, Act::kHardSwish}, {&ops::hardsigmoid_op, Act::kHardSigmoid},
      {&ops::sigmoid_op, Act::kSigmoid},     {&ops::swish_op, Act::kSwish},
      {&ops::gelu_op, Act::kGelu},           {&ops::tanh_op, Act::kTanh}};
  const auto it = acts.find(n.op);
  if (it == acts.end()) return false;
  const auto& a = n.get<PointwiseAttrs>();
  if (it->second == Act::kSwish && a.alpha != 1) return false;
  e.act = it->second;
  e.alpha = static_cast<float>(n.op == &ops::relu6_op ? 0 : a.alpha);
  e.beta = static_cast<float>(n.op == &ops::relu6_op ? 6 : a.beta);
  return true;
}

// Takes the nodes after the anchor one by one, in the only order in which the kernel works them
// off.
class EpilogueMatcher {
 public:
  // gradients: gelu's may follow as well.
  EpilogueMatcher(const Value* value, Epilogue& e, const Value** residual, bool gradients = false)
      : value_(value), e_(e), residual_(residual), gradients_(gradients) {}

  bool take(const Node& n) {
    if (!std::count(n.inputs.begin(), n.inputs.end(), value_)) return false;
    if (n.out()->type.dtype != value_->type.dtype || n.out()->type.shape != value_->type.shape)
      return false;
    if (!take_add(n) && !take_unary(n) && !take_gelu_grad(n)) return false;
    value_ = n.out();
    return true;
  }
  const Value* value() const { return value_; }

 private:
  enum Stage { kStart, kActed, kScaled, kDone };

  bool take_add(const Node& n) {
    if (n.op != &ops::add_op || residual_ == nullptr || *residual_ != nullptr) return false;
    if (n.inputs[0] == n.inputs[1]) return false;
    const Value* other = n.inputs[0] == value_ ? n.inputs[1] : n.inputs[0];
    if (!(other->type.shape == value_->type.shape) || other->type.dtype != value_->type.dtype)
      return false;
    *residual_ = other;
    e_.residual = stage_ == kStart ? Epilogue::kBeforeAct : Epilogue::kAfter;
    if (stage_ != kStart) stage_ = kDone;
    return true;
  }

  bool take_gelu_grad(const Node& n) {
    if (!gradients_ || n.op != &ops::gelu_grad_op || stage_ != kStart || *residual_) return false;
    if (n.inputs[0] == value_ || !(n.inputs[0]->type == value_->type)) return false;
    *residual_ = n.inputs[0];
    e_.residual = Epilogue::kGeluGrad;
    stage_ = kDone;
    return true;
  }

  bool take_unary(const Node& n) {
    if (n.op == &ops::affine_op) {
      if (stage_ >= kScaled) return false;
      e_.scale = static_cast<float>(n.get<PointwiseAttrs>().alpha);
      e_.shift = static_cast<float>(n.get<PointwiseAttrs>().beta);
      stage_ = kScaled;
      return true;
    }
    if (stage_ >= kActed || n.inputs.size() != 1 || !set_act(n, e_)) return false;
    stage_ = kActed;
    return true;
  }

  const Value* value_;
  Epilogue& e_;
  const Value** residual_;
  bool gradients_;
  Stage stage_ = kStart;
};

// multiply(x, s) with s one number a channel and picture; returns the two in this order.
bool take_input_scale(const Node& n, const Value* chain, AnchorMatch& m) {
  if (n.op != &ops::multiply_op) return false;
  for (int main = 0; main < 2; ++main) {
    const Value *x = n.inputs[static_cast<size_t>(main)],
                *s = n.inputs[static_cast<size_t>(1 - main)];
    const Shape& full = n.out()->type.shape;
    if (full.rank() != 4 || !(x->type.shape == full) || (chain && x != chain)) continue;
    if (!(s->type.shape == Shape{full[0], full[1], 1, 1}) || s->type.shape == full) continue;
    if (chain == nullptr) m.x = x;
    m.input_scale = s;
    return true;
  }
  return false;
}

}  // namespace

std::optional<AnchorMatch> match_anchor(const std::vector<const Node*>& nodes) {
  AnchorMatch m;
  size_t i = 0;
  const Value* chain = nullptr;
  const auto is_anchor = [](const Node* n) { return is_convolution(*n) || is_linear(*n); };
  const auto anchors = std::count_if(nodes.begin(), nodes.end(), is_anchor);
  if (anchors < 1 || anchors > 2) return std::nullopt;
  if (anchors == 2) {
    if (!is_depthwise(*nodes[0]) || !constant_of(nodes[0]->inputs[1])) return std::nullopt;
    m.depthwise = nodes[i++];
    m.x = m.depthwise->inputs[0];
    EpilogueMatcher epilogue(m.depthwise->out(), m.depthwise_epilogue, nullptr);
    while (i < nodes.size() && nodes[i]->op->fuse == Fuse::kPointwise && epilogue.take(*nodes[i]))
      ++i;
    chain = epilogue.value();
  }
  if (i < nodes.size() && take_input_scale(*nodes[i], chain, m)) chain = nodes[i++]->out();
  if (i >= nodes.size() || !is_anchor(nodes[i])) return std::nullopt;
  m.anchor = nodes[i++];
  if (chain && m.anchor->inputs[0] != chain) return std::nullopt;
  if ((m.depthwise || m.input_scale) &&
      (!is_pointwise_conv(*m.anchor) || !constant_of(m.anchor->inputs[1])))
    return std::nullopt;
  if (!chain) m.x = m.anchor->inputs[0];
  EpilogueMatcher epilogue(m.anchor->out(), m.epilogue, &m.residual);
  while (i < nodes.size() && epilogue.take(*nodes[i])) ++i;
  if (i != nodes.size()) return std::nullopt;
  m.result = epilogue.value();
  return m;
}

std::optional<AnchorMatch> match_product(const std::vector<const Node*>& nodes) {
  if (nodes.empty() || !is_product(*nodes[0])) return std::nullopt;
  AnchorMatch m;
  m.anchor = nodes[0];
  m.x = m.anchor->inputs[0];
  EpilogueMatcher epilogue(m.anchor->out(), m.epilogue, &m.residual, true);
  for (size_t i = 1; i < nodes.size(); ++i)
    if (!epilogue.take(*nodes[i])) return std::nullopt;
  m.result = epilogue.value();
  return m;
}

bool is_own_depthwise(const Node& n) {
  const bool by_weight = n.op == &ops::conv2d_wgrad_op;
  const Shape &x = n.inputs[0]->type.shape,
              &y = by_weight ? n.inputs[1]->type.shape : n.out()->type.shape;
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  return x[1] > 1 && x[1] == y[1] && n.get<Conv2dAttrs>().groups == x[1] &&
         x[0] * x[2] * x[3] <= kMost && y[0] * y[2] * y[3] <= kMost;
}

bool lies_planar(const Value* v) {
  const Type& t = v->type;
  return t.shape.rank() == 4 && t.layout == Layout::kPlain && !layouts_agree(t.shape);
}

cpu::ConvSpec conv_spec(const Node& node) {
  cpu::ConvSpec s;
  const Type &x = node.inputs[0]->type, &y = node.out()->type;
  s.dtype = x.dtype;
  if (node.op == &ops::matmul_op) {
    s.ic = x.shape.back();
    s.oc = y.shape.back();
    s.w = s.ow = s.ic ? x.shape.numel() / s.ic : 0;
    return s;
  }
  const auto& a = node.get<Conv2dAttrs>();
  const Shape& w = node.inputs[1]->type.shape;
  s.n = x.shape[0], s.ic = x.shape[1], s.h = x.shape[2], s.w = x.shape[3];
  s.oc = y.shape[1], s.oh = y.shape[2], s.ow = y.shape[3];
  s.kh = w[2], s.kw = w[3], s.sh = a.strides[0], s.sw = a.strides[1], s.dh = a.dilations[0],
  s.dw = a.dilations[1];
  s.top = a.paddings[0], s.left = a.paddings[2];
  s.groups = a.groups;
  s.transposed = node.op == &ops::conv2d_transpose_op;
  s.x_planar = x.layout == Layout::kPlain && !layouts_agree(x.shape);
  return s;
}

namespace {

class CpuTarget : public Target {
 public:
  bool fuses(const std::vector<const Node*>& nodes) const override {
    if (const auto product = match_product(nodes)) return fuses_product(*product);
    const auto m = match_anchor(nodes);
    if (!m) return false;
    if (lies_planar(m->result)) return false;
    if ((m->depthwise || m->input_scale) && lies_planar(m->x)) return false;
    const DType dtype = m->x->type.dtype;
    if (dtype != DType::kFloat32 && dtype != DType::kBFloat16) return false;
    const cpu::ConvSpec spec = conv_spec(*m->anchor);
    const bool ours = cpu::cpu_supports(dtype);
    if (m->depthwise)
      return ours && constant_of(m->depthwise->inputs[1]) &&
             cpu::Conv::create(conv_spec(*m->depthwise), m->depthwise_epilogue, spec,
                               m->epilogue) != nullptr;
    return !m->input_scale || (ours && cpu::Conv::create(spec, m->epilogue) != nullptr);
  }

  bool products_take_strides() const override { return true; }
  bool fuses_attention(DType dtype, int64_t head_size) const override {
    return cpu_flash_attn_takes(dtype, head_size);
  }

  int overwrites(const Node& n) const override {
    if (n.op != &ops::fused_op) return -1;
    const Graph& body = *n.get<FusedAttrs>().body;
    const std::vector<const Node*> nodes = operators_of(body);
    const auto m = match_anchor(nodes);
    if (!m || m->residual == nullptr || !cpu::Conv::adds_in_place(conv_spec(*m->anchor))) return -1;
    // What is multiplied, too, is one input of the node: it is read again after results went out.
    int64_t reads = 0;
    for (const Node* inner : nodes)
      reads += std::count(inner->inputs.begin(), inner->inputs.end(), m->residual);
    if (reads != 1) return -1;
    const auto at = std::find(body.inputs.begin(), body.inputs.end(), m->residual);
    return static_cast<int>(at - body.inputs.begin());
  }

  // A picture's few planes are read as they lie by the first convolution.
  Layout input_layout(const Node& anchor) const override {
    const Shape& x = anchor.inputs[0]->type.shape;
    if (x.rank() != 4) return Layout::kPlain;
    if (anchor.op == &ops::conv2d_op && x[1] <= 4 && anchor.get<Conv2dAttrs>().groups == 1)
      return Layout::kPlain;
    return Layout::kChannelsLast;
  }
};

}  // namespace

const Target& cpu_target() {
  static const CpuTarget target;
  return target;
}

}  // namespace trireme
