// svd and eigh by rotations (Jacobi), qr by reflections (Householder), with LAPACK's signs.
#include <cmath>
#include <numeric>

#include "ops/linalg.h"
#include "ops/linalg_kernel.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {
namespace {

constexpr int kSweeps = 60;
constexpr double kExact = 1e-15;

double dot(const double* a, const double* b, int64_t n) {
  return std::inner_product(a, a + n, b, 0.0);
}

void rotate(double* a, double* b, int64_t n, double c, double s) {
  for (int64_t i = 0; i < n; ++i) {
    const double x = a[i], y = b[i];
    a[i] = c * x - s * y;
    b[i] = s * x + c * y;
  }
}

// The cosine and sine that make the off-diagonal `off` of a symmetric [p, off; off, q] vanish.
void rotation(double p, double q, double off, double& c, double& s) {
  const double z = (q - p) / (2 * off);
  const double t = (z >= 0 ? 1 : -1) / (std::abs(z) + std::sqrt(1 + z * z));
  c = 1 / std::sqrt(1 + t * t);
  s = c * t;
}

// Vectors from `have` on that are orthonormal to those before: rows of length n.
void complete(double* vectors, int64_t have, int64_t want, int64_t n) {
  for (int64_t k = have, axis = 0; k < want && axis < n; ++axis) {
    double* v = vectors + k * n;
    std::fill_n(v, n, 0.0);
    v[axis] = 1;
    for (int round = 0; round < 2; ++round)
      for (int64_t j = 0; j < k; ++j) {
        const double along = dot(v, vectors + j * n, n);
        for (int64_t i = 0; i < n; ++i) v[i] -= along * vectors[j * n + i];
      }
    const double length = std::sqrt(dot(v, v, n));
    if (length < 1e-8) continue;
    for (int64_t i = 0; i < n; ++i) v[i] /= length;
    ++k;
  }
}

// rows [n][m] -> orthogonal rows, the rotations in v [n][n].
void orthogonalise(double* rows, double* v, int64_t n, int64_t m) {
  std::fill_n(v, n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) v[i * n + i] = 1;
  bool turned = true;
  for (int sweep = 0; sweep < kSweeps && turned; ++sweep) {
    turned = false;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i + 1; j < n; ++j) {
        double *a = rows + i * m, *b = rows + j * m;
        const double p = dot(a, a, m), q = dot(b, b, m), off = dot(a, b, m);
        if (!(std::abs(off) > kExact * std::sqrt(p * q))) continue;
        double c = 1, s = 0;
        rotation(p, q, off, c, s);
        rotate(a, b, m, c, s);
        rotate(v + i * n, v + j * n, n, c, s);
        turned = true;
      }
  }
}

std::vector<int64_t> order_of(const std::vector<double>& values, bool rising) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const double x = values[static_cast<size_t>(a)], y = values[static_cast<size_t>(b)];
    return rising ? x < y : x > y;
  });
  return order;
}

// The rotations are those of the shorter side, whose vectors are rows here: of a wide matrix u and
// v change places.
void run_svd(const double* const* in, double* const* out, double* scratch, const MatrixShape& x,
             const MatrixAttrs& attrs) {
  const bool wide = x.columns > x.rows;
  const int64_t n = std::min(x.rows, x.columns), m = std::max(x.rows, x.columns);
  double *rows = scratch, *turns = rows + n * m, *left = turns + n * n, *right = left + m * m;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 0; k < m; ++k)
      rows[i * m + k] = in[0][wide ? i * x.columns + k : k * x.columns + i];
  orthogonalise(rows, turns, n, m);
  std::vector<double> lengths;
  for (int64_t i = 0; i < n; ++i) lengths.push_back(std::sqrt(dot(rows + i * m, rows + i * m, m)));
  const std::vector<int64_t> order = order_of(lengths, false);
  const double least = lengths.empty() ? 0 : lengths[static_cast<size_t>(order[0])] * 1e-15;
  int64_t exact = 0;  // vectors that the matrix decides
  for (int64_t k = 0; k < n; ++k) {
    const int64_t from = order[static_cast<size_t>(k)];
    const double length = lengths[static_cast<size_t>(from)];
    out[1][k] = length;
    std::copy_n(turns + from * n, n, right + k * n);
    if (!(length > least)) continue;
    for (int64_t i = 0; i < m; ++i) left[k * m + i] = rows[from * m + i] / length;
    exact = k + 1;
  }
  const int64_t vectors = attrs.full ? m : n;
  complete(left, exact, vectors, m);
  // left: [vectors][m], of the longer side; right: [n][n].
  double *u = wide ? right : left, *v = wide ? left : right;
  const int64_t u_count = wide ? n : vectors, v_count = wide ? vectors : n;
  for (int64_t i = 0; i < x.rows; ++i)
    for (int64_t k = 0; k < u_count; ++k) out[0][i * u_count + k] = u[k * x.rows + i];
  std::copy_n(v, v_count * x.columns, out[2]);
}

