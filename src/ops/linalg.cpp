// inverse, determinant, solve, cholesky: by elimination with row pivots.
#include "ops/linalg.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "ops/linalg_kernel.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {

MatrixShape matrix_shape(const Shape& shape) {
  const int rank = shape.rank();
  MatrixShape m{1, shape[rank - 2], shape[rank - 1]};
  for (int d = 0; d + 2 < rank; ++d) m.batch *= shape[d];
  return m;
}

Shape batch_of(const Shape& shape) {
  Shape batch;
  for (int d = 0; d + 2 < shape.rank(); ++d) batch.push_back(shape[d]);
  return batch;
}

void check_matrix(const Infer& i, int input, bool square) {
  const auto k = static_cast<size_t>(input);
  const Shape& s = i.shape(k);
  TRI_CHECK(i.dtype(k) == DType::kFloat32 || i.dtype(k) == DType::kFloat64,
            message(i.op.name, "x expects float32 or float64, got ", i.dtype(k)));
  TRI_CHECK(s.rank() >= 2, message(i.op.name, "x expects matrices, got ", s));
  TRI_CHECK(!square || s[s.rank() - 1] == s[s.rank() - 2],
            message(i.op.name, "x expects square matrices, got ", s));
}

namespace {

// a becomes its triangles, pivots[i] the row that changed places with row i. The determinant.
double factor(double* a, double* pivots, int64_t n) {
  double determinant = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t best = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (std::abs(a[i * n + k]) > std::abs(a[best * n + k])) best = i;
    pivots[k] = static_cast<double>(best);
    if (best != k) {
      std::swap_ranges(a + k * n, a + (k + 1) * n, a + best * n);
      determinant = -determinant;
    }
    determinant *= a[k * n + k];
    for (int64_t i = k + 1; i < n; ++i) {
      const double ratio = a[i * n + k] /= a[k * n + k];
      for (int64_t j = k + 1; j < n; ++j) a[i * n + j] -= ratio * a[k * n + j];
    }
  }
  return determinant;
}

// Columns b [n, k] become the solutions.
void substitute(const double* a, const double* pivots, double* b, int64_t n, int64_t k) {
  for (int64_t i = 0; i < n; ++i) {
    const auto other = static_cast<int64_t>(pivots[i]);
    if (other != i) std::swap_ranges(b + i * k, b + (i + 1) * k, b + other * k);
  }
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j)
      for (int64_t c = 0; c < k; ++c) b[i * k + c] -= a[i * n + j] * b[j * k + c];
  for (int64_t i = n; i-- > 0;) {
    for (int64_t j = i + 1; j < n; ++j)
      for (int64_t c = 0; c < k; ++c) b[i * k + c] -= a[i * n + j] * b[j * k + c];
    for (int64_t c = 0; c < k; ++c) b[i * k + c] /= a[i * n + i];
  }
}

void solve_columns(double* a, double* b, double* pivots, int64_t n, int64_t k) {
  const double determinant = factor(a, pivots, n);
  if (determinant == 0) {
    std::fill_n(b, n * k, std::numeric_limits<double>::quiet_NaN());
  } else {
    substitute(a, pivots, b, n, k);
  }
}

void run_inverse(const double* const* in, double* const* out, double* scratch, const MatrixShape& x,
                 const MatrixAttrs&) {
  const int64_t n = x.rows;
  double* a = scratch + n;
  std::copy_n(in[0], n * n, a);
  std::fill_n(out[0], n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) out[0][i * n + i] = 1;
  solve_columns(a, out[0], scratch, n, n);
}

void run_determinant(const double* const* in, double* const* out, double* scratch,
                     const MatrixShape& x, const MatrixAttrs&) {
  double* a = scratch + x.rows;
  std::copy_n(in[0], x.rows * x.rows, a);
  const double determinant = factor(a, scratch, x.rows);
  out[0][0] = std::isnan(determinant) ? 0 : determinant;  // a pivot of 0, divided by
}

void run_cholesky(const double* const* in, double* const* out, double*, const MatrixShape& x,
                  const MatrixAttrs& attrs) {
  const int64_t n = x.rows;
  double* l = out[0];
  const auto at = [&](int64_t i, int64_t j) { return attrs.upper ? j * n + i : i * n + j; };
  std::fill_n(l, n * n, 0.0);
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = j; i < n; ++i) {
      double sum = in[0][at(i, j)];
      for (int64_t k = 0; k < j; ++k) sum -= l[at(i, k)] * l[at(j, k)];
      l[at(i, j)] = i == j ? std::sqrt(sum) : sum / l[at(j, j)];
    }
  }
}

void run_solve(const double* const* in, double* const* out, double* scratch, const MatrixShape& x,
               const MatrixAttrs&) {
  const int64_t n = x.rows, k = x.others;
  double* a = scratch + n;
  std::copy_n(in[0], n * n, a);
  std::copy_n(in[1], n * k, out[0]);
  solve_columns(a, out[0], scratch, n, k);
}

int64_t room(const Prepare& p) {
  const int64_t n = matrix_shape(p.in().shape).rows;
  return n * n + n;
}

