// Operators that place rows by index: index_add, scatter_nd_add, scatter and embedding's gradient.
// What falls on one place is added in the order of the indices, whatever the number of threads.
#include <cstring>

#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/index.h"
#include "ops/indices.h"

namespace trireme {
namespace {

// dst[o, at[i], :] op= src[o, i, :] for outer slabs of `places` and `count` rows of `inner`.
struct Placing {
  int64_t outer, places, count, inner;
  bool add;
};

template <class T> void place_row(const Placing& s, const T* __restrict from, T* __restrict to) {
  if (!s.add) {
    std::memcpy(to, from, static_cast<size_t>(s.inner) * sizeof(T));
    return;
  }
  const int64_t n = s.inner;
#pragma omp simd
  for (int64_t k = 0; k < n; ++k) to[k] = T(Compute<T>(to[k]) + Compute<T>(from[k]));
}

// Every task owns a range of places and walks over all indices; at < 0 is left out.
template <class T> void place_rows(const Placing& s, const int64_t* at, const T* src, T* dst) {
  constexpr int64_t kPieces = 16;
  const int64_t bands = std::clamp<int64_t>(
      std::min(s.count * s.inner / kTaskElements, kPieces / std::max<int64_t>(1, s.outer)), 1,
      kPieces);
  parallel_for(
      s.outer * bands, grain_of(s.count * s.inner / bands), [&](int64_t begin, int64_t end, int) {
        for (int64_t piece = begin; piece < end; ++piece) {
          const int64_t o = piece / bands, band = piece % bands;
          const int64_t first = band * s.places / bands, last = (band + 1) * s.places / bands;
          for (int64_t i = 0; i < s.count; ++i) {
            if (at[i] < first || at[i] >= last) continue;
            place_row(s, src + (o * s.count + i) * s.inner, dst + (o * s.places + at[i]) * s.inner);
          }
        }
      });
}

void copy_base(const Launch& l, size_t bytes) {
  if (l.out[0] == l.in[0] || bytes == 0) return;
  parallel_for(static_cast<int64_t>(bytes), 4 * kTaskElements,
               [&](int64_t begin, int64_t end, int) {
                 std::memcpy(l.output<char>() + begin, l.input<char>(0) + begin,
                             static_cast<size_t>(end - begin));
               });
}

// Rows of input 2 placed into a copy of input 0 by input 1; place(l, i) gives the row of index i.
template <class F> Kernel placing_kernel(const Prepare& p, const Placing& s, F place) {
  return with_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[s, place, bytes = p.out().bytes()](const Launch& l) {
              auto* at = static_cast<int64_t*>(l.scratch);
              for (int64_t i = 0; i < s.count; ++i) at[i] = place(l, i);
              copy_base(l, bytes);
              if (s.count * s.inner * s.outer == 0) return;
              place_rows(s, at, l.input<T>(2), l.output<T>());
            },
            static_cast<size_t>(s.count) * sizeof(int64_t)};
  });
}

void check_dtypes(const Infer& i) {
  check_index_dtype(i, 1);
  TRI_CHECK(i.dtype(0) == i.dtype(2),
            message(i.op.name, "values expect the dtype of x, ", i.dtype(0), ", got ", i.dtype(2)));
}

void check_values(const Infer& i, const Shape& expected) {
  TRI_CHECK(i.shape(2) == expected,
            message(i.op.name, "values expect shape ", expected, ", got ", i.shape(2)));
}

// ---- index_add, scatter

void infer_rows(const Infer& i, int64_t axis) {
  check_dtypes(i);
  Shape values = i.shape(0);
  TRI_CHECK(axis >= 0 && axis < values.rank(),
            message(i.op.name, "axis expects a dimension of ", values, ", got ", axis));
  TRI_CHECK(i.shape(1).rank() == 1,
            message(i.op.name, "index expects one dimension, got ", i.shape(1)));
  values[static_cast<int>(axis)] = i.shape(1)[0];
  check_values(i, values);
  i.out(i.dtype(0), i.shape(0));
}

