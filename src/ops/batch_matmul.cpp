// Batched products: strides for every operand, so that transposes before and after cost nothing.
#include "ops/batch_matmul.h"

#include <algorithm>

#include "base/parallel.h"
#include "device/cpu/dnn.h"
#include "device/cpu/product.h"
#include "ops/elements.h"
#include "ops/matmul.h"

namespace trireme {
namespace {

struct Strided {
  std::vector<int64_t> dims, strides;
};

Strided row_major(const Shape& shape) {
  Strided s{{shape.begin(), shape.end()}, std::vector<int64_t>(static_cast<size_t>(shape.rank()))};
  int64_t stride = 1;
  for (size_t i = s.dims.size(); i-- > 0;) {
    s.strides[i] = stride;
    stride *= s.dims[i];
  }
  return s;
}

// Seen through a permutation: dimension i is dimension perm[i] of what lies in memory.
Strided permuted(const Strided& s, const std::vector<int64_t>& perm) {
  if (perm.empty()) return s;
  Strided r;
  for (int64_t d : perm) {
    r.dims.push_back(s.dims[static_cast<size_t>(d)]);
    r.strides.push_back(s.strides[static_cast<size_t>(d)]);
  }
  return r;
}

std::vector<int64_t> inverse(const std::vector<int64_t>& perm) {
  std::vector<int64_t> r(perm.size());
  for (size_t i = 0; i < perm.size(); ++i)
    r[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
  return r;
}

// Leading dimensions become outer and inner: as they are when there are two, else all in inner.
cpu::MatrixStrides place(const Strided& s, bool two_batches, bool transposed) {
  const size_t rank = s.dims.size();
  cpu::MatrixStrides m{0, 0, s.strides[rank - 2], s.strides[rank - 1]};
  if (transposed) std::swap(m.row, m.column);
  if (rank == 2) return m;
  if (two_batches) {
    if (rank == 4 && s.dims[0] > 1) m.outer = s.strides[0];
    if (s.dims[rank - 3] > 1) m.inner = s.strides[rank - 3];
    return m;
  }
  int64_t batch = 1;
  for (size_t i = 0; i + 2 < rank; ++i) batch *= s.dims[i];
  if (batch > 1) m.inner = s.dims[rank - 2] * s.dims[rank - 1];
  return m;
}

// A vector is a row on the left, a column on the right.
Strided as_matrix(Strided s, bool left) {
  if (s.dims.size() != 1) return s;
  const int64_t n = s.dims[0];
  return left ? Strided{{1, n}, {n, 1}} : Strided{{n, 1}, {1, 1}};
}

}  // namespace

cpu::BatchMatmulSpec batch_matmul_spec(const Node& node) {
  const auto& a = node.get<MatmulAttrs>();
  const Shape &sx = node.inputs[0]->type.shape, &sy = node.inputs[1]->type.shape;
  const Strided x = as_matrix(permuted(row_major(sx), a.perm_x), true);
  const Strided y = as_matrix(permuted(row_major(sy), a.perm_y), false);
  const bool turned_x = a.transpose_x && sx.rank() > 1, turned_y = a.transpose_y && sy.rank() > 1;
  cpu::BatchMatmulSpec s;
  s.dtype = node.inputs[0]->type.dtype;
  const size_t rx = x.dims.size(), ry = y.dims.size();
  s.m = x.dims[rx - (turned_x ? 1 : 2)];
  s.k = x.dims[rx - (turned_x ? 2 : 1)];
  s.n = y.dims[ry - (turned_y ? 2 : 1)];
  const bool two = rx == 4 || ry == 4;
  if (two) {
    for (const Strided* v : {&x, &y}) {
      if (v->dims.size() == 4) s.outer = std::max(s.outer, v->dims[0]);
      if (v->dims.size() >= 3) s.inner = std::max(s.inner, v->dims[v->dims.size() - 3]);
    }
  } else if (s.m > 0 && s.n > 0) {
    s.inner = node.out()->type.shape.numel() / (s.m * s.n);
  }
  s.a = place(x, two, turned_x);
  s.b = place(y, two, turned_y);
  s.c = {s.inner * s.m * s.n, s.m * s.n, s.n, 1};
  if (!a.perm_out.empty())
    s.c = place(permuted(row_major(node.out()->type.shape), inverse(a.perm_out)), true, false);
  if (ry == 2 && !turned_x && a.perm_x.empty() &&
      a.perm_out.empty()) {  // many rows times one matrix
    s.m *= s.outer * s.inner;
    s.outer = s.inner = 1;
    s.a.outer = s.a.inner = 0;
  }
  return s;
}

namespace {

template <class T> Kernel plain_matmul(const cpu::BatchMatmulSpec& s, bool with_bias) {
  return {
      [s, with_bias](const Launch& launch) {
        const T* bias = with_bias ? launch.input<T>(2) : nullptr;
        const auto at = [](const cpu::MatrixStrides& m, int64_t outer, int64_t inner, int64_t row) {
          return outer * m.outer + inner * m.inner + row * m.row;
        };
        parallel_for(s.outer * s.inner * s.m, 16, [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t row = i % s.m, inner = i / s.m % s.inner, outer = i / s.m / s.inner;
            const T* a = launch.input<T>(0) + at(s.a, outer, inner, row);
            const T* b = launch.input<T>(1) + at(s.b, outer, inner, 0);
            T* c = launch.output<T>() + at(s.c, outer, inner, row);
            for (int64_t j = 0; j < s.n; ++j) {
              Compute<T> sum = bias ? Compute<T>(bias[j]) : Compute<T>(0);
              for (int64_t k = 0; k < s.k; ++k)
                sum += Compute<T>(a[k * s.a.column]) * Compute<T>(b[k * s.b.row + j * s.b.column]);
              c[j * s.c.column] = T(sum);
            }
          }
        });
      },
      0};
}

cpu::ProductSpec product_spec(const cpu::BatchMatmulSpec& s) {
  return {s.m, s.n, s.k, s.a.row, s.a.column, s.b.row, s.b.column, s.c.row};
}

// What to fetch during product i for those after it. Heads that lie side by side in rows share
// their memory: of the next ones' a part each time.
const float* next(const cpu::BatchMatmulSpec& s, const cpu::MatrixStrides& m, int64_t i,
                  const float* base, int64_t floats) {
  const bool shared = s.inner > 1 && m.inner < std::max(m.row, m.column);
  if (shared) return base + (i / s.inner + 1) * m.outer + i % s.inner * floats;
  return base + (i + 1) / s.inner * m.outer + (i + 1) % s.inner * m.inner;
}

// Attention's products are small and many: each thread takes a matrix at a time.
Kernel small_products(const cpu::BatchMatmulSpec& s, const Param<float>& bias_of) {
  const cpu::ProductSpec one = product_spec(s);
  const size_t packed = align_up(cpu::small_product_bytes(one));
  const size_t whole = packed * static_cast<size_t>(num_threads());
  constexpr int64_t kGrain = 1 << 18;  // multiplications worth a thread
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, s.m * s.n * s.k));
  return {[=](const Launch& l) {
            const float *a = l.input<float>(0), *b = l.input<float>(1);
            auto* floats = reinterpret_cast<float*>(static_cast<char*>(l.scratch) + whole);
            const float* bias = bias_of.get(l, floats);
            float* c = l.output<float>();
            parallel_for(s.outer * s.inner, grain, [&](int64_t begin, int64_t end, int task) {
              char* scratch = static_cast<char*>(l.scratch) + packed * static_cast<size_t>(task);
              for (int64_t i = begin; i < end; ++i) {
                const int64_t outer = i / s.inner, inner = i % s.inner;
                const bool more = i + s.inner < end;
                cpu::small_product(one, a + outer * s.a.outer + inner * s.a.inner,
                                   b + outer * s.b.outer + inner * s.b.inner, bias,
                                   c + outer * s.c.outer + inner * s.c.inner, scratch,
                                   more ? next(s, s.a, i, a, s.m * s.k) : nullptr,
                                   more ? next(s, s.b, i, b, s.k * s.n) : nullptr);
              }
            });
          },
          whole + static_cast<size_t>(bias_of.scratch()) * sizeof(float)};
}

