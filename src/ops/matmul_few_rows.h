// Products of few rows with a constant matrix, as of a classifier's last layer: what counts is how
// fast the matrix is read.
#pragma once

#include <cstdint>

#include "trireme/types.h"

namespace trireme::cuda {

// y = act(x weight^T + bias): x is [rows, terms] with rows `ld` elements apart, the weight
// [columns, terms], y [rows, columns]; all of float16 or bfloat16, sums in float32.
struct FewRows {
  DType dtype = DType::kFloat16;
  int64_t rows = 1, columns = 1, terms = 8;
  int64_t ld = 8;
  bool relu = false;

  // At most 16 rows; terms and ld are multiples of 8.
  bool serves() const;
};

// Pointers are 16-byte aligned. Weight and bias (may be null) must be constants: they are read
// while the kernel in front still runs.
struct FewRowsArgs {
  const void *x = nullptr, *weight = nullptr, *bias = nullptr;
  void* y = nullptr;
};
void run_few_rows(const FewRows& product, const FewRowsArgs& args, void* stream);

}  // namespace trireme::cuda
