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

// Rows with another distance between them; elements of 2 bytes. On one side at least rows begin at
// multiples of 16 bytes.
void run_copy_rows(const void* from, int64_t from_ld, void* to, int64_t to_ld, int64_t rows,
                   int64_t columns, void* stream);

// n numbers of one floating dtype as another.
void run_cast(const void* from, DType from_type, void* to, DType to_type, int64_t n, void* stream);

}  // namespace cuda
}  // namespace trireme