void run_eigh(const double* const* in, double* const* out, double* scratch, const MatrixShape& x,
              const MatrixAttrs& attrs) {
  const int64_t n = x.rows;
  double *a = scratch, *v = a + n * n;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      const bool there = attrs.upper ? j >= i : j <= i;
      a[i * n + j] = in[0][there ? i * n + j : j * n + i];
      v[i * n + j] = i == j ? 1 : 0;
    }
  bool turned = true;
  for (int sweep = 0; sweep < kSweeps && turned; ++sweep) {
    turned = false;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i + 1; j < n; ++j) {
        const double off = a[i * n + j];
        const double p = a[i * n + i], q = a[j * n + j];
        if (!(std::abs(off) > kExact * std::sqrt(std::abs(p * q)) && std::abs(off) > 1e-300))
          continue;
        double c = 1, s = 0;
        rotation(p, q, off, c, s);
        for (int64_t k = 0; k < n; ++k) {  // columns
          const double y = a[k * n + i], z = a[k * n + j];
          a[k * n + i] = c * y - s * z;
          a[k * n + j] = s * y + c * z;
        }
        rotate(a + i * n, a + j * n, n, c, s);
        rotate(v + i * n, v + j * n, n, c, s);
        turned = true;
      }
  }
  std::vector<double> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(a[i * n + i]);
  const std::vector<int64_t> order = order_of(values, true);
  for (int64_t k = 0; k < n; ++k) {
    const int64_t from = order[static_cast<size_t>(k)];
    out[0][k] = values[static_cast<size_t>(from)];
    for (int64_t i = 0; i < n; ++i) out[1][i * n + k] = v[from * n + i];
  }
}

void run_qr(const double* const* in, double* const* out, double* scratch, const MatrixShape& x,
            const MatrixAttrs& attrs) {
  const int64_t m = x.rows, n = x.columns, steps = std::min(m, n), kept = attrs.full ? m : steps;
  double *a = scratch, *q = a + m * n, *v = q + m * m;
  std::copy_n(in[0], m * n, a);
  for (int64_t i = 0; i < m * m; ++i) q[i] = i % (m + 1) == 0 ? 1 : 0;
  for (int64_t k = 0; k < steps; ++k) {
    double length = 0;
    for (int64_t i = k; i < m; ++i) length += a[i * n + k] * a[i * n + k];
    length = std::sqrt(length);
    double rest = 0;
    for (int64_t i = k + 1; i < m; ++i) rest += std::abs(a[i * n + k]);
    if (rest == 0) continue;  // nothing below: LAPACK keeps the sign
    for (int64_t i = k; i < m; ++i) v[i] = a[i * n + k];
    v[k] += v[k] >= 0 ? length : -length;
    const double square = dot(v + k, v + k, m - k);
    for (int64_t j = k; j < n; ++j) {
      double along = 0;
      for (int64_t i = k; i < m; ++i) along += v[i] * a[i * n + j];
      for (int64_t i = k; i < m; ++i) a[i * n + j] -= 2 * along / square * v[i];
    }
    for (int64_t r = 0; r < m; ++r) {
      const double along = dot(q + r * m + k, v + k, m - k);
      for (int64_t i = k; i < m; ++i) q[r * m + i] -= 2 * along / square * v[i];
    }
  }
  for (int64_t i = 0; i < m; ++i)
    for (int64_t k = 0; k < kept; ++k) out[0][i * kept + k] = q[i * m + k];
  for (int64_t i = 0; i < kept; ++i)
    for (int64_t j = 0; j < n; ++j) out[1][i * n + j] = j >= i ? a[i * n + j] : 0;
}

Shape with(Shape batch, int64_t rows, int64_t columns) {
  batch.push_back(rows);
  batch.push_back(columns);
  return batch;
}

