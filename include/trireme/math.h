// More of Paddle's tensor functions: mathematics, statistics, products, comparisons. The rules of
// trireme/ops.h hold: arguments are checked at the call, axes may be negative, no axes are all.
#pragma once

#include <limits>

#include "trireme/ops.h"

namespace trireme {

// ---- element by element
// clang-format off
#define TRI_MORE_UNARY_FUNCTIONS(F) \
  F(log1p) F(log2) F(log10) F(expm1) F(sign) F(trunc) F(tan) F(asin) F(acos) F(atan) F(sinh) \
  F(cosh) F(asinh) F(acosh) F(atanh) F(isnan) F(isinf) F(isfinite) F(bitwise_not)
#define TRI_MORE_BINARY_FUNCTIONS(F) \
  F(fmax) F(fmin) F(atan2) F(bitwise_and) F(bitwise_or) F(bitwise_xor)
#define TRI_DECLARE(name) Tensor name(const Tensor& x);
TRI_MORE_UNARY_FUNCTIONS(TRI_DECLARE)  // isnan, isinf, isfinite: bool
#undef TRI_DECLARE
#define TRI_DECLARE(name) Tensor name(const Tensor& x, const Tensor& y);
TRI_MORE_BINARY_FUNCTIONS(TRI_DECLARE)
#undef TRI_DECLARE
// clang-format on
inline Tensor neg(const Tensor& x) { return -x; }
inline Tensor mod(const Tensor& x, const Tensor& y) { return remainder(x, y); }
inline Tensor floor_mod(const Tensor& x, const Tensor& y) { return remainder(x, y); }
Tensor lerp(const Tensor& x, const Tensor& y, const Tensor& weight);  // x + weight (y - x)
Tensor lerp(const Tensor& x, const Tensor& y, double weight);
// Rebinds x to x + value, outside of its history, and returns it; x has one element.
Tensor increment(Tensor x, double value = 1);
// Infinite posinf and neginf (the defaults) stand for the dtype's largest and smallest number.
Tensor nan_to_num(const Tensor& x, double nan = 0,
                  double posinf = std::numeric_limits<double>::infinity(),
                  double neginf = -std::numeric_limits<double>::infinity());

// ---- comparisons
// |x - y| <= atol + rtol |y|; bool.
Tensor isclose(const Tensor& x, const Tensor& y, double rtol = 1e-5, double atol = 1e-8,
               bool equal_nan = false);
Tensor allclose(const Tensor& x, const Tensor& y, double rtol = 1e-5, double atol = 1e-8,
                bool equal_nan = false);             // one bool
Tensor equal_all(const Tensor& x, const Tensor& y);  // one bool; false for different shapes

// ---- statistics
Tensor var(const Tensor& x, const Ints& axis = {}, bool unbiased = true, bool keepdim = false);
Tensor std(const Tensor& x, const Ints& axis = {}, bool unbiased = true, bool keepdim = false);
Tensor logsumexp(const Tensor& x, const Ints& axis = {}, bool keepdim = false);
Tensor count_nonzero(const Tensor& x, const Ints& axis = {}, bool keepdim = false);  // int64
// mode "avg": the mean of the two in the middle of an even number; "min": the lower one.
Tensor median(const Tensor& x, bool keepdim = false, const std::string& mode = "avg");
Tensor median(const Tensor& x, int64_t axis, bool keepdim = false, const std::string& mode = "avg");
Tensor cumprod(const Tensor& x, int64_t dim);
// How often 0, 1 ... occur in x (int, rank 1), or the sums of their weights. At least minlength
// long. Reads x.
Tensor bincount(const Tensor& x, const Tensor& weights = {}, int64_t minlength = 0);

// ---- products
Tensor mm(const Tensor& x, const Tensor& y);   // matmul
Tensor bmm(const Tensor& x, const Tensor& y);  // rank 3 both
Tensor mv(const Tensor& x, const Tensor& vec);
Tensor dot(const Tensor& x, const Tensor& y);    // of vectors, or row by row
Tensor outer(const Tensor& x, const Tensor& y);  // of the flattened tensors
Tensor inner(const Tensor& x, const Tensor& y);  // over both last dimensions
Tensor addmm(const Tensor& input, const Tensor& x, const Tensor& y, double beta = 1,
             double alpha = 1);  // beta input + alpha x y
Tensor kron(const Tensor& x, const Tensor& y);
Tensor cross(const Tensor& x, const Tensor& y, int64_t axis = 9);  // 9: the first dimension of 3
Tensor trace(const Tensor& x, int64_t offset = 0, int64_t axis1 = 0, int64_t axis2 = 1);
Tensor tensordot(const Tensor& x, const Tensor& y, int64_t axes = 2);
Tensor tensordot(const Tensor& x, const Tensor& y, const Ints& axes_x, const Ints& axes_y);
// "bij,bjk->bik"; "..." stands for any dimensions; without "->" the letters that occur once, in
// alphabetical order. A letter has one size. Operands are contracted from left to right.
Tensor einsum(const std::string& equation, const std::vector<Tensor>& operands);

namespace linalg {
// The p-norm of all elements along the axes; p may be infinite, 0 counts what is not zero.
Tensor norm(const Tensor& x, double p = 2, const Ints& axis = {}, bool keepdim = false);

// Of matrices, float32 or float64: the two last dimensions; what is before them is a batch. On the
// CPU alone. Numbers are NaN (of det: 0) where a matrix is singular, or not positive definite for
// cholesky, which, as eigh, reads one triangle.
Tensor inv(const Tensor& x);
Tensor det(const Tensor& x);
// The z of x z = y: y [..., n, k], or [..., n] with one dimension less than x; batches broadcast.
Tensor solve(const Tensor& x, const Tensor& y);
Tensor cholesky(const Tensor& x, bool upper = false);
// u, s (falling), v transposed. Their signs are not determined; nor are the vectors that
// full_matrices adds, which get no gradient.
std::vector<Tensor> svd(const Tensor& x, bool full_matrices = false);
// q, r; mode "reduced", "complete" (no gradient of high matrices) or "r" (r alone).
std::vector<Tensor> qr(const Tensor& x, const std::string& mode = "reduced");
// Eigenvalues (rising) and vectors as columns, whose signs are not determined.
std::vector<Tensor> eigh(const Tensor& x, const std::string& uplo = "L");
}  // namespace linalg

}  // namespace trireme
