// transpose (the logical dimensions) and reorder (the same value in another physical layout).
#include <utility>

#include "ops/elements.h"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

void infer_transpose(const Infer& i) {
  const Shape& x = i.shape(0);
  const auto& perm = i.attrs<PermAttrs>().perm;
  TRI_CHECK(std::cmp_equal(perm.size(), x.rank()),
            message(i.op.name, "perm expects ", x.rank(), " axes for x of shape ", x, ", got ",
                    perm.size()));
  Shape out = x;
  unsigned seen = 0;
  for (int d = 0; d < x.rank(); ++d) {
    const int64_t from = perm[static_cast<size_t>(d)];
    TRI_CHECK(from >= 0 && from < x.rank() && !(seen >> from & 1u),
              message(i.op.name, "perm expects every axis of ", x, " once, got ", from, " at ", d));
    seen |= 1u << from;
    out[d] = x[static_cast<int>(from)];
  }
  i.out(i.dtype(0), out);
}

// Writes a dense result whose dimension d is dimension perm[d] of the dense `from`.
Kernel permute(const Prepare& p, const Shape& from, const std::vector<int64_t>& perm) {
  const std::vector<int64_t> dims(from.begin(), from.end()), strides = dense_strides(dims);
  std::vector<int64_t> to, src;
  for (const int64_t d : perm) {
    to.push_back(dims[static_cast<size_t>(d)]);
    src.push_back(strides[static_cast<size_t>(d)]);
  }
  return copy_boxes(p, {{to, src, dense_strides(to)}}, size_of(p.in().dtype));
}

Kernel prepare_transpose(const Prepare& p) {
  return permute(p, p.in().shape, p.attrs<PermAttrs>().perm);
}

void transpose_rule(Grad& g) {
  const auto& perm = g.attrs<PermAttrs>().perm;
  std::vector<int64_t> back(perm.size());
  for (size_t d = 0; d < perm.size(); ++d)
    back[static_cast<size_t>(perm[d])] = static_cast<int64_t>(d);
  g.set(0, ops::transpose(g.dout(), back));
}

// Layouts come to a graph behind its gradients: the logical value passes as it is.
void reorder_rule(Grad& g) { g.set(0, g.dout()); }

void infer_reorder(const Infer& i) {
  const int64_t to = i.attrs<AxisAttrs>().axis;
  TRI_CHECK(to == 0 || to == 1, message(i.op.name, "axis expects layout 0 or 1, got ", to));
  TRI_CHECK(to == 0 || i.shape(0).rank() >= 3,
            message(i.op.name, "x expects rank 3 or more, got ", i.shape(0)));
  i.outputs.push_back({i.dtype(0), i.shape(0), to == 1 ? Layout::kChannelsLast : Layout::kPlain});
}

Kernel prepare_reorder(const Prepare& p) {
  const Shape& x = p.in().shape;
  const AxisSplit s = x.rank() >= 3 ? split_at(x, 1) : AxisSplit{1, 1, x.numel()};
  if (channels_last(p.in()) == channels_last(p.out())) return permute(p, {x.numel()}, {0});
  if (channels_last(p.in())) return permute(p, {s.outer, s.inner, s.size}, {0, 2, 1});
  return permute(p, {s.outer, s.size, s.inner}, {0, 2, 1});
}

}  // namespace

namespace ops {

constinit const Op transpose_op{.name = "transpose",
                                .attrs = &attr_info<PermAttrs>,
                                .infer = infer_transpose,
                                .grad = transpose_rule,
                                .cpu = prepare_transpose,
                                .cuda = TRI_CUDA(prepare_transpose)};
constinit const Op reorder_op{.name = "reorder",
                              .attrs = &attr_info<AxisAttrs>,
                              .infer = infer_reorder,
                              .grad = reorder_rule,
                              .cpu = prepare_reorder,
                              .cuda = TRI_CUDA(prepare_reorder)};

Value* transpose(Value* x, std::vector<int64_t> perm) {
  for (int64_t& p : perm) p = normal_axis("transpose", p, x->type.shape.rank());
  return record1(transpose_op, {x}, PermAttrs{std::move(perm)});
}

Value* reorder(Value* x, Layout layout) {
  return record1(reorder_op, {x}, AxisAttrs{layout == Layout::kChannelsLast ? 1 : 0});
}

}  // namespace ops
}  // namespace trireme