std::shared_ptr<const cpu::Product> large_product(const cpu::BatchMatmulSpec& s,
                                                  const cpu::Epilogue& epilogue = {}) {
  if (s.outer * s.inner != 1 || s.c.column != 1 || s.dtype != DType::kFloat32) return nullptr;
  return cpu::Product::create(product_spec(s), epilogue);
}

// One product of two matrices by the convolutions' kernel; inputs by their places, -1: none.
Kernel large_kernel(std::shared_ptr<const cpu::Product> product, const Param<float>& bias_of,
                    size_t x, size_t y, int residual) {
  const size_t own = align_up(product->scratch_bytes());
  return {[=](const Launch& l) {
            auto* floats = reinterpret_cast<float*>(static_cast<char*>(l.scratch) + own);
            product->run(l.input<float>(x), l.input<float>(y), bias_of.get(l, floats),
                         l.output<float>(), l.scratch,
                         residual < 0 ? nullptr : l.input<float>(static_cast<size_t>(residual)));
          },
          own + static_cast<size_t>(bias_of.scratch()) * sizeof(float)};
}

}  // namespace

Kernel batch_matmul(const Prepare& p) {
  const cpu::BatchMatmulSpec s = batch_matmul_spec(p.node);
  const bool with_bias = p.has(2);
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}, 0};
  if (s.dtype == DType::kFloat64) return plain_matmul<double>(s, with_bias);
  if (s.dtype == DType::kInt64) return plain_matmul<int64_t>(s, with_bias);
  if (s.dtype == DType::kInt32) return plain_matmul<int32_t>(s, with_bias);
  TRI_CHECK(s.dtype == DType::kFloat32 || s.dtype == DType::kBFloat16,
            "[matmul] no CPU kernel for " + std::string(name_of(s.dtype)));
  if (s.k == 0 && (s.dtype == DType::kFloat32 || !with_bias))  // sums of nothing
    return s.dtype == DType::kFloat32 ? plain_matmul<float>(s, with_bias)
                                      : plain_matmul<BFloat16>(s, with_bias);
  const Param<float> bias_of(p, 2);  // bfloat16 of a model in half precision
  constexpr int64_t kSmall = 8192;   // floats of b
  if (s.dtype == DType::kFloat32 && s.c.column == 1 && s.k * s.n <= kSmall &&
      s.outer * s.inner > 1 && cpu::serves_small_product(product_spec(s)))
    return small_products(s, bias_of);
  if (auto product = large_product(s)) return large_kernel(product, bias_of, 0, 1, -1);
  cpu::DnnMatmul product = cpu::dnn_matmul(s, with_bias);
  const size_t own = (product.scratch_bytes + 63) / 64 * 64;
  return {[=, run = std::move(product.run)](const Launch& l) {
            auto* floats = reinterpret_cast<float*>(static_cast<char*>(l.scratch) + own);
            run(l.in[0], l.in[1], bias_of.get(l, floats), l.out[0], l.scratch);
          },
          own + static_cast<size_t>(bias_of.scratch()) * sizeof(float)};
}

bool fuses_product(const AnchorMatch& match) {
  const cpu::BatchMatmulSpec s = batch_matmul_spec(*match.anchor);
  return s.m > 0 && s.n > 0 && s.k > 0 && large_product(s, match.epilogue) != nullptr;
}

Kernel fused_product(const Prepare& p, const Graph& body, const AnchorMatch& match) {
  const Node& product = *match.anchor;
  const auto place = [&](size_t i) {
    return static_cast<size_t>(place_among_inputs(p, &body, product.inputs[i]));
  };
  const bool with_bias = product.inputs.size() > 2 && product.inputs[2];
  const Param<float> bias_of(p, with_bias ? place(2) : static_cast<size_t>(-1));
  return large_kernel(large_product(batch_matmul_spec(product), match.epilogue), bias_of, place(0),
                      place(1), place_among_inputs(p, &body, match.residual));
}

}  // namespace trireme
