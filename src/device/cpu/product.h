// Products of two computed float32 matrices: both are brought into the matrix kernel's form in each
// run.
#pragma once

#include <cstdint>
#include <memory>

#include "device/cpu/conv.h"

namespace trireme::cpu {

// c = a b (+ bias): a is [m, k], b is [k, n]; distances in elements. Columns of c are adjacent; of
// a and of b either rows or columns are.
struct ProductSpec {
  int64_t m = 1, n = 1, k = 1;
  int64_t a_row = 0, a_column = 1;
  int64_t b_row = 0, b_column = 1;
  int64_t c_row = 0;
};

// Immutable; run() may be called from many threads, each with scratch_bytes() of its own, 64-byte
// aligned. It spreads the work with parallel_for.
class Product {
 public:
  virtual ~Product() = default;
  // bias: [n] or null. residual: of the epilogue, laid out as c; it may be c.
  virtual void run(const float* a, const float* b, const float* bias, float* c, void* scratch,
                   const float* residual = nullptr) const = 0;
  virtual size_t scratch_bytes() const = 0;

  // Null where it does not serve: other processors, other strides.
  static std::unique_ptr<Product> create(const ProductSpec& spec, const Epilogue& epilogue = {});
};

// One of many products of small matrices, by the calling thread alone. scratch and packed: 64-byte
// aligned, small_product_bytes().
bool serves_small_product(const ProductSpec& spec);
size_t small_product_bytes(const ProductSpec& spec);
// next_a, next_b: as much memory as a and b take, wanted in the cache soon; or null.
void small_product(const ProductSpec& spec, const float* a, const float* b, const float* bias,
                   float* c, void* scratch, const float* next_a, const float* next_b);
// The same in two steps, for several products with one b: spec.m may differ between them.
void pack_small_product(const ProductSpec& spec, const float* b, void* packed);
void small_product_packed(const ProductSpec& spec, const float* a, const void* packed, float* c);

}  // namespace trireme::cpu
