// Matrix products by cuBLASLt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "device/device.h"
#include "trireme/types.h"

namespace trireme::cuda {

// How the matrices of one operand lie in memory: row-major, or the transposed matrix row-major.
struct MatrixPlace {
  bool transposed = false;
  int64_t ld = 0;     // elements from a stored row to the next
  int64_t batch = 0;  // elements from a matrix to the next; 0: one for all
};

// c = act(a b + residual + bias) for `batch` matrices: a is [m, k], b is [k, n], the bias [n]; all
// of one dtype, sums in float32 (float64 in float64). None of the sizes is 0.
struct ProductSpec {
  enum class Act : uint8_t { kNone, kRelu, kGeluTanh };

  DType dtype = DType::kFloat32;
  int64_t m = 1, n = 1, k = 1, batch = 1;
  MatrixPlace a, b, c, residual;
  bool has_bias = false, has_residual = false;
  Act act = Act::kNone;
  bool tf32 = false;  // float32 may be multiplied with 10 bits of mantissa
  // What all pointers are multiples of, in bytes, a power of two.
  int64_t alignment = 256;
};

struct ProductArgs {
  const void *a = nullptr, *b = nullptr, *residual = nullptr, *bias = nullptr;
  void* c = nullptr;  // may be the residual
};

class Product {
 public:
  // The fastest of cuBLASLt's proposals: measured when it is new (with memory of the device, whose
  // work it waits for), looked up in memory and on disk later. Null: cuBLASLt has nothing for it.
  // Throws kUnavailable without the library.
  static std::shared_ptr<const Product> create(const ProductSpec& spec, Device& device);

  virtual ~Product() = default;
  virtual size_t workspace() const = 0;  // bytes, at 256
  virtual double us() const = 0;         // as measured; 0: it was not
  // `stream` is a cudaStream_t. Thread-safe.
  virtual void run(const ProductArgs& args, void* workspace, void* stream) const = 0;
};

}  // namespace trireme::cuda
