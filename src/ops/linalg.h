// Operators on matrices, the two last dimensions of x; what is before them is a batch.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct MatrixAttrs {
  bool upper = false;  // cholesky, eigh: which triangle
  bool full = false;   // svd, qr: square matrices of vectors
  static const Field fields[];
};
inline constexpr Field MatrixAttrs::fields[] = {TRI_FIELD(MatrixAttrs, upper),
                                                TRI_FIELD(MatrixAttrs, full)};

namespace ops {
extern const Op inverse_op;      // (x [n, n]); infinite or NaN for a singular one
extern const Op determinant_op;  // (x [n, n]) -> one number a matrix
extern const Op solve_op;        // (x [n, n], y [n, k]) -> [n, k]: x result = y
extern const Op cholesky_op;     // (x [n, n]); NaN where it is not positive definite
extern const Op svd_op;          // (x [m, n]) -> u, s (falling), v transposed
extern const Op qr_op;           // (x [m, n]) -> q, r
extern const Op eigh_op;         // (x [n, n]) -> values (rising), vectors as columns

Value* inverse(Value* x);
Value* determinant(Value* x);
Value* solve(Value* x, Value* y);  // batches broadcast
Value* cholesky(Value* x, bool upper = false);
std::vector<Value*> svd(Value* x, bool full_matrices = false);
std::vector<Value*> qr(Value* x, bool complete = false);
std::vector<Value*> eigh(Value* x, bool upper = false);

// ---- for the files of this family
Value* transposed(Value* x);  // the two last dimensions
}  // namespace ops

// ---- the kernels' frame

struct MatrixShape {
  int64_t batch = 1, rows = 0, columns = 0;
  int64_t others = 0;  // columns of the second input
};
MatrixShape matrix_shape(const Shape& shape);
Shape batch_of(const Shape& shape);  // without the two last dimensions
void check_matrix(const Infer& i, int input, bool square);

}  // namespace trireme
