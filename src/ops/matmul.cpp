// matmul: NumPy's shape rule, with an optional bias along the last dimension.
#include "ops/matmul.h"

#include "ops/anchor.h"
#include "ops/cuda_kernels.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {
namespace {

Shape permuted(const Shape& shape, const std::vector<int64_t>& perm) {
  if (perm.empty()) return shape;
  TRI_CHECK(perm.size() == 4 && shape.rank() == 4,
            "[matmul] permutations expect 4 dimensions, got " + shape.str());
  Shape s;
  for (int64_t d : perm) {
    TRI_CHECK(d >= 0 && d < 4, "[matmul] a permutation expects dimensions 0 to 3");
    s.push_back(shape[static_cast<int>(d)]);
  }
  return s;
}

void infer(const Infer& in) {
  const auto& a = in.attrs<MatmulAttrs>();
  const Shape x = permuted(in.shape(0), a.perm_x), y = permuted(in.shape(1), a.perm_y);
  TRI_CHECK(x.rank() >= 1 && y.rank() >= 1,
            "[matmul] inputs expect at least 1 dimension, got " + x.str() + " and " + y.str());
  // A constant matrix may stay float32 beside half data: kernels pack it into what they compute
  // with.
  const bool half = in.dtype(0) == DType::kBFloat16 || in.dtype(0) == DType::kFloat16;
  const bool packed = half && in.dtype(1) == DType::kFloat32 && in.constant(1);
  TRI_CHECK(in.dtype(0) == in.dtype(1) || packed,
            "[matmul] dtypes differ: " + std::string(name_of(in.dtype(0))) + " and " +
                std::string(name_of(in.dtype(1))));
  const bool vector_x = x.rank() == 1, vector_y = y.rank() == 1;
  const int64_t m = vector_x ? 1 : x[x.rank() - (a.transpose_x ? 1 : 2)];
  const int64_t kx = vector_x ? x[0] : x[x.rank() - (a.transpose_x ? 2 : 1)];
  const int64_t ky = vector_y ? y[0] : y[y.rank() - (a.transpose_y ? 1 : 2)];
  const int64_t n = vector_y ? 1 : y[y.rank() - (a.transpose_y ? 2 : 1)];
  TRI_CHECK(kx == ky, "[matmul] inner dimensions differ: " + x.str() + (a.transpose_x ? "^T" : "") +
                          " times " + y.str() + (a.transpose_y ? "^T" : ""));
  const auto batch = [](const Shape& s) {
    return s.rank() <= 2 ? Shape{} : Shape(s.dims().first(static_cast<size_t>(s.rank() - 2)));
  };
  Shape out = broadcast_shapes("matmul", batch(x), batch(y));
  if (!vector_x) out.push_back(m);
  if (!vector_y) out.push_back(n);
  if (in.has(2))
    TRI_CHECK(!vector_y && in.shape(2) == Shape{n},
              "[matmul] bias expects shape [" + std::to_string(n) + "], got " + in.shape(2).str());
  in.out(in.dtype(0), permuted(out, a.perm_out));
}

// ---- gradients: products again, with the transpositions in their flags

std::vector<int64_t> batch_of(const Value* v) {
  const Shape& s = v->type.shape;
  return {s.begin(), s.end() - std::min(s.rank(), 2)};
}

// A vector is a row on the left and a column on the right.
Value* as_matrix(Value* v, bool left) {
  const Shape& s = v->type.shape;
  if (s.rank() != 1) return v;
  return left ? ops::reshape(v, {1, s[0]}) : ops::reshape(v, {s[0], 1});
}

// All rows of a batch under each other.
Value* rows_of(Value* v) {
  return v->type.shape.rank() == 2 ? v : ops::reshape(v, {-1, v->type.shape.back()});
}

Value* product(Value* x, bool tx, Value* y, bool ty) { return ops::matmul(x, y, nullptr, tx, ty); }

Value* left_gradient(Value* y, Value* dout, bool tx, bool ty) {
  return tx ? product(y, ty, dout, true) : product(dout, false, y, !ty);
}

Value* right_gradient(Value* x, Value* y, Value* dout, bool tx, bool ty) {
  // One matrix for all rows: one product over all of them, no sum over the batch.
  if (y->type.shape.rank() == 2 && !tx) x = rows_of(x), dout = rows_of(dout);
  return ty ? product(dout, true, x, tx) : product(x, !tx, dout, false);
}

void rule(Grad& g) {
  const auto& a = g.attrs<MatmulAttrs>();
  if (!a.perm_x.empty() || !a.perm_y.empty() || !a.perm_out.empty())
    fail(Code::kUnimplemented, "[matmul] has no gradient where transposes were absorbed");
  const Shape &sx = g.in(0)->type.shape, &sy = g.in(1)->type.shape;
  if (g.wants(2)) g.set(2, g.dout());
  const bool vector_x = sx.rank() == 1, vector_y = sy.rank() == 1;
  const bool tx = a.transpose_x && !vector_x, ty = a.transpose_y && !vector_y;
  Value *x = as_matrix(g.in(0), true), *y = as_matrix(g.in(1), false), *dout = g.dout();
  if (vector_x || vector_y) {
    std::vector<int64_t> dims(dout->type.shape.begin(), dout->type.shape.end());
    if (vector_x) dims.insert(dims.end() - (vector_y ? 0 : 1), 1);
    if (vector_y) dims.push_back(1);
    dout = ops::reshape(dout, dims);
  }
  if (g.wants(0)) g.set(0, left_gradient(y, dout, tx, ty));
  if (g.wants(1)) {
    Value* dy = right_gradient(x, y, dout, tx, ty);
    if (vector_y) {  // without the column's 1, so that leading dimensions sum onto the vector
      std::vector<int64_t> dims = batch_of(dy);
      dims.push_back(sy[0]);
      dy = ops::reshape(dy, dims);
    }
    g.set(1, dy);
  }
}

}  // namespace

namespace ops {

const Op matmul_op{.name = "matmul",
                   .inputs = 3,
                   .attrs = &attr_info<MatmulAttrs>,
                   .infer = infer,
                   .grad = rule,
                   .cpu = prepare_anchor,
                   .cuda = TRI_CUDA(cuda_matmul),
                   .amp = Amp::kHalf,
                   .fuse = Fuse::kAnchor};

Value* matmul(Value* x, Value* y, Value* bias, bool transpose_x, bool transpose_y) {
  // Kernels broadcast a single matrix; other mixed batches are made equal first.
  const auto batch = [](const Value* v) {
    const Shape& s = v->type.shape;
    return s.rank() <= 2 ? Shape{} : Shape(s.dims().first(static_cast<size_t>(s.rank() - 2)));
  };
  const auto spread = [&](Value* v, const Shape& to) {
    const Shape own = batch(v), &s = v->type.shape;
    if (own.numel() == 1 || own == to) return v;
    std::vector<int64_t> full(to.begin(), to.end());
    full.insert(full.end(), {s[s.rank() - 2], s.back()});
    return expand(v, full);
  };
  const Shape to = broadcast_shapes("matmul", batch(x), batch(y));
  return record1(matmul_op, {spread(x, to), spread(y, to), bias},
                 MatmulAttrs{transpose_x, transpose_y, {}, {}, {}});
}

}  // namespace ops
}  // namespace trireme
