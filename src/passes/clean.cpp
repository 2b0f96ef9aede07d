// clean: constant folding, common subexpressions, algebra that leaves less to compute, dead code.
//
// The graph is rebuilt node by node; each node is simplified while it is emitted, against the
// producers already in the new graph. Constants stand on either side of an operator.
#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "ops/assign.h"
#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/optimizer_places.h"
#include "ops/pointwise.h"
#include "ops/shape.h"
#include "passes/pass.h"

namespace trireme {
namespace {

constexpr int64_t kLargestFill = 4096;              // elements
constexpr int64_t kLargestFold = int64_t{1} << 28;  // elements; broadcasts beyond stay computed

class Cleaner {
 public:
  Cleaner(const Graph& old, const PassContext& context)
      : old_(old), context_(context), uses_of_old_(old.count_uses()) {
    for (const auto& n : old.nodes)
      for (const Value* v : n->inputs)
        if (v) readers_of_old_[v].push_back(n.get());
    graph_.fold_below =
        0;  // folding goes through the model's cache here, so that it happens once per model
  }

  std::unique_ptr<Graph> run();

 private:
  using Values = std::vector<Value*>;

  void visit(const Node& node);
  Values emit(const Op& op, Values inputs, Attrs attrs);
  Value* emit1(const Op& op, Values inputs, Attrs attrs = {}) {
    return emit(op, std::move(inputs), std::move(attrs))[0];
  }
  Values fold(const Node& node);
  static void read_narrow(const Op& op, Values& in, const Attrs& attrs);
  Value* find_same(const Op& op, const Values& inputs, const Attrs& attrs);

  Value* simplify(const Op& op, const Values& in, const Attrs& attrs);
  Value* drop_expands(const Op& op, const Values& in, const Attrs& attrs);
  Value* join_pads(Value* x, Value* y);
  Value* simplify_affine(Value* x, double factor, double added);
  Value* scale_product(Value* x, double factor, double added);
  Value* absorb_transposes(const Values& in, const Attrs& attrs);
  Value* absorb_result_transpose(Value* x, const Attrs& attrs);
  Value* simplify_arithmetic(const Op& op, Value* x, Value* y);
  Value* simplify_shape(const Op& op, const Values& in, const Attrs& attrs);
  Value* fold_batch_norm(const Values& in, double epsilon);
  Value* scale_channels(Value* x, Value* factor, Value* added);
  Value* squeeze_excite_sum(Value* x, Value* y);
  bool only_products_read(const Value* old) const;
  bool single_use(const Value* v) const {
    const auto it = uses_.find(v);
    return it == uses_.end() || it->second <= 1;
  }

