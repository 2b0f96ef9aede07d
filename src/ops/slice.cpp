// slice (with strides), split and flip: boxes of elements taken out of a larger one.
#include <limits>
#include <utility>

#include "ops/elements.h"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

int64_t slice_size(int64_t start, int64_t end, int64_t stride) {
  if (stride > 0) return end > start ? (end - start - 1) / stride + 1 : 0;
  return start > end ? (start - end - 1) / -stride + 1 : 0;
}

void infer_slice(const Infer& i) {
  const Shape& x = i.shape(0);
  const auto& a = i.attrs<SliceAttrs>();
  const size_t n = a.axes.size();
  TRI_CHECK(a.starts.size() == n && a.ends.size() == n && a.strides.size() == n,
            message(i.op.name, "starts, ends and strides expect ", n, " values, one an axis, got ",
                    a.starts.size(), ", ", a.ends.size(), ", ", a.strides.size()));
  Shape out = x;
  unsigned seen = 0;
  for (size_t k = 0; k < n; ++k) {
    TRI_CHECK(a.axes[k] >= 0 && a.axes[k] < x.rank() && !(seen >> a.axes[k] & 1u),
              message(i.op.name, "axes expects different dimensions of ", x, ", got ", a.axes[k]));
    seen |= 1u << a.axes[k];
    const auto axis = static_cast<int>(a.axes[k]);
    const int64_t size = x[axis], start = a.starts[k], end = a.ends[k], stride = a.strides[k];
    TRI_CHECK(stride != 0 && stride != std::numeric_limits<int64_t>::min(),
              message(i.op.name, "strides expects values other than 0, got ", stride, " for axis ",
                      axis));
    out[axis] = start >= 0 && start <= size && end >= -1 && end <= size
                    ? slice_size(start, end, stride)
                    : -1;
    TRI_CHECK(
        out[axis] >= 0 && (out[axis] == 0 || start < size),
        message(i.op.name, "axis ", axis, " of ", x, " does not hold [", start, ", ", end, ")"));
  }
  i.out(i.dtype(0), out);
}

// A box of `p`'s input: per logical dimension where it starts and how it steps.
Kernel box_kernel(const Prepare& p, const std::vector<int64_t>& starts,
                  const std::vector<int64_t>& steps) {
  // A result whose layouts agree may be labelled row-major: its order is the input's all the same.
  const Shape from = physical_shape(p.in()),
              to = physical_shape({p.in().dtype, p.out().shape, p.in().layout});
  std::vector<int64_t> src = dense_strides({from.begin(), from.end()});
  const std::vector<int64_t> dims(to.begin(), to.end());
  int64_t offset = 0;
  for (int d = 0; d < from.rank(); ++d) {
    const auto at = static_cast<size_t>(physical_axis(p.in(), d)), logical = static_cast<size_t>(d);
    offset += src[at] * starts[logical];
    src[at] *= steps[logical];
  }
  return copy_boxes(p, {{dims, src, dense_strides(dims), offset}}, size_of(p.in().dtype));
}

Kernel prepare_slice(const Prepare& p) {
  const auto& a = p.attrs<SliceAttrs>();
  const auto rank = static_cast<size_t>(p.in().shape.rank());
  std::vector<int64_t> starts(rank, 0), steps(rank, 1);
  for (size_t k = 0; k < a.axes.size(); ++k) {
    starts[static_cast<size_t>(a.axes[k])] = a.starts[k];
    steps[static_cast<size_t>(a.axes[k])] = a.strides[k];
  }
  return box_kernel(p, starts, steps);
}

void infer_flip(const Infer& i) {
  for (const int64_t a : i.attrs<ShapeAttrs>().shape)
    TRI_CHECK(a >= 0 && a < i.shape(0).rank(),
              message(i.op.name, "axis expects a dimension of ", i.shape(0), ", got ", a));
  i.out(i.dtype(0), i.shape(0));
}

Kernel prepare_flip(const Prepare& p) {
  const Shape& x = p.in().shape;
  const auto rank = static_cast<size_t>(x.rank());
  std::vector<int64_t> starts(rank, 0), steps(rank, 1);
  for (const int64_t a : p.attrs<ShapeAttrs>().shape) {
    starts[static_cast<size_t>(a)] = x[static_cast<int>(a)] - 1;
    steps[static_cast<size_t>(a)] = -1;
  }
  return box_kernel(p, starts, steps);
}

// The elements of dout along one axis spread `stride` apart, first at `start`, in `size` places.
Value* spread(Value* dout, int axis, int64_t size, int64_t start, int64_t stride) {
  const int64_t n = dout->type.shape[axis];
  if (stride < 0) {
    dout = ops::flip(dout, {axis});
    start += (n - 1) * stride;
    stride = -stride;
  }
  int64_t places = n;
  if (stride > 1 && n > 1) {
    const AxisSplit s = split_at(dout->type.shape, axis);
    std::vector<int64_t> dims(dout->type.shape.begin(), dout->type.shape.end());
    dout = ops::pad(ops::reshape(dout, {s.outer, n, 1, s.inner}), {0, 0, 0, 0, 0, stride - 1, 0, 0},
                    "constant", 0);
    places = dims[static_cast<size_t>(axis)] = n * stride;
    dout = ops::reshape(dout, dims);
  }
  std::vector<int64_t> paddings(2 * static_cast<size_t>(dout->type.shape.rank()), 0);
  paddings[2 * static_cast<size_t>(axis)] = start;
  paddings[2 * static_cast<size_t>(axis) + 1] = size - start - places;
  return ops::pad(dout, paddings, "constant", 0);
}