Kernel prepare_rows(const Prepare& p, int64_t axis, bool add) {
  const AxisSplit x = split_at(p.in().shape, axis);
  const Indices indices(p, 1);
  return placing_kernel(p, {x.outer, x.size, p.in(1).shape.numel(), x.inner, add},
                        [=, op = p.node.op](const Launch& l, int64_t i) {
                          return indices.checked(*op, l, i, x.size);
                        });
}

void index_add_rule(Grad& g) {
  g.set(0, g.dout());
  if (g.wants(2)) g.set(2, ops::gather(g.dout(), g.in(1), g.attrs<AxisAttrs>().axis));
}

// The rows that were replaced get nothing. With equal indices the gradient is that of the last.
void scatter_rule(Grad& g) {
  const Shape& values = g.in(2)->type.shape;
  if (g.wants(0)) {
    Value* zeros = ops::full({values.begin(), values.end()}, 0, g.dout()->type.dtype);
    g.set(0, ops::scatter(g.dout(), g.in(1), zeros));
  }
  if (g.wants(2)) g.set(2, ops::gather(g.dout(), g.in(1), 0));
}

// ---- scatter_nd_add

void infer_nd(const Infer& i) {
  const Shape &x = i.shape(0), &index = i.shape(1);
  check_dtypes(i);
  TRI_CHECK(index.rank() >= 1 && index.back() <= x.rank(),
            message(i.op.name, "index expects up to ", x.rank(),
                    " coordinates in its last dimension, got ", index));
  const auto depth = static_cast<int>(index.back());
  TRI_CHECK(index.rank() - 1 + x.rank() - depth <= Shape::kMaxRank,
            message(i.op.name, "values have more than ", Shape::kMaxRank, " dimensions"));
  Shape values;
  for (int d = 0; d + 1 < index.rank(); ++d) values.push_back(index[d]);
  for (int d = depth; d < x.rank(); ++d) values.push_back(x[d]);
  check_values(i, values);
  i.out(i.dtype(0), x);
}

Kernel prepare_nd(const Prepare& p) {
  const Shape& x = p.in().shape;
  const int64_t depth = p.in(1).shape.back();
  int64_t count = 1, places = 1, inner = 1;
  for (int d = 0; d + 1 < p.in(1).shape.rank(); ++d) count *= p.in(1).shape[d];
  for (int d = 0; d < x.rank(); ++d) (d < depth ? places : inner) *= x[d];
  const Indices indices(p, 1);
  return placing_kernel(p, {1, places, count, inner, true},
                        [=, op = p.node.op](const Launch& l, int64_t i) {
                          int64_t at = 0;
                          for (int64_t d = 0; d < depth; ++d) {
                            const int64_t size = x[static_cast<int>(d)];
                            at = at * size + indices.checked(*op, l, i * depth + d, size);
                          }
                          return at;
                        });
}

void nd_rule(Grad& g) {
  g.set(0, g.dout());
  if (g.wants(2)) g.set(2, ops::gather_nd(g.dout(), g.in(1)));
}

// ---- embedding_grad

void infer_embedding_grad(const Infer& i) {
  const auto& a = i.attrs<EmbeddingGradAttrs>();
  check_index_dtype(i, 0);
  Shape expected = i.shape(0);
  TRI_CHECK(i.shape(1).rank() == expected.rank() + 1 && a.rows >= 0,
            message(i.op.name, "dout expects the shape of ids and a width, got ", i.shape(1)));
  expected.push_back(i.shape(1).back());
  TRI_CHECK(i.shape(1) == expected,
            message(i.op.name, "dout expects shape ", expected, ", got ", i.shape(1)));
  i.out(i.dtype(1), {a.rows, expected.back()});
}