  const Graph& old_;
  const PassContext& context_;
  std::unordered_map<const Value*, int> uses_of_old_;
  std::unordered_map<const Value*, Value*> map_;  // old value -> new
  std::unordered_map<const Value*, int> uses_;    // of new values, as far as old ones became them
  std::unordered_map<const Value*, std::vector<const Node*>> readers_of_old_;
  std::unordered_set<const Value*> for_products_;  // new transposes that products alone read
  std::unordered_map<const Op*, std::vector<Node*>> seen_;  // for common subexpressions
  Graph graph_;
  std::unique_ptr<Graph> owned_;
};

// ---- constants

bool scalar_value(const Value* v, double& value) {
  const Array* t = constant_of(v);
  if (t == nullptr || t->numel() != 1 || !is_floating(t->dtype())) return false;
  value = *t->to(DType::kFloat64).as<double>();
  return true;
}

// A constant that holds one number a channel of x (dimension 1), whatever ones stand around it.
bool per_channel(const Value* v, const Shape& x) {
  if (constant_of(v) == nullptr || x.rank() < 2) return false;
  const Shape& s = v->type.shape;
  const int place = s.rank() - x.rank() + 1;
  return place >= 0 && s.rank() <= x.rank() && s[place] == x[1] && s.numel() == x[1] && x[1] > 1;
}

std::string key_of(const Node& n) {
  std::string key = "fold " + std::string(n.op->name) + n.attrs.str();
  for (const Value* v : n.inputs) {
    if (v == nullptr) {
      key += " -";
      continue;
    }
    const Array& t = *constant_of(v);
    key += ' ' + v->type.str() + ' ';
    constexpr size_t kSmall =
        256;  // small ones are told by content: they may be made anew at each recording
    if (t.bytes() <= kSmall) key.append(static_cast<const char*>(t.data()), t.bytes());
    else key += std::to_string(reinterpret_cast<uintptr_t>(t.data()));
  }
  return key;
}

Cleaner::Values Cleaner::fold(const Node& n) {
  Values results;
  const bool cached = context_.cache && n.outputs.size() == 1 && !n.op->view;
  if (!cached) {
    for (const Array& t : evaluate(n)) results.push_back(graph_.add_constant(t, {}));
    return results;
  }
  std::vector<Array> sources;
  for (const Value* v : n.inputs)
    if (v) sources.push_back(*constant_of(v));
  const Array t =
      context_.cache->get(key_of(n), std::move(sources), [&] { return evaluate(n)[0]; });
  return {graph_.add_constant(t, {})};
}

Value* Cleaner::find_same(const Op& op, const Values& inputs, const Attrs& attrs) {
  for (Node* n : seen_[&op])
    if (n->inputs == inputs && n->attrs == attrs) return n->out();
  return nullptr;
}

// The updates read gradients of any floating dtype: what was only widened for them stays as it is.
void Cleaner::read_narrow(const Op& op, Values& in, const Attrs& attrs) {
  size_t begin = 0, end = in.size() - 1;  // of clip_factors: all but the scale
  if (&op != &ops::clip_factors_op) {
    const UpdatePlaces places(op, attrs.get<UpdateAttrs>());
    begin = places.grads, end = places.lr;
  }
  for (size_t i = begin; i < end; ++i) {
    const Node& cast = *in[i]->node;
    if (cast.op != &ops::cast_op || !is_floating(cast.inputs[0]->type.dtype)) continue;
    if (size_of(cast.inputs[0]->type.dtype) < size_of(in[i]->type.dtype)) in[i] = cast.inputs[0];
  }
}

Cleaner::Values Cleaner::emit(const Op& op, Values inputs, Attrs attrs) {
  if (&op == &ops::clip_factors_op || op.attrs == &attr_info<UpdateAttrs>)
    read_narrow(op, inputs, attrs);
  if (Value* v = simplify(op, inputs, attrs)) return {v};
  if (op.pure && op.outputs == 1)
    if (Value* v = find_same(op, inputs, attrs)) return {v};
  Values results = graph_.add(op, std::move(inputs), std::move(attrs));
  Node* node = results[0]->node;
  int64_t elements = 0;
  bool constant = op.pure && !node->inputs.empty();
  for (const Value* v : node->inputs) constant = constant && (v == nullptr || constant_of(v));
  for (const Value* v : results) elements += v->type.shape.numel();
  // A number repeated is cheaper to make than to keep, and may be overwritten in place.
  const bool filled = &op == &ops::expand_op && node->inputs[0]->type.shape.numel() == 1;
  if (constant && elements <= (filled ? kLargestFill : kLargestFold)) {
    std::unique_ptr<Node> taken = std::move(graph_.nodes.back());
    graph_.nodes.pop_back();
    return fold(*taken);
  }
  seen_[&op].push_back(node);
  return results;
}

// ---- algebra

Value* Cleaner::simplify(const Op& op, const Values& in, const Attrs& attrs) {
  if (op.fuse == Fuse::kPointwise && in.size() > 1)
    if (Value* v = drop_expands(op, in, attrs)) return v;
  if (&op == &ops::add_op)
    if (Value* v = join_pads(in[0], in[1])) return v;
  const bool halves = &op == &ops::add_op || &op == &ops::multiply_op || &op == &ops::subtract_op ||
                      &op == &ops::divide_op;
  if (&op == &ops::affine_op && is_floating(in[0]->type.dtype))
    return simplify_affine(in[0], attrs.get<PointwiseAttrs>().alpha,
                           attrs.get<PointwiseAttrs>().beta);
  if (halves && is_floating(in[0]->type.dtype) && in[0]->type.dtype == in[1]->type.dtype)
    return simplify_arithmetic(op, in[0], in[1]);
  if (&op == &ops::assign_op) return in[0];
  if (&op == &ops::matmul_op) return absorb_transposes(in, attrs);
  if (&op == &ops::batch_norm_op) return fold_batch_norm(in, attrs.get<NormAttrs>().epsilon);
  if (&op == &ops::cast_op && in[0]->type.dtype == attrs.get<CastAttrs>().dtype) return in[0];
  if (&op == &ops::cast_op &&
      in[0]->node->op == &ops::cast_op) {  // widened and rounded back to what it was
    Value* source = in[0]->node->inputs[0];
    const DType dtype = attrs.get<CastAttrs>().dtype;
    if (source->type.dtype == dtype && is_floating(dtype) &&
        size_of(dtype) <= size_of(in[0]->type.dtype))
      return source;
  }
  return simplify_shape(op, in, attrs);
}

// A pointwise operator broadcasts by itself, as long as another input has the result's shape.
Value* Cleaner::drop_expands(const Op& op, const Values& in, const Attrs& attrs) {
  Values inputs = in;
  bool changed = false;
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i]->node->op != &ops::expand_op) continue;
    bool other = false;
    for (size_t j = 0; j < in.size(); ++j)
      other = other || (j != i && inputs[j]->type.shape == in[i]->type.shape);
    if (!other) continue;
    inputs[i] = in[i]->node->inputs[0];
    changed = true;
  }
  return changed ? emit1(op, inputs, attrs) : nullptr;
}

