// matmul: NumPy's shape rule, with an optional bias along the last dimension.
#include "ops/matmul.h"

#include "ops/anchor.h"
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
  // A constant matrix may stay float32 beside bfloat16 data: kernels pack it into what they compute
  // with.
  const bool packed =
      in.dtype(0) == DType::kBFloat16 && in.dtype(1) == DType::kFloat32 && in.constant(1);
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

}  // namespace

namespace ops {

const Op matmul_op{.name = "matmul",
                   .inputs = 3,
                   .attrs = &attr_info<MatmulAttrs>,
                   .infer = infer,
                   .cpu = prepare_anchor,
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
