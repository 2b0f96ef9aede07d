// concat along any dimension, and stack.
#include "base/parallel.h"
#include "ops/copy_run.h"
#include "ops/elements.h"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const auto axis = static_cast<int>(i.attrs<AxisAttrs>().axis);
  TRI_CHECK(!i.inputs.empty(), message(i.op.name, "expects at least one input, got none"));
  Shape out = i.shape(0);
  TRI_CHECK(axis >= 0 && axis < out.rank(),
            message(i.op.name, "axis expects a dimension of ", out, ", got ", axis));
  for (size_t k = 1; k < i.inputs.size(); ++k) {
    const Shape& x = i.shape(k);
    TRI_CHECK(i.dtype(k) == i.dtype(0),
              message(i.op.name, "input ", k, " is ", i.dtype(k), ", expected ", i.dtype(0)));
    TRI_CHECK(x.rank() == out.rank(),
              message(i.op.name, "input ", k, " has shape ", x, ", expected rank ", out.rank()));
    for (int d = 0; d < x.rank(); ++d) {
      TRI_CHECK(d == axis || x[d] == out[d],
                message(i.op.name, "input ", k, " has ", x[d], " elements along axis ", d,
                        ", expected ", out[d]));
    }
    TRI_CHECK(!__builtin_add_overflow(out[axis], x[axis], &out[axis]),
              message(i.op.name, "the result is too large"));
  }
  i.out(i.dtype(0), out);
}

Kernel prepare(const Prepare& p) {
  const int axis = physical_axis(p.out(), static_cast<int>(p.attrs<AxisAttrs>().axis));
  const size_t element = size_of(p.out().dtype);
  struct Run {
    size_t offset, bytes;  // within a row of the result
  };
  std::vector<Run> runs;
  size_t row = 0;
  int64_t outer = 1;
  for (size_t k = 0; k < p.node.inputs.size(); ++k) {
    const AxisSplit s =
        split_at(physical_shape({p.in(k).dtype, p.in(k).shape, p.out().layout}), axis);
    const size_t bytes = static_cast<size_t>(s.size * s.inner) * element;
    runs.push_back({row, bytes});
    row += bytes;
    outer = s.outer;
  }
  if (row == 0) return {[](const Launch&) {}};
  if (outer == 1) {
    return {[runs](const Launch& l) {
      for (size_t k = 0; k < runs.size(); ++k) {
        parallel_for(static_cast<int64_t>(runs[k].bytes), 4 * kTaskElements,
                     [&](int64_t begin, int64_t end, int) {
                       std::memcpy(l.output<char>() + runs[k].offset + begin,
                                   l.input<char>(k) + begin, static_cast<size_t>(end - begin));
                     });
      }
    }};
  }
  return {[runs, row, outer, grain = grain_of(static_cast<int64_t>(row / 4))](const Launch& l) {
    parallel_for(outer, grain, [&](int64_t begin, int64_t end, int) {
      for (auto o = static_cast<size_t>(begin); o < static_cast<size_t>(end); ++o)
        for (size_t k = 0; k < runs.size(); ++k)
          copy_run(l.output<char>() + o * row + runs[k].offset,
                   l.input<char>(k) + o * runs[k].bytes, runs[k].bytes);
    });
  }};
}

#ifdef TRIREME_CUDA
Kernel prepare_cuda(const Prepare& p) {
  const int axis = physical_axis(p.out(), static_cast<int>(p.attrs<AxisAttrs>().axis));
  const AxisSplit whole = split_at(physical_shape(p.out()), axis);
  const int64_t row = whole.size * whole.inner;
  std::vector<CopyBox> boxes;
  int64_t at = 0;
  for (size_t k = 0; k < p.node.inputs.size(); ++k) {
    const Shape x = physical_shape({p.in(k).dtype, p.in(k).shape, p.out().layout});
    const int64_t run = x[axis] * whole.inner;
    boxes.push_back({{whole.outer, run}, {run, 1}, {row, 1}, 0, at, k});
    at += run;
  }
  return copy_boxes(p, boxes, size_of(p.out().dtype));
}
#endif

void rule(Grad& g) {
  const int64_t axis = g.attrs<AxisAttrs>().axis;
  int64_t at = 0;
  for (size_t k = 0; k < g.inputs.size(); ++k) {
    const int64_t n = g.in(k)->type.shape[static_cast<int>(axis)];
    if (g.wants(k)) g.set(k, ops::slice(g.dout(), {axis}, {at}, {at + n}));
    at += n;
  }
}

}  // namespace

namespace ops {

constinit const Op concat_op{.name = "concat",
                             .inputs = -1,
                             .attrs = &attr_info<AxisAttrs>,
                             .infer = infer,
                             .grad = rule,
                             .cpu = prepare,
                             .cuda = TRI_CUDA(prepare_cuda),
                             .layouts = Layouts::kFollow};

Value* concat(const std::vector<Value*>& xs, int64_t axis) {
  TRI_CHECK(!xs.empty(), message("concat", "expects at least one input, got none"));
  return record1(concat_op, xs, AxisAttrs{normal_axis("concat", axis, xs[0]->type.shape.rank())});
}

Value* stack(const std::vector<Value*>& xs, int64_t axis) {
  TRI_CHECK(!xs.empty(), message("stack", "expects at least one input, got none"));
  const Shape& first = xs[0]->type.shape;
  axis = normal_axis("stack", axis, first.rank() + 1);
  std::vector<Value*> parts;
  for (size_t k = 0; k < xs.size(); ++k) {
    TRI_CHECK(xs[k]->type.shape == first, message("stack", "input ", k, " has shape ",
                                                  xs[k]->type.shape, ", expected ", first));
    parts.push_back(unsqueeze(xs[k], {axis}));
  }
  return concat(parts, axis);
}

}  // namespace ops
}  // namespace trireme