// Zeros around a value along one dimension: how many before it.
bool padded_along(const Value* v, int& axis, int64_t& before) {
  const Node& n = *v->node;
  if (n.op != &ops::pad_op) return false;
  const auto& a = n.get<PadAttrs>();
  axis = -1;
  for (size_t k = 0; k < a.paddings.size(); ++k) {
    if (a.paddings[k] == 0) continue;
    const int d = static_cast<int>(k / 2);
    if (a.paddings[k] < 0 || (axis >= 0 && axis != d)) return false;
    axis = d;
  }
  before = axis < 0 ? 0 : a.paddings[2 * static_cast<size_t>(axis)];
  return axis >= 0 && a.mode == "constant" && a.value == 0;
}

// Neighbours among zeros, as the gradients of a split are: side by side instead of added.
Value* Cleaner::join_pads(Value* x, Value* y) {
  int axis = 0, other = 0;
  int64_t before = 0, before_y = 0;
  if (x == y || !padded_along(x, axis, before) || !padded_along(y, other, before_y)) return nullptr;
  if (axis != other || !single_use(x) || !single_use(y) || x->type != y->type) return nullptr;
  if (before_y < before) std::swap(x, y), std::swap(before, before_y);
  Value *first = x->node->inputs[0], *second = y->node->inputs[0];
  if (before + first->type.shape[axis] != before_y) return nullptr;
  Values parts;
  for (Value* v : {first, second}) {
    const Node& n = *v->node;
    const bool open = n.op == &ops::concat_op && n.get<AxisAttrs>().axis == axis && single_use(v);
    if (open) parts.insert(parts.end(), n.inputs.begin(), n.inputs.end());
    else parts.push_back(v);
  }
  Value* joined = emit1(ops::concat_op, parts, AxisAttrs{axis});
  PadAttrs a = x->node->get<PadAttrs>();
  a.paddings[2 * static_cast<size_t>(axis) + 1] =
      x->type.shape[axis] - before - joined->type.shape[axis];
  if (joined->type.shape == x->type.shape) return joined;
  return emit1(ops::pad_op, {joined}, a);
}

