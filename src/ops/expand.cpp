// expand (broadcast to a shape) and tile (repeat along dimensions).
#include <utility>

#include "ops/elements.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

void infer_expand(const Infer& i) {
  const Shape& x = i.shape(0);
  const auto& to = i.attrs<ShapeAttrs>().shape;
  TRI_CHECK(to.size() <= Shape::kMaxRank && std::cmp_greater_equal(to.size(), x.rank()),
            message(i.op.name, "shape expects ", x.rank(), " to ", Shape::kMaxRank,
                    " dimensions, got ", to.size()));
  const Shape out{std::span(to)};
  for (int d = 0; d < out.rank(); ++d) {
    const int from = d - (out.rank() - x.rank());
    TRI_CHECK(out[d] >= 0 && (from < 0 || x[from] == 1 || x[from] == out[d]),
              message(i.op.name, "x of shape ", x, " cannot be expanded to ", out));
  }
  i.out(i.dtype(0), out);
}

Kernel prepare_expand(const Prepare& p) {
  const Shape &x = p.in().shape, &out = p.out().shape;
  const std::vector<int64_t> dims(out.begin(), out.end());
  const std::vector<int64_t> dense = dense_strides({x.begin(), x.end()});
  std::vector<int64_t> src(dims.size(), 0);
  for (int d = 0; d < x.rank(); ++d)
    if (x[d] != 1)
      src[static_cast<size_t>(out.rank() - x.rank() + d)] = dense[static_cast<size_t>(d)];
  return copy_boxes(p, {{dims, src, dense_strides(dims)}}, size_of(p.in().dtype));
}

void infer_tile(const Infer& i) {
  const auto& times = i.attrs<ShapeAttrs>().shape;
  Shape out = i.shape(0);
  TRI_CHECK(std::cmp_equal(times.size(), out.rank()),
            message(i.op.name, "repeat_times expects ", out.rank(), " values for x of shape ", out,
                    ", got ", times.size()));
  for (int d = 0; d < out.rank(); ++d) {
    const int64_t n = times[static_cast<size_t>(d)];
    TRI_CHECK(n >= 0 && !__builtin_mul_overflow(out[d], n, &out[d]),
              message(i.op.name, "repeat_times expects a count for axis ", d, ", got ", n));
  }
  i.out(i.dtype(0), out);
}

Kernel prepare_tile(const Prepare& p) {
  const auto& times = p.attrs<ShapeAttrs>().shape;
  const std::vector<int64_t> from(p.in().shape.begin(), p.in().shape.end()),
      dense = dense_strides(from);
  std::vector<int64_t> dims, src;
  for (size_t d = 0; d < from.size(); ++d) {  // each dimension becomes (repetition, element)
    dims.insert(dims.end(), {times[d], from[d]});
    src.insert(src.end(), {0, dense[d]});
  }
  return copy_boxes(p, {{dims, src, dense_strides(dims)}}, size_of(p.in().dtype));
}

// The caller sums over what was broadcast.
void expand_rule(Grad& g) { g.set(0, g.dout()); }

void tile_rule(Grad& g) {
  const Shape& x = g.in()->type.shape;
  const auto& times = g.attrs<ShapeAttrs>().shape;
  Value* v = g.dout();
  for (int d = 0; d < x.rank(); ++d) {
    const int64_t n = times[static_cast<size_t>(d)];
    if (n == 1) continue;
    std::vector<int64_t> after(v->type.shape.begin(), v->type.shape.end());
    after[static_cast<size_t>(d)] = x[d];
    const AxisSplit s = split_at(v->type.shape, d);
    v = ops::reduce(ops::sum_op, ops::reshape(v, {s.outer, n, x[d] * s.inner}), {1}, false);
    v = ops::reshape(v, after);
  }
  g.set(0, v);
}

}  // namespace

namespace ops {

constinit const Op expand_op{.name = "expand",
                             .attrs = &attr_info<ShapeAttrs>,
                             .infer = infer_expand,
                             .grad = expand_rule,
                             .cpu = prepare_expand,
                             .cuda = TRI_CUDA(prepare_expand)};
constinit const Op tile_op{.name = "tile",
                           .attrs = &attr_info<ShapeAttrs>,
                           .infer = infer_tile,
                           .grad = tile_rule,
                           .cpu = prepare_tile,
                           .cuda = TRI_CUDA(prepare_tile)};

Value* expand(Value* x, std::vector<int64_t> shape) {
  const Shape& from = x->type.shape;
  const auto lead = static_cast<int64_t>(shape.size()) - from.rank();
  for (size_t d = 0; d < shape.size(); ++d) {  // -1: as it is
    const int64_t at = static_cast<int64_t>(d) - lead;
    if (shape[d] == -1 && at >= 0 && at < from.rank()) shape[d] = from[static_cast<int>(at)];
  }
  return record1(expand_op, {x}, ShapeAttrs{std::move(shape)});
}

Value* tile(Value* x, std::vector<int64_t> repeat_times) {
  std::vector<int64_t> dims(x->type.shape.begin(), x->type.shape.end());
  if (repeat_times.size() > dims.size()) {
    dims.insert(dims.begin(), repeat_times.size() - dims.size(), 1);
    x = reshape(x, dims);
  }
  repeat_times.insert(repeat_times.begin(), dims.size() - repeat_times.size(), 1);
  return record1(tile_op, {x}, ShapeAttrs{std::move(repeat_times)});
}

}  // namespace ops
}  // namespace trireme