Kernel prepare_embedding_grad(const Prepare& p) {
  const auto a = p.attrs<EmbeddingGradAttrs>();
  const Indices ids(p, 0);
  const Placing s{1, a.rows, p.in().shape.numel(), p.out().shape[1], true};
  return with_floating(*p.node.op, p.out().dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[=, op = p.node.op](const Launch& l) {
              auto* at = static_cast<int64_t*>(l.scratch);
              for (int64_t i = 0; i < s.count; ++i) {
                const int64_t id = ids.get(l, i);
                TRI_CHECK(
                    id >= 0 && id < a.rows,
                    message(op->name, "id ", i, " expects a value in [0, ", a.rows, "), got ", id));
                at[i] = id == a.padding_idx ? -1 : id;
              }
              T* y = l.output<T>();
              parallel_for(s.places * s.inner, 4 * kTaskElements,
                           [&](int64_t begin, int64_t end, int) {
                             std::memset(static_cast<void*>(y + begin), 0,
                                         static_cast<size_t>(end - begin) * sizeof(T));
                           });
              if (s.count * s.inner > 0) place_rows(s, at, l.input<T>(1), y);
            },
            static_cast<size_t>(s.count) * sizeof(int64_t)};
  });
}

void embedding_grad_rule(Grad& g) {
  g.set(1, ops::embedding(g.dout(), g.in(0), g.attrs<EmbeddingGradAttrs>().padding_idx));
}

}  // namespace

namespace ops {

constinit const Op index_add_op{
    .name = "index_add",
    .inputs = 3,
    .attrs = &attr_info<AxisAttrs>,
    .infer = [](const Infer& i) { infer_rows(i, i.attrs<AxisAttrs>().axis); },
    .grad = index_add_rule,
    .cpu = [](const Prepare& p) { return prepare_rows(p, p.attrs<AxisAttrs>().axis, true); },
    .cuda = TRI_CUDA(cuda_index_add),
    .in_place = 1};
constinit const Op scatter_op{.name = "scatter",
                              .inputs = 3,
                              .infer = [](const Infer& i) { infer_rows(i, 0); },
                              .grad = scatter_rule,
                              .cpu = [](const Prepare& p) { return prepare_rows(p, 0, false); },
                              .cuda = TRI_CUDA(cuda_scatter),
                              .amp = Amp::kFloatInO1,
                              .in_place = 1};
constinit const Op scatter_nd_add_op{.name = "scatter_nd_add",
                                     .inputs = 3,
                                     .infer = infer_nd,
                                     .grad = nd_rule,
                                     .cpu = prepare_nd,
                                     .cuda = TRI_CUDA(cuda_scatter_nd_add),
                                     .amp = Amp::kFloatInO1,
                                     .in_place = 1};
constinit const Op embedding_grad_op{.name = "embedding_grad",
                                     .inputs = 2,
                                     .attrs = &attr_info<EmbeddingGradAttrs>,
                                     .infer = infer_embedding_grad,
                                     .grad = embedding_grad_rule,
                                     .cpu = prepare_embedding_grad,
                                     .cuda = TRI_CUDA(cuda_embedding_grad)};

Value* index_add(Value* x, Value* index, Value* values, int64_t axis) {
  return record1(index_add_op, {x, index, values},
                 AxisAttrs{normal_axis("index_add", axis, x->type.shape.rank())});
}

Value* scatter(Value* x, Value* index, Value* values, bool overwrite) {
  if (overwrite) return record1(scatter_op, {x, index, values});
  const Shape& s = values->type.shape;  // the rows named start from zero
  Value* zeros = full({s.begin(), s.end()}, 0, x->type.dtype);
  return index_add(scatter(x, index, zeros), index, values, 0);
}

Value* scatter_nd_add(Value* x, Value* index, Value* values) {
  return record1(scatter_nd_add_op, {x, index, values});
}

Value* embedding_grad(Value* ids, Value* dout, int64_t rows, int64_t padding_idx) {
  return record1(embedding_grad_op, {ids, dout}, EmbeddingGradAttrs{rows, padding_idx});
}

}  // namespace ops
}  // namespace trireme