Value* Cleaner::simplify_shape(const Op& op, const Values& in, const Attrs& attrs) {
  if (&op == &ops::reshape_op) {
    const Shape to(attrs.get<ShapeAttrs>().shape);
    if (in[0]->type.shape == to) return in[0];
    if (in[0]->node->op == &ops::reshape_op) return emit1(op, {in[0]->node->inputs[0]}, attrs);
  }
  if (&op == &ops::transpose_op) {
    if (Value* product = absorb_result_transpose(in[0], attrs)) return product;
    const Node& n = *in[0]->node;
    if (n.op == &ops::affine_op && single_use(in[0]) && single_use(n.inputs[0]))
      if (Value* product = absorb_result_transpose(n.inputs[0], attrs))
        return emit1(ops::affine_op, {product}, n.attrs);
    std::vector<int64_t> perm = attrs.get<PermAttrs>().perm;
    bool identity = true;
    for (size_t i = 0; i < perm.size(); ++i)
      identity = identity && perm[i] == static_cast<int64_t>(i);
    if (identity) return in[0];
    if (in[0]->node->op == &ops::transpose_op) {
      const auto& first = in[0]->node->get<PermAttrs>().perm;
      for (int64_t& p : perm) p = first[static_cast<size_t>(p)];
      return emit1(op, {in[0]->node->inputs[0]}, PermAttrs{perm});
    }
  }
  if (&op == &ops::expand_op && in[0]->type.shape == Shape(attrs.get<ShapeAttrs>().shape))
    return in[0];
  if (&op == &ops::concat_op && in.size() == 1) return in[0];
  return nullptr;
}

// affine(affine(x)) is one; behind a convolution or product that nobody else reads it goes into the
// weights.
Value* Cleaner::simplify_affine(Value* x, double factor, double added) {
  if (factor == 1 && added == 0) return x;
  const Node& n = *x->node;
  if (n.op == &ops::affine_op) {
    const auto& first = n.get<PointwiseAttrs>();
    return emit1(ops::affine_op, {n.inputs[0]},
                 PointwiseAttrs{first.alpha * factor, first.beta * factor + added});
  }
  // Moving elements about does not mind their scale: push it towards a product whose weights can
  // take it.
  if (Value* product = scale_product(x, factor, added)) return product;
  if (n.op == &ops::transpose_op && single_use(x) && x->type.shape.rank() == 4 &&
      context_.target.products_take_strides()) {  // scaled first, it may go into products
    Value* scaled = emit1(ops::affine_op, {n.inputs[0]}, PointwiseAttrs{factor, added});
    return emit1(ops::transpose_op, {scaled}, n.attrs);
  }
  const bool anchor = n.op == &ops::conv2d_op || n.op == &ops::conv2d_transpose_op;
  if (anchor && single_use(x) && constant_of(n.inputs[1])) {
    // One element each: small constants are told by content, so the folded weights are found again
    // by the next plan.
    Values constants;
    for (double v : {factor, added}) {
      Array t(DType::kFloat32, Shape{1});
      *t.as<float>() = static_cast<float>(v);
      constants.push_back(graph_.add_constant(t, {}));
    }
    return scale_channels(x, constants[0], added == 0 ? nullptr : constants[1]);
  }
  return nullptr;
}