void infer_svd(const Infer& i) {
  check_matrix(i, 0, false);
  const MatrixShape x = matrix_shape(i.shape(0));
  const int64_t k = std::min(x.rows, x.columns);
  const bool full = i.attrs<MatrixAttrs>().full;
  const Shape batch = batch_of(i.shape(0));
  Shape values = batch;
  values.push_back(k);
  i.out(i.dtype(0), with(batch, x.rows, full ? x.rows : k));
  i.out(i.dtype(0), values);
  i.out(i.dtype(0), with(batch, full ? x.columns : k, x.columns));
}

void infer_qr(const Infer& i) {
  check_matrix(i, 0, false);
  const MatrixShape x = matrix_shape(i.shape(0));
  const int64_t k = i.attrs<MatrixAttrs>().full ? x.rows : std::min(x.rows, x.columns);
  i.out(i.dtype(0), with(batch_of(i.shape(0)), x.rows, k));
  i.out(i.dtype(0), with(batch_of(i.shape(0)), k, x.columns));
}

void infer_eigh(const Infer& i) {
  check_matrix(i, 0, true);
  Shape values = batch_of(i.shape(0));
  values.push_back(i.shape(0).back());
  i.out(i.dtype(0), values);
  i.out(i.dtype(0), i.shape(0));
}

Kernel prepare_svd(const Prepare& p) {
  const MatrixShape x = matrix_shape(p.in().shape);
  const int64_t n = std::min(x.rows, x.columns), m = std::max(x.rows, x.columns);
  return each_matrix(p, run_svd, n * m + 2 * n * n + m * m, p.attrs<MatrixAttrs>());
}
Kernel prepare_qr(const Prepare& p) {
  const MatrixShape x = matrix_shape(p.in().shape);
  return each_matrix(p, run_qr, x.rows * (x.columns + x.rows + 1), p.attrs<MatrixAttrs>());
}
Kernel prepare_eigh(const Prepare& p) {
  const int64_t n = matrix_shape(p.in().shape).rows;
  return each_matrix(p, run_eigh, 2 * n * n, p.attrs<MatrixAttrs>());
}

// ---- gradients

using ops::add;
using ops::matmul;
using ops::multiply;
using ops::subtract;
using ops::transposed;

Value* sum_of(Value* a, Value* b) { return a == nullptr ? b : add(a, b); }

// 1 / (values[j] - values[i]), 0 on the diagonal.
Value* gaps(Value* values) {
  const int64_t n = values->type.shape.back();
  Value* one = ops::eye(n, n, values->type.dtype);
  Value* gap = subtract(ops::unsqueeze(values, {-2}), ops::unsqueeze(values, {-1}));
  return ops::divide(ops::affine(one, -1, 1), add(gap, one));
}

// Elements [from, to) of one of the two last dimensions (-2, -1); null stays null.
Value* part_of(Value* x, int axis, int64_t from, int64_t to) {
  if (x == nullptr) return nullptr;
  const int64_t rank = x->type.shape.rank(), size = x->type.shape[rank + axis];
  return from == 0 && to == size ? x : ops::slice(x, {rank + axis}, {from}, {to});
}

// With full_matrices the vectors beyond the shorter side are any that complete the others: what is
// made of them has no gradient, as in Paddle and PyTorch.
void svd_rule(Grad& g) {
  Value *s = g.out(1), *ds = g.dout(1);
  const MatrixShape x = matrix_shape(g.in()->type.shape);
  const int64_t k = s->type.shape.back();
  Value *u = part_of(g.out(0), -1, 0, k), *du = part_of(g.dout(0), -1, 0, k);
  Value *vh = part_of(g.out(2), -2, 0, k), *dvh = part_of(g.dout(2), -2, 0, k);
  Value* dv = dvh != nullptr ? transposed(dvh) : nullptr;
  Value *row = ops::unsqueeze(s, {-2}), *column = ops::unsqueeze(s, {-1});
  Value* f = gaps(ops::square(s));
  Value *inner = nullptr, *outer = nullptr;
  if (ds != nullptr) inner = ops::diag_embed(ds, 0, -2, -1);
  if (du != nullptr) {
    Value* own = matmul(u, du, nullptr, true);
    Value* j = multiply(f, own);
    inner = sum_of(inner, multiply(add(j, transposed(j)), row));
    if (x.rows > k) outer = matmul(ops::divide(subtract(du, matmul(u, own)), row), vh);
  }
  if (dv != nullptr) {
    Value* own = matmul(vh, dv);
    Value* j = multiply(f, own);
    inner = sum_of(inner, multiply(column, add(j, transposed(j))));
    if (x.columns > k) {
      Value* rest = subtract(dv, matmul(vh, own, nullptr, true));
      outer = sum_of(outer, matmul(u, transposed(ops::divide(rest, row))));
    }
  }
  Value* dx = matmul(matmul(u, inner), vh);
  g.set(0, sum_of(outer, dx));
}

