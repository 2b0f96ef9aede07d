// Array: a dense array on the host. A handle: copies share the same memory.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "trireme/error.h"
#include "trireme/types.h"

namespace trireme {

// Row-major, contiguous, 64-byte aligned. Threads: a const Array may be read from any thread;
// writing through `data()` is the caller's to order. Memory is owned by the tensor or kept alive by
// `owner` (a mapped file).
class Array {
 public:
  Array() = default;
  // Uninitialised memory. Throws kInvalidArgument for a shape with unknown dimensions,
  // kResourceExhausted when the memory cannot be had.
  Array(DType dtype, const Shape& shape);
  // A view of memory that `owner` keeps alive; `data` holds shape.numel() elements.
  Array(DType dtype, const Shape& shape, void* data, std::shared_ptr<const void> owner);

  template <class T> static Array from(const Shape& shape, std::span<const T> values, DType dtype) {
    Array t(dtype, shape);
    TRI_CHECK(values.size_bytes() == t.bytes(),
              "[array] the values do not fill the shape " + shape.str());
    if (!values.empty()) std::memcpy(t.data(), values.data(), values.size_bytes());
    return t;
  }

  bool defined() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t numel() const { return numel_; }
  size_t bytes() const { return static_cast<size_t>(numel_) * size_of(dtype_); }

  const void* data() const { return data_; }
  void* data() { return data_; }
  template <class T> const T* as() const { return static_cast<const T*>(data_); }
  template <class T> T* as() { return static_cast<T*>(data_); }
  const std::shared_ptr<const void>& owner() const { return owner_; }

  Array reshaped(const Shape& shape) const;  // the same memory; numel must agree
  Array to(DType dtype) const;               // a converted copy (round to nearest even), or itself

 private:
  DType dtype_ = DType::kFloat32;
  Shape shape_;
  int64_t numel_ = 0;
  void* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

}  // namespace trireme