// factor * (x W + b) + added, in the weights; through reshapes and transposes that nobody else
// reads. Null: not so.
Value* Cleaner::scale_product(Value* x, double factor, double added) {
  const Node& n = *x->node;
  if (!single_use(x)) return nullptr;
  if (n.op == &ops::transpose_op || n.op == &ops::reshape_op) {
    Value* inner = scale_product(n.inputs[0], factor, added);
    return inner ? emit1(*n.op, {inner}, n.attrs) : nullptr;
  }
  const bool has_bias = n.inputs.size() > 2 && n.inputs[2];
  if (n.op != &ops::matmul_op || !constant_of(n.inputs[1]) || (added != 0 && !has_bias))
    return nullptr;
  Value* weight = emit1(ops::affine_op, {n.inputs[1]}, PointwiseAttrs{factor, 0});
  Value* bias =
      has_bias ? emit1(ops::affine_op, {n.inputs[2]}, PointwiseAttrs{factor, added}) : nullptr;
  return emit1(ops::matmul_op, {n.inputs[0], weight, bias}, n.attrs);
}

// x op constant -> affine, or into the convolution before it; matmul + constant row -> its bias.
Value* Cleaner::simplify_arithmetic(const Op& op, Value* x, Value* y) {
  const bool commutes = &op == &ops::add_op || &op == &ops::multiply_op;
  if (commutes && constant_of(x) && !constant_of(y)) std::swap(x, y);
  if (constant_of(x)) return nullptr;
  const Shape& shape = x->type.shape;
  double v = 0;
  if (y->type.shape.rank() <= shape.rank() && scalar_value(y, v)) {
    if (&op == &ops::add_op) return emit1(ops::affine_op, {x}, PointwiseAttrs{1, v});
    if (&op == &ops::subtract_op) return emit1(ops::affine_op, {x}, PointwiseAttrs{1, -v});
    if (&op == &ops::multiply_op) return emit1(ops::affine_op, {x}, PointwiseAttrs{v, 0});
    if (v != 0) return emit1(ops::affine_op, {x}, PointwiseAttrs{1 / v, 0});
  }
  const Node& n = *x->node;
  const bool conv =
      (n.op == &ops::conv2d_op || n.op == &ops::conv2d_transpose_op) && constant_of(n.inputs[1]);
  if (commutes && conv && single_use(x) && per_channel(y, shape)) {
    Value* row = emit1(ops::reshape_op, {y}, ShapeAttrs{{shape[1]}});
    return &op == &ops::add_op ? scale_channels(x, nullptr, row) : scale_channels(x, row, nullptr);
  }
  if (&op == &ops::add_op && n.op == &ops::matmul_op && single_use(x) && constant_of(y) &&
      y->type.shape.numel() == shape.back() && y->type.shape.rank() >= 1 &&
      y->type.shape.back() == shape.back() && n.inputs[0]->type.shape.rank() >= 2 &&
      n.inputs[1]->type.shape.rank() >= 2) {
    Value* row = emit1(ops::reshape_op, {y}, ShapeAttrs{{shape.back()}});
    Value* bias = n.inputs.size() > 2 && n.inputs[2] ? emit1(ops::add_op, {n.inputs[2], row}) : row;
    return emit1(
        ops::matmul_op,
        {n.inputs[0], n.inputs[1], emit1(ops::cast_op, {bias}, CastAttrs{DType::kFloat32})},
        n.attrs);
  }
  return &op == &ops::add_op ? squeeze_excite_sum(x, y) : nullptr;
}

// x + x * s -> x * (s + 1) when s is one number a channel: the sum then costs nothing of its own.
Value* Cleaner::squeeze_excite_sum(Value* x, Value* y) {
  for (int turn = 0; turn < 2; ++turn, std::swap(x, y)) {
    const Node& n = *y->node;
    if (n.op != &ops::multiply_op || !single_use(y)) continue;
    for (size_t i = 0; i < 2; ++i) {
      Value* s = n.inputs[1 - i];
      if (n.inputs[i] != x || s->type.shape.numel() * 4 > x->type.shape.numel()) continue;
      Value* gain = emit1(ops::affine_op, {s}, PointwiseAttrs{1, 1});
      return emit1(ops::multiply_op, {x, gain});
    }
  }
  return nullptr;
}

