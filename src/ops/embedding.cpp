// embedding (rows of a table by id) and one_hot.
#include <cstring>

#include "base/parallel.h"
#include "ops/copy_run.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/index.h"
#include "ops/indices.h"

namespace trireme {
namespace {

void infer_embedding(const Infer& i) {
  const Shape& weight = i.shape(0);
  check_index_dtype(i, 1);
  TRI_CHECK(weight.rank() == 2, message(i.op.name, "weight expects [rows, width], got ", weight));
  const int64_t padding = i.attrs<AxisAttrs>().axis;
  TRI_CHECK(
      padding >= -1 && padding < weight[0],
      message(i.op.name, "padding_idx expects a row of ", weight[0], " or -1, got ", padding));
  Shape out = i.shape(1);
  TRI_CHECK(out.rank() < Shape::kMaxRank,
            message(i.op.name, "ids have too many dimensions: ", out));
  out.push_back(weight[1]);
  i.out(i.dtype(0), out);
}

Kernel prepare_embedding(const Prepare& p) {
  const int64_t rows = p.in().shape[0], width = p.in().shape[1], count = p.in(1).shape.numel();
  const int64_t padding = p.attrs<AxisAttrs>().axis;
  const size_t run = static_cast<size_t>(width) * size_of(p.in().dtype);
  const Indices ids(p, 1);
  return {[=, op = p.node.op](const Launch& l) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = ids.get(l, i);
      TRI_CHECK(id >= 0 && id < rows,
                message(op->name, "id ", i, " expects a value in [0, ", rows, "), got ", id));
    }
    parallel_for(count, grain_of(width), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t id = ids.get(l, i);
        char* to = l.output<char>() + static_cast<size_t>(i) * run;
        if (id == padding) {
          std::memset(to, 0, run);
        } else {
          copy_run(to, l.input<char>(0) + static_cast<size_t>(id) * run, run);
        }
      }
    });
  }};
}

void embedding_rule(Grad& g) {
  g.set(0,
        ops::embedding_grad(g.in(1), g.dout(), g.in()->type.shape[0], g.attrs<AxisAttrs>().axis));
}

void infer_one_hot(const Infer& i) {
  const int64_t depth = i.attrs<OneHotAttrs>().depth;
  check_index_dtype(i, 0);
  TRI_CHECK(depth > 0, message(i.op.name, "depth expects a positive number, got ", depth));
  Shape out = i.shape(0);
  TRI_CHECK(out.rank() < Shape::kMaxRank, message(i.op.name, "x has too many dimensions: ", out));
  out.push_back(depth);
  i.out(DType::kFloat32, out);
}

Kernel prepare_one_hot(const Prepare& p) {
  const int64_t count = p.in().shape.numel(), depth = p.attrs<OneHotAttrs>().depth;
  const Indices ids(p, 0);
  return {[=, op = p.node.op](const Launch& l) {
    auto* y = l.output<float>();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = ids.get(l, i);
      TRI_CHECK(id >= 0 && id < depth,
                message(op->name, "id ", i, " expects a value in [0, ", depth, "), got ", id));
      std::memset(y + i * depth, 0, static_cast<size_t>(depth) * sizeof(float));
      y[i * depth + id] = 1;
    }
  }};
}

}  // namespace

namespace ops {

constinit const Op embedding_op{.name = "embedding",
                                .inputs = 2,
                                .attrs = &attr_info<AxisAttrs>,
                                .infer = infer_embedding,
                                .grad = embedding_rule,
                                .cpu = prepare_embedding,
                                .cuda = TRI_CUDA(cuda_embedding),
                                .amp = Amp::kFloatInO1};
constinit const Op one_hot_op{.name = "one_hot",
                              .attrs = &attr_info<OneHotAttrs>,
                              .infer = infer_one_hot,
                              .cpu = prepare_one_hot,
                              .cuda = TRI_CUDA(cuda_one_hot)};

Value* embedding(Value* weight, Value* ids, int64_t padding_idx) {
  return record1(embedding_op, {weight, ids}, AxisAttrs{padding_idx});
}
Value* one_hot(Value* x, int64_t depth) { return record1(one_hot_op, {x}, OneHotAttrs{depth}); }

}  // namespace ops
}  // namespace trireme