void eigh_rule(Grad& g) {
  Value *w = g.out(0), *v = g.out(1);
  Value* inner = nullptr;
  if (g.dout(0) != nullptr) inner = ops::diag_embed(g.dout(0), 0, -2, -1);
  if (g.dout(1) != nullptr)
    inner = sum_of(inner, multiply(gaps(w), matmul(v, g.dout(1), nullptr, true)));
  Value* dx = matmul(matmul(v, inner), v, nullptr, false, true);
  g.set(0, ops::affine(add(dx, transposed(dx)), 0.5, 0));
}

// Of a wide x = [x1, x2] the square x1 gives q, and r = [r1, q' x2]. So x2 gets q dr2, and q what
// x2 makes of dr2.
void qr_rule(Grad& g) {
  const MatrixShape x = matrix_shape(g.in()->type.shape);
  if (g.attrs<MatrixAttrs>().full && x.rows > x.columns)
    fail(Code::kUnimplemented,
         "[qr] mode 'complete' has no gradient for matrices higher than wide: the columns of q "
         "beyond the matrix's are not determined");
  const int64_t m = x.rows, n = x.columns;
  const bool wide = n > m;
  Value *q = g.out(0), *r = g.out(1), *dq = g.dout(0), *dr = g.dout(1), *dx2 = nullptr;
  if (wide) {
    Value* dr2 = part_of(dr, -1, m, n);
    if (dr2 != nullptr) {
      dx2 = matmul(q, dr2);
      dq = sum_of(dq, matmul(part_of(g.in(), -1, m, n), dr2, nullptr, false, true));
    } else {
      dx2 = ops::affine(part_of(g.in(), -1, m, n), 0, 0);
    }
    r = part_of(r, -1, 0, m);
    dr = part_of(dr, -1, 0, m);
  }
  Value* inner = nullptr;
  if (dr != nullptr) inner = matmul(r, dr, nullptr, false, true);
  if (dq != nullptr) inner = sum_of(inner, ops::affine(matmul(dq, q, nullptr, true), -1, 0));
  Value* both = matmul(q, add(ops::tril(inner), transposed(ops::tril(inner, -1))));
  if (dq != nullptr) both = add(both, dq);
  Value* dx1 = matmul(both, ops::inverse(r), nullptr, false, true);
  g.set(0, wide ? ops::concat({dx1, dx2}, g.in()->type.shape.rank() - 1) : dx1);
}

}  // namespace

namespace ops {

constinit const Op svd_op{.name = "svd",
                          .outputs = 3,
                          .attrs = &attr_info<MatrixAttrs>,
                          .infer = infer_svd,
                          .grad = svd_rule,
                          .cpu = prepare_svd,
                          .amp = Amp::kFloat};
constinit const Op qr_op{.name = "qr",
                         .outputs = 2,
                         .attrs = &attr_info<MatrixAttrs>,
                         .infer = infer_qr,
                         .grad = qr_rule,
                         .cpu = prepare_qr,
                         .amp = Amp::kFloat};
constinit const Op eigh_op{.name = "eigh",
                           .outputs = 2,
                           .attrs = &attr_info<MatrixAttrs>,
                           .infer = infer_eigh,
                           .grad = eigh_rule,
                           .cpu = prepare_eigh,
                           .amp = Amp::kFloat};

std::vector<Value*> svd(Value* x, bool full_matrices) {
  return record(svd_op, {x}, MatrixAttrs{.full = full_matrices});
}
std::vector<Value*> qr(Value* x, bool complete) {
  return record(qr_op, {x}, MatrixAttrs{.full = complete});
}
std::vector<Value*> eigh(Value* x, bool upper) {
  return record(eigh_op, {x}, MatrixAttrs{.upper = upper});
}

}  // namespace ops
}  // namespace trireme