// The convolution that gives x, with its output channels multiplied and shifted (constants [C] or
// [1], either may be null).
Value* Cleaner::scale_channels(Value* x, Value* factor, Value* added) {
  const Node& n = *x->node;
  Values in = n.inputs;
  in.resize(3);
  const int64_t channels = x->type.shape[1];
  if (factor) {
    const int64_t count = factor->type.shape.numel();
    const int64_t groups = n.get<Conv2dAttrs>().groups;
    if (n.op == &ops::conv2d_transpose_op && groups > 1 && count > 1) {
      const Shape& w =
          in[1]->type.shape;  // [ic, oc / groups, kh, kw]: each group has its own factors
      Value* grouped =
          emit1(ops::reshape_op, {in[1]}, ShapeAttrs{{groups, w[0] / groups, w[1], w[2], w[3]}});
      Value* f = emit1(ops::reshape_op, {factor}, ShapeAttrs{{groups, 1, w[1], 1, 1}});
      in[1] = emit1(ops::reshape_op, {emit1(ops::multiply_op, {grouped, f})},
                    ShapeAttrs{{w[0], w[1], w[2], w[3]}});
    } else {
      const std::vector<int64_t> shape = n.op == &ops::conv2d_op
                                             ? std::vector<int64_t>{count, 1, 1, 1}
                                             : std::vector<int64_t>{1, count, 1, 1};
      in[1] = emit1(ops::multiply_op, {in[1], emit1(ops::reshape_op, {factor}, ShapeAttrs{shape})});
    }
    if (in[2]) in[2] = emit1(ops::multiply_op, {in[2], factor});
  }
  if (added)
    in[2] = in[2] ? emit1(ops::add_op, {in[2], added})
                  : emit1(ops::expand_op, {added}, ShapeAttrs{{channels}});
  if (in[2])
    in[2] =
        emit1(ops::cast_op, {in[2]}, CastAttrs{DType::kFloat32});  // kernels add it to accumulators
  return emit1(*n.op, in, n.attrs);
}

// A product of two computed matrices reads and writes through strides, so transposes around it cost
// nothing.
Value* Cleaner::absorb_transposes(const Values& in, const Attrs& attrs) {
  if (constant_of(in[0]) || constant_of(in[1])) return nullptr;
  MatmulAttrs a = attrs.get<MatmulAttrs>();
  Values inputs = in;
  bool changed = false;
  for (size_t i = 0; i < 2; ++i) {
    std::vector<int64_t>& perm = i == 0 ? a.perm_x : a.perm_y;
    const Node& n = *in[i]->node;
    if (n.op != &ops::transpose_op || in[i]->type.shape.rank() != 4 || !perm.empty()) continue;
    if (!single_use(in[i]) && !for_products_.contains(in[i])) continue;
    if (in[1 - i]->type.shape.rank() != 4 || constant_of(n.inputs[0])) continue;
    perm = n.get<PermAttrs>().perm;
    inputs[i] = n.inputs[0];
    changed = true;
  }
  return changed ? emit1(ops::matmul_op, inputs, a) : nullptr;
}

bool Cleaner::only_products_read(const Value* old) const {
  const auto it = readers_of_old_.find(old);
  if (it == readers_of_old_.end() || old->type.shape.rank() != 4) return false;
  return uses_of_old_.at(old) == static_cast<int>(it->second.size()) &&
         std::all_of(it->second.begin(), it->second.end(), [](const Node* n) {
           return n->op == &ops::matmul_op && n->inputs[0]->type.shape.rank() == 4 &&
                  n->inputs[1]->type.shape.rank() == 4 && !constant_of(n->inputs[0]) &&
                  !constant_of(n->inputs[1]);
         });
}

