// reshape and the functions that come down to it: squeeze, unsqueeze, flatten.
#include <utility>

#include "ops/elements.h"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

Shape to_shape(std::string_view op, const std::vector<int64_t>& dims) {
  TRI_CHECK(dims.size() <= Shape::kMaxRank, message(op, "shape expects at most ", Shape::kMaxRank,
                                                    " dimensions, got ", dims.size()));
  for (const int64_t d : dims)
    TRI_CHECK(d >= 0, message(op, "shape expects dimensions of 0 or more, got ", d));
  return Shape(std::span(dims));
}

void infer(const Infer& i) {
  const Shape to = to_shape(i.op.name, i.attrs<ShapeAttrs>().shape);
  TRI_CHECK(to.numel() == i.shape(0).numel(),
            message(i.op.name, "x of shape ", i.shape(0), " cannot be reshaped to ", to));
  i.out(i.dtype(0), to);
}

// Where a plan does not use the view.
Kernel prepare(const Prepare& p) {
  return copy_boxes(p, {{{p.in().shape.numel()}, {1}, {1}}}, size_of(p.in().dtype));
}

void rule(Grad& g) {
  const Shape& x = g.in()->type.shape;
  g.set(0, ops::reshape(g.dout(), {x.begin(), x.end()}));
}

// The sorted set of axes of a result of `rank` dimensions.
std::vector<int64_t> sorted_axes(std::string_view op, std::vector<int64_t> axes, int64_t rank) {
  for (int64_t& a : axes) a = normal_axis(op, a, rank);
  std::sort(axes.begin(), axes.end());
  axes.erase(std::unique(axes.begin(), axes.end()), axes.end());
  return axes;
}

Value* reshape_to(Value* x, const std::vector<int64_t>& dims) {
  return record1(ops::reshape_op, {x}, ShapeAttrs{dims});
}

}  // namespace

namespace ops {

constinit const Op reshape_op{.name = "reshape",
                              .attrs = &attr_info<ShapeAttrs>,
                              .infer = infer,
                              .grad = rule,
                              .cpu = prepare,
                              .cuda = TRI_CUDA(prepare),
                              .view = true};

Value* reshape(Value* x, std::vector<int64_t> shape) {
  const Shape& from = x->type.shape;
  int64_t known = 1;
  size_t unknown = shape.size();
  for (size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 0 && std::cmp_less(d, from.rank())) shape[d] = from[static_cast<int>(d)];
    if (shape[d] == -1) {
      TRI_CHECK(unknown == shape.size(),
                message("reshape", "shape expects at most one -1, got a second one at ", d));
      unknown = d;
    } else {
      TRI_CHECK(!__builtin_mul_overflow(known, shape[d], &known),
                message("reshape", "shape has too many elements for x of shape ", from));
    }
  }
  if (unknown < shape.size()) {
    TRI_CHECK(known > 0 && from.numel() % known == 0,
              message("reshape", "x of shape ", from, " does not divide into rows of ", known,
                      " elements"));
    shape[unknown] = from.numel() / known;
  }
  return reshape_to(x, shape);
}

Value* squeeze(Value* x, std::vector<int64_t> axes) {
  const Shape& from = x->type.shape;
  const bool all = axes.empty();
  axes = sorted_axes("squeeze", std::move(axes), from.rank());
  std::vector<int64_t> dims;
  for (int d = 0; d < from.rank(); ++d) {  // an axis that is not 1 stays, as in Paddle
    const bool named = all || std::binary_search(axes.begin(), axes.end(), d);
    if (!named || from[d] != 1) dims.push_back(from[d]);
  }
  return reshape_to(x, dims);
}

Value* unsqueeze(Value* x, std::vector<int64_t> axes) {
  std::vector<int64_t> dims(x->type.shape.begin(), x->type.shape.end());
  for (const int64_t a : axes) {  // one after the other, as in Paddle
    const auto rank = static_cast<int64_t>(dims.size()) + 1;
    dims.insert(dims.begin() + normal_axis("unsqueeze", a, rank), 1);
  }
  return reshape_to(x, dims);
}

Value* flatten(Value* x, int64_t start_axis, int64_t stop_axis) {
  const Shape& from = x->type.shape;
  if (from.rank() == 0) return reshape_to(x, {1});
  const int64_t start = normal_axis("flatten", start_axis, from.rank());
  const int64_t stop = normal_axis("flatten", stop_axis, from.rank());
  TRI_CHECK(start <= stop, message("flatten", "stop_axis expects ", start, " or more, got ", stop));
  std::vector<int64_t> dims;
  for (int d = 0; d < from.rank(); ++d) {
    if (d > start && d <= stop) {
      dims.back() *= from[d];
    } else {
      dims.push_back(from[d]);
    }
  }
  return reshape_to(x, dims);
}

}  // namespace ops
}  // namespace trireme