void slice_rule(Grad& g) {
  const Shape& x = g.in()->type.shape;
  const auto& a = g.attrs<SliceAttrs>();
  Value* dx = g.dout();
  if (dx->type.shape.numel() == 0) return;
  std::vector<int64_t> paddings(2 * static_cast<size_t>(x.rank()), 0);
  bool plain = true;
  for (size_t k = 0; k < a.axes.size(); ++k) {
    const auto axis = static_cast<int>(a.axes[k]);
    if (a.strides[k] != 1) {
      dx = spread(dx, axis, x[axis], a.starts[k], a.strides[k]);
      continue;
    }
    const size_t at = 2 * static_cast<size_t>(axis);
    paddings[at] = a.starts[k];
    paddings[at + 1] = x[axis] - a.starts[k] - dx->type.shape[axis];
    plain = plain && paddings[at] == 0 && paddings[at + 1] == 0;
  }
  g.set(0, plain ? dx : ops::pad(dx, paddings, "constant", 0));
}

void flip_rule(Grad& g) { g.set(0, ops::flip(g.dout(), g.attrs<ShapeAttrs>().shape)); }

// Paddle's bounds are NumPy's: negative ones count from the end, then both are clamped to the
// dimension.
void clamp_bounds(int64_t size, int64_t stride, int64_t& start, int64_t& end) {
  if (start < 0) start = std::max(start, -size - 1) + size;
  if (end < 0) end = std::max(end, -size - 1) + size;
  if (stride > 0) {
    start = std::clamp<int64_t>(start, 0, size);
    end = std::clamp<int64_t>(end, 0, size);
  } else {
    start = std::clamp<int64_t>(start, 0, std::max<int64_t>(size - 1, 0));
    end = std::clamp<int64_t>(end, -1, size);
  }
  if (size == 0) end = start = 0;
}

}  // namespace

namespace ops {

constinit const Op slice_op{.name = "slice",
                            .attrs = &attr_info<SliceAttrs>,
                            .infer = infer_slice,
                            .grad = slice_rule,
                            .cpu = prepare_slice,
                            .cuda = TRI_CUDA(prepare_slice),
                            .layouts = Layouts::kFollow};
constinit const Op flip_op{.name = "flip",
                           .attrs = &attr_info<ShapeAttrs>,
                           .infer = infer_flip,
                           .grad = flip_rule,
                           .cpu = prepare_flip,
                           .cuda = TRI_CUDA(prepare_flip),
                           .layouts = Layouts::kFollow};

Value* slice(Value* x, std::vector<int64_t> axes, std::vector<int64_t> starts,
             std::vector<int64_t> ends, std::vector<int64_t> strides) {
  const Shape& from = x->type.shape;
  if (strides.empty()) strides.assign(axes.size(), 1);
  TRI_CHECK(
      starts.size() == axes.size() && ends.size() == axes.size() && strides.size() == axes.size(),
      message("slice", "starts, ends and strides expect ", axes.size(),
              " values, one an axis, got ", starts.size(), ", ", ends.size(), ", ",
              strides.size()));
  for (size_t k = 0; k < axes.size(); ++k) {
    axes[k] = normal_axis("slice", axes[k], from.rank());
    clamp_bounds(from[static_cast<int>(axes[k])], strides[k], starts[k], ends[k]);
  }
  return record1(
      slice_op, {x},
      SliceAttrs{std::move(axes), std::move(starts), std::move(ends), std::move(strides)});
}

std::vector<Value*> split(Value* x, const std::vector<int64_t>& sections, int64_t axis) {
  const Shape& from = x->type.shape;
  axis = normal_axis("split", axis, from.rank());
  const int64_t size = from[static_cast<int>(axis)];
  std::vector<int64_t> sizes = sections;
  int64_t sum = 0;
  auto unknown = sizes.end();
  for (auto it = sizes.begin(); it != sizes.end(); ++it) {
    if (*it == -1 && unknown == sizes.end()) {
      unknown = it;
      continue;
    }
    TRI_CHECK(*it >= 0 && *it <= size,
              message("split", "sections expects sizes up to ", size, ", got ", *it));
    sum += *it;
  }
  if (unknown != sizes.end()) *unknown = size - sum, sum = size;
  TRI_CHECK(sum == size && (unknown == sizes.end() || *unknown >= 0),
            message("split", "sections expects sizes that add up to ", size, " of axis ", axis,
                    ", got ", sum));
  std::vector<Value*> parts;
  int64_t at = 0;
  for (const int64_t n : sizes) {
    parts.push_back(record1(slice_op, {x}, SliceAttrs{{axis}, {at}, {at + n}, {1}}));
    at += n;
  }
  return parts;
}

Value* flip(Value* x, std::vector<int64_t> axes) {
  for (int64_t& a : axes) a = normal_axis("flip", a, x->type.shape.rank());
  return record1(flip_op, {x}, ShapeAttrs{std::move(axes)});
}

}  // namespace ops
}  // namespace trireme