void infer_square(const Infer& i) {
  check_matrix(i, 0, true);
  i.out(i.dtype(0), i.shape(0));
}
void infer_determinant(const Infer& i) {
  check_matrix(i, 0, true);
  i.out(i.dtype(0), batch_of(i.shape(0)));
}
void infer_solve(const Infer& i) {
  check_matrix(i, 0, true);
  const Shape &x = i.shape(0), &y = i.shape(1);
  TRI_CHECK(i.dtype(1) == i.dtype(0) && y.rank() == x.rank() && batch_of(x) == batch_of(y) &&
                y[y.rank() - 2] == x[x.rank() - 1],
            message(i.op.name, "y expects ", i.dtype(0), " with the rows of ", x, ", got ",
                    i.dtype(1), y));
  i.out(i.dtype(0), y);
}

Kernel prepare_inverse(const Prepare& p) { return each_matrix(p, run_inverse, room(p), {}); }
Kernel prepare_determinant(const Prepare& p) {
  return each_matrix(p, run_determinant, room(p), {});
}
Kernel prepare_cholesky(const Prepare& p) {
  return each_matrix(p, run_cholesky, 0, p.attrs<MatrixAttrs>());
}
Kernel prepare_solve(const Prepare& p) { return each_matrix(p, run_solve, room(p), {}); }

// ---- gradients

using ops::matmul;
using ops::transposed;

void inverse_rule(Grad& g) {
  Value* y = g.out();
  g.set(0, ops::affine(matmul(matmul(y, g.dout(), nullptr, true), y, nullptr, false, true), -1, 0));
}

void determinant_rule(Grad& g) {
  Value* both = ops::multiply(g.dout(), g.out());
  g.set(0, ops::multiply(ops::unsqueeze(ops::unsqueeze(both, {-1}), {-1}),
                         transposed(ops::inverse(g.in()))));
}

void solve_rule(Grad& g) {
  Value* dy = ops::solve(transposed(g.in(0)), g.dout());
  if (g.wants(0)) g.set(0, ops::affine(matmul(dy, g.out(), nullptr, false, true), -1, 0));
  if (g.wants(1)) g.set(1, dy);
}

void cholesky_rule(Grad& g) {
  const bool upper = g.attrs<MatrixAttrs>().upper;
  Value* l = upper ? transposed(g.out()) : g.out();
  Value* dl = upper ? transposed(g.dout()) : g.dout();
  Value* product = matmul(l, dl, nullptr, true);
  Value* lower = ops::affine(ops::add(ops::tril(product), ops::tril(product, -1)), 0.5, 0);
  Value* back = ops::inverse(l);
  Value* dx = matmul(matmul(back, lower, nullptr, true), back);
  g.set(0, ops::affine(ops::add(dx, transposed(dx)), 0.5, 0));
}

}  // namespace

namespace ops {

constinit const Op inverse_op{.name = "inverse",
                              .infer = infer_square,
                              .grad = inverse_rule,
                              .cpu = prepare_inverse,
                              .amp = Amp::kFloat};
constinit const Op determinant_op{.name = "determinant",
                                  .infer = infer_determinant,
                                  .grad = determinant_rule,
                                  .cpu = prepare_determinant,
                                  .amp = Amp::kFloat};
constinit const Op solve_op{.name = "solve",
                            .inputs = 2,
                            .infer = infer_solve,
                            .grad = solve_rule,
                            .cpu = prepare_solve,
                            .amp = Amp::kFloat};
constinit const Op cholesky_op{.name = "cholesky",
                               .attrs = &attr_info<MatrixAttrs>,
                               .infer = infer_square,
                               .grad = cholesky_rule,
                               .cpu = prepare_cholesky,
                               .amp = Amp::kFloat};

Value* transposed(Value* x) {
  std::vector<int64_t> perm(static_cast<size_t>(x->type.shape.rank()));
  std::iota(perm.begin(), perm.end(), 0);
  TRI_CHECK(perm.size() >= 2, message("transpose", "x expects matrices, got ", x->type.shape));
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return transpose(x, perm);
}

Value* inverse(Value* x) { return record1(inverse_op, {x}); }
Value* determinant(Value* x) { return record1(determinant_op, {x}); }
Value* cholesky(Value* x, bool upper) {
  return record1(cholesky_op, {x}, MatrixAttrs{.upper = upper});
}

Value* solve(Value* x, Value* y) {
  const Shape a = x->type.shape, b = y->type.shape;
  TRI_CHECK(a.rank() >= 2 && b.rank() >= 2,
            message("solve", "x and y expect matrices, got ", a, " and ", b));
  const int rank = std::max(a.rank(), b.rank());
  std::vector<int64_t> batch;
  for (int d = rank - 2; d > 0; --d) {
    const int64_t p = d + 2 <= a.rank() ? a[a.rank() - 2 - d] : 1;
    const int64_t q = d + 2 <= b.rank() ? b[b.rank() - 2 - d] : 1;
    TRI_CHECK(p == q || p == 1 || q == 1,
              message("solve", "batches of x and y expect to broadcast, got ", a, " and ", b));
    batch.push_back(p == 1 ? q : p);
  }
  const auto grown = [&](Value* v, const Shape& s) {
    std::vector<int64_t> shape = batch;
    shape.push_back(s[s.rank() - 2]);
    shape.push_back(s[s.rank() - 1]);
    return Shape{std::span(shape)} == s ? v : expand(v, shape);
  };
  return record1(solve_op, {grown(x, a), grown(y, b)});
}

}  // namespace ops
}  // namespace trireme
