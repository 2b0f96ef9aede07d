// Array: aligned memory, dtype conversion.
#include "trireme/array.h"

#include <sys/mman.h>

#include <cmath>
#include <cstdlib>

#include "base/half.h"

namespace trireme {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage =
    size_t{2} << 20;  // large tensors ask for them: weights are streamed, TLB misses show

template <class F> void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kBool:
    case DType::kUInt8: return f(uint8_t{});
    case DType::kInt8: return f(int8_t{});
    case DType::kInt16: return f(int16_t{});
    case DType::kInt32: return f(int32_t{});
    case DType::kInt64: return f(int64_t{});
    case DType::kFloat32: return f(float{});
    case DType::kFloat64: return f(double{});
    case DType::kFloat16:
    case DType::kBFloat16: return f(uint16_t{});
  }
}

double load(const void* p, DType dtype, int64_t i) {
  double v = 0;
  with_type(dtype, [&](auto t) {
    const auto x = static_cast<const decltype(t)*>(p)[i];
    if (dtype == DType::kFloat16) v = half_to_float(static_cast<uint16_t>(x));
    else if (dtype == DType::kBFloat16) v = bf16_to_float(static_cast<uint16_t>(x));
    else v = static_cast<double>(x);
  });
  return v;
}

void store(void* p, DType dtype, int64_t i, double v) {
  with_type(dtype, [&](auto t) {
    using T = decltype(t);
    T& x = static_cast<T*>(p)[i];
    if (dtype == DType::kFloat16) x = static_cast<T>(float_to_half(static_cast<float>(v)));
    else if (dtype == DType::kBFloat16) x = static_cast<T>(float_to_bf16(static_cast<float>(v)));
    else if (dtype == DType::kBool) x = static_cast<T>(v != 0);
    else x = static_cast<T>(v);
  });
}

}  // namespace

Array::Array(DType dtype, const Shape& shape)
    : dtype_(dtype), shape_(shape), numel_(shape.numel()) {
  int64_t bytes = 0;
  TRI_CHECK(!__builtin_mul_overflow(numel_, static_cast<int64_t>(size_of(dtype)), &bytes) &&
                bytes < (int64_t{1} << 62),
            "[array] the shape " + shape.str() + " has too many bytes");
  const size_t alignment = static_cast<size_t>(bytes) >= 2 * kHugePage ? kHugePage : kAlignment;
  const size_t rounded = (static_cast<size_t>(bytes) + alignment) / alignment * alignment;
  void* p = std::aligned_alloc(alignment, rounded);
  if (p == nullptr)
    fail(Code::kResourceExhausted,
         "[array] no memory for " + std::to_string(bytes) + " bytes " + shape.str());
  if (alignment == kHugePage) madvise(p, rounded, MADV_HUGEPAGE);
  owner_ = std::shared_ptr<const void>(p, [](const void* q) { std::free(const_cast<void*>(q)); });
  data_ = p;
}

Array::Array(DType dtype, const Shape& shape, void* data, std::shared_ptr<const void> owner)
    : dtype_(dtype), shape_(shape), numel_(shape.numel()), data_(data), owner_(std::move(owner)) {}

Array Array::reshaped(const Shape& shape) const {
  TRI_CHECK(shape.numel() == numel_, "[array] cannot view " + shape_.str() + " as " + shape.str());
  Array t = *this;
  t.shape_ = shape;
  return t;
}

Array Array::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  Array t(dtype, shape_);
  if (is_floating(dtype) || is_floating(dtype_)) {
    for (int64_t i = 0; i < numel_; ++i) store(t.data_, dtype, i, load(data_, dtype_, i));
  } else {  // 64-bit integers do not fit a double
    with_type(dtype_, [&](auto from) {
      with_type(dtype, [&](auto into) {
        using From = decltype(from);
        using Into = decltype(into);
        for (int64_t i = 0; i < numel_; ++i) {
          const From v = static_cast<const From*>(data_)[i];
          static_cast<Into*>(t.data_)[i] =
              dtype == DType::kBool ? static_cast<Into>(v != 0) : static_cast<Into>(v);
        }
      });
    });
  }
  return t;
}

}  // namespace trireme