Value* Cleaner::absorb_result_transpose(Value* x, const Attrs& attrs) {
  const Node& n = *x->node;
  if (n.op != &ops::matmul_op || !single_use(x) || x->type.shape.rank() != 4) return nullptr;
  MatmulAttrs a = n.get<MatmulAttrs>();
  if (!a.perm_out.empty() || constant_of(n.inputs[1])) return nullptr;
  a.perm_out = attrs.get<PermAttrs>().perm;
  if (a.perm_out.back() != 3) return nullptr;  // rows stay contiguous
  return emit1(ops::matmul_op, n.inputs, a);
}

// With constant statistics a batch norm is a factor and a shift a channel.
Value* Cleaner::fold_batch_norm(const Values& in, double epsilon) {
  for (size_t i = 1; i < 5; ++i)
    if (constant_of(in[i]) == nullptr) return nullptr;
  Value* deviation =
      emit1(ops::rsqrt_op, {emit1(ops::affine_op, {in[4]}, PointwiseAttrs{1, epsilon})},
            PointwiseAttrs{});
  Value* factor = emit1(ops::multiply_op, {in[1], deviation});
  Value* shift = emit1(ops::subtract_op, {in[2], emit1(ops::multiply_op, {in[3], factor})});
  const Node& n = *in[0]->node;
  const bool conv =
      (n.op == &ops::conv2d_op || n.op == &ops::conv2d_transpose_op) && constant_of(n.inputs[1]);
  if (conv && single_use(in[0])) return scale_channels(in[0], factor, shift);
  std::vector<int64_t> shape(static_cast<size_t>(in[0]->type.shape.rank()), 1);
  shape[1] = in[0]->type.shape[1];
  Value* product =
      emit1(ops::multiply_op, {in[0], emit1(ops::reshape_op, {factor}, ShapeAttrs{shape})});
  return emit1(ops::add_op, {product, emit1(ops::reshape_op, {shift}, ShapeAttrs{shape})});
}

// ---- the walk

void Cleaner::visit(const Node& n) {
  if (n.op == &kData) return;
  if (n.op == &kConstant) {
    map_[n.out()] = graph_.add_constant(*constant_of(n.out()), n.out()->name);
    return;
  }
  Values in;
  for (const Value* v : n.inputs) in.push_back(v ? map_.at(v) : nullptr);
  set_location(n.where);
  const Values results = emit(*n.op, std::move(in), n.attrs);
  for (size_t i = 0; i < n.outputs.size(); ++i) {
    map_[n.out(i)] = results[i];
    uses_[results[i]] += uses_of_old_[n.out(i)];
    if (results[i]->name.empty()) results[i]->name = n.out(i)->name;
    const Node& made = *results[i]->node;
    if (made.op == &ops::transpose_op && made.get<PermAttrs>().perm.back() == 3 &&
        context_.target.products_take_strides() && only_products_read(n.out(i)))
      for_products_.insert(results[i]);
  }
}

std::unique_ptr<Graph> Cleaner::run() {
  owned_ = std::make_unique<Graph>();
  for (const Value* v : old_.inputs) map_[v] = graph_.add_input(v->type, v->name);
  for (const auto& n : old_.nodes) visit(*n);
  set_location({});
  for (const Value* v : old_.outputs) graph_.outputs.push_back(map_.at(v));
  graph_.drop_unused();
  owned_->nodes = std::move(graph_.nodes);
  owned_->inputs = std::move(graph_.inputs);
  owned_->outputs = std::move(graph_.outputs);
  owned_->fold_below = old_.fold_below;
  return std::move(owned_);
}

}  // namespace

void clean(Graph& graph, const PassContext& context) {
  const std::unique_ptr<Graph> cleaned = Cleaner(graph, context).run();
  graph.nodes = std::move(cleaned->nodes);
  graph.inputs = std::move(cleaned->inputs);
  graph.outputs = std::move(cleaned->outputs);
}

}  // namespace trireme
