// gather (slices along one dimension) and gather_nd (slices by coordinates).
#include "base/parallel.h"
#include "ops/copy_run.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/index.h"
#include "ops/indices.h"

namespace trireme {
namespace {

void infer_gather(const Infer& i) {
  const Shape &x = i.shape(0), &index = i.shape(1);
  const int64_t axis = i.attrs<AxisAttrs>().axis;
  check_index_dtype(i, 1);
  TRI_CHECK(axis >= 0 && axis < x.rank(),
            message(i.op.name, "axis expects a dimension of ", x, ", got ", axis));
  TRI_CHECK(x.rank() - 1 + index.rank() <= Shape::kMaxRank,
            message(i.op.name, "the result has more than ", Shape::kMaxRank, " dimensions"));
  Shape out;
  for (int d = 0; d < x.rank(); ++d) {
    if (d == axis) {
      for (const int64_t n : index) out.push_back(n);
    } else {
      out.push_back(x[d]);
    }
  }
  i.out(i.dtype(0), out);
}

Kernel prepare_gather(const Prepare& p) {
  const AxisSplit s = split_at(p.in().shape, p.attrs<AxisAttrs>().axis);
  const int64_t count = p.in(1).shape.numel();
  const size_t run = static_cast<size_t>(s.inner) * size_of(p.in().dtype);
  const Indices indices(p, 1);
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  const auto grain = grain_of(static_cast<int64_t>(run / 4));
  const auto run_kernel = [=, op = p.node.op](const Launch& l) {
    auto* at = static_cast<int64_t*>(l.scratch);
    for (int64_t i = 0; i < count; ++i) at[i] = indices.checked(*op, l, i, s.size);
    parallel_for(s.outer * count, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const auto from = static_cast<size_t>(r / count * s.size + at[r % count]);
        copy_run(l.output<char>() + static_cast<size_t>(r) * run, l.input<char>(0) + from * run,
                 run);
      }
    });
  };
  return {run_kernel, static_cast<size_t>(count) * sizeof(int64_t)};
}

void infer_gather_nd(const Infer& i) {
  const Shape &x = i.shape(0), &index = i.shape(1);
  check_index_dtype(i, 1);
  TRI_CHECK(index.rank() >= 1 && index.back() <= x.rank(),
            message(i.op.name, "index expects up to ", x.rank(),
                    " coordinates in its last dimension, got ", index));
  const auto depth = static_cast<int>(index.back());
  TRI_CHECK(index.rank() - 1 + x.rank() - depth <= Shape::kMaxRank,
            message(i.op.name, "the result has more than ", Shape::kMaxRank, " dimensions"));
  Shape out;
  for (int d = 0; d + 1 < index.rank(); ++d) out.push_back(index[d]);
  for (int d = depth; d < x.rank(); ++d) out.push_back(x[d]);
  i.out(i.dtype(0), out);
}

Kernel prepare_gather_nd(const Prepare& p) {
  const Shape& x = p.in().shape;
  const int64_t depth = p.in(1).shape.back();
  int64_t count = 1, inner = 1;
  for (int d = 0; d + 1 < p.in(1).shape.rank(); ++d) count *= p.in(1).shape[d];
  for (int d = static_cast<int>(depth); d < x.rank(); ++d) inner *= x[d];
  const size_t run = static_cast<size_t>(inner) * size_of(p.in().dtype);
  const Indices indices(p, 1);
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  const auto run_kernel = [=, op = p.node.op](const Launch& l) {
    auto* at = static_cast<int64_t*>(l.scratch);
    for (int64_t i = 0; i < count; ++i) {
      at[i] = 0;
      for (int64_t d = 0; d < depth; ++d) {
        const int64_t size = x[static_cast<int>(d)];
        at[i] = at[i] * size + indices.checked(*op, l, i * depth + d, size);
      }
    }
    parallel_for(count, grain_of(inner), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r)
        copy_run(l.output<char>() + static_cast<size_t>(r) * run,
                 l.input<char>(0) + static_cast<size_t>(at[r]) * run, run);
    });
  };
  return {run_kernel, static_cast<size_t>(count) * sizeof(int64_t)};
}

std::vector<int64_t> dims_of(const Value* v) {
  return {v->type.shape.begin(), v->type.shape.end()};
}

void gather_rule(Grad& g) {
  const auto axis = g.attrs<AxisAttrs>().axis;
  const int64_t count = g.in(1)->type.shape.numel();
  std::vector<int64_t> dims = dims_of(g.in());
  Value* zeros = ops::full(dims, 0, g.dout()->type.dtype);
  dims[static_cast<size_t>(axis)] = count;
  g.set(0,
        ops::index_add(zeros, ops::reshape(g.in(1), {count}), ops::reshape(g.dout(), dims), axis));
}

void gather_nd_rule(Grad& g) {
  Value* zeros = ops::full(dims_of(g.in()), 0, g.dout()->type.dtype);
  g.set(0, ops::scatter_nd_add(zeros, g.in(1), g.dout()));
}

}  // namespace

namespace ops {

constinit const Op gather_op{.name = "gather",
                             .inputs = 2,
                             .attrs = &attr_info<AxisAttrs>,
                             .infer = infer_gather,
                             .grad = gather_rule,
                             .cpu = prepare_gather,
                             .cuda = TRI_CUDA(cuda_gather)};
constinit const Op gather_nd_op{.name = "gather_nd",
                                .inputs = 2,
                                .infer = infer_gather_nd,
                                .grad = gather_nd_rule,
                                .cpu = prepare_gather_nd,
                                .cuda = TRI_CUDA(cuda_gather_nd)};

Value* gather(Value* x, Value* index, int64_t axis) {
  return record1(gather_op, {x, index},
                 AxisAttrs{normal_axis("gather", axis, x->type.shape.rank())});
}
Value* gather_nd(Value* x, Value* index) { return record1(gather_nd_op, {x, index}); }

}  // namespace ops
}  // namespace trireme
