// Matrix products on the GPU: what matmul_cuda.cpp and its kernels in matmul.cu share.
#pragma once

#include <vector>

#include "device/cpu/dnn.h"
#include "device/cuda/cublaslt.h"
#include "graph/kernel.h"

namespace trireme {

// A product with what stands behind it: act(a b + bias + residual).
struct MatmulMatch {
  const Node* matmul = nullptr;
  const Value *bias = nullptr, *residual = nullptr, *result = nullptr;
  cuda::ProductSpec::Act act = cuda::ProductSpec::Act::kNone;
};

namespace cuda {

// c[i][j] of all matrices, by strides and without a library: of integers, of sums over nothing, and
// of what cuBLASLt does not have.
struct PlainProduct {
  cpu::BatchMatmulSpec spec;
  ProductSpec::Act act = ProductSpec::Act::kNone;
  bool sums = true;  // false: c has the sums already
};
void run_plain_product(const PlainProduct& product, const ProductArgs& args, void* stream);

// Rows of 2-byte elements.
struct RowBox {
  int64_t rows, columns;
};
// Into to_rows rows of to_ld elements, a multiple of 8, at 16 bytes; zeros around the box.
void run_line_up_rows(const void* from, int64_t from_ld, RowBox box, void* to, int64_t to_ld,
                      int64_t to_rows, void* stream);
// Out of such rows.
void run_set_back_rows(const void* from, int64_t from_ld, RowBox box, void* to, int64_t to_ld,
                       void* stream);

// n numbers of one floating dtype as another.
void run_cast(const void* from, DType from_type, void* to, DType to_type, int64_t n, void* stream);

}  // namespace cuda
}  // namespace trireme
