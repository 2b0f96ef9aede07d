// Elements: the number types behind DType, dispatch from a DType to a template, and wording of an
// operator's errors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "base/half.h"
#include "graph/kernel.h"

namespace trireme {

// The half types as numbers: read as float, stored rounded to nearest even.
struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  explicit BFloat16(float value) : bits(float_to_bf16(value)) {}
  operator float() const { return bf16_to_float(bits); }
};
struct Float16 {
  uint16_t bits;
  Float16() = default;
  explicit Float16(float value) : bits(float_to_half(value)) {}
  operator float() const { return half_to_float(bits); }
};

// The type in which a kernel computes: float for the halves, 64 bits for integers.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>, float,
                                   std::conditional_t<std::is_integral_v<T>, int64_t, T>>;

template <class T> using Tag = std::type_identity<T>;

namespace detail {
inline void append(std::string& s, std::string_view part) { s += part; }
inline void append(std::string& s, const char* part) { s += part; }
inline void append(std::string& s, const Shape& part) { s += part.str(); }
inline void append(std::string& s, DType part) { s += name_of(part); }
template <class T>
requires std::is_integral_v<T>
void append(std::string& s, T part) { s += std::to_string(part); }
}  // namespace detail

// "[name] part part ...".
template <class... Parts> std::string message(std::string_view op, const Parts&... parts) {
  std::string s(1, '[');
  s.append(op).append("] ");
  (detail::append(s, parts), ...);
  return s;
}

[[noreturn]] inline void fail_dtype(const Op& op, DType dtype) {
  fail(Code::kUnimplemented, message(op.name, "has no CPU kernel for ", dtype));
}

// f(Tag<T>) for a floating dtype.
template <class F> auto with_floating(const Op& op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::kFloat32: return f(Tag<float>{});
    case DType::kBFloat16: return f(Tag<BFloat16>{});
    case DType::kFloat16: return f(Tag<Float16>{});
    case DType::kFloat64: return f(Tag<double>{});
    default: fail_dtype(op, dtype);
  }
}

// f(Tag<T>) for every dtype that can be computed with.
template <class F> auto with_number(const Op& op, DType dtype, F&& f) {
  switch (dtype) {
    case DType::kBool: return f(Tag<uint8_t>{});
    case DType::kUInt8: return f(Tag<uint8_t>{});
    case DType::kInt8: return f(Tag<int8_t>{});
    case DType::kInt16: return f(Tag<int16_t>{});
    case DType::kInt32: return f(Tag<int32_t>{});
    case DType::kInt64: return f(Tag<int64_t>{});
    default: return with_floating(op, dtype, f);
  }
}

// f(Tag<T>) with an unsigned type of that many bytes, for kernels that only move elements.
template <class F> auto with_size(size_t bytes, F&& f) {
  switch (bytes) {
    case 1: return f(Tag<uint8_t>{});
    case 2: return f(Tag<uint16_t>{});
    case 4: return f(Tag<uint32_t>{});
    default: return f(Tag<uint64_t>{});
  }
}

// The axis in [0, rank), from one that may count from the end.
inline int64_t normal_axis(std::string_view op, int64_t axis, int64_t rank) {
  TRI_CHECK(axis >= -rank && axis < rank,
            message(op, "axis expects a value in [", -rank, ", ", rank, "), got ", axis));
  return axis < 0 ? axis + rank : axis;
}

// A shape seen from one dimension: the elements before it, along it, behind it.
struct AxisSplit {
  int64_t outer = 1, size = 1, inner = 1;
};
inline AxisSplit split_at(const Shape& shape, int64_t axis) {
  AxisSplit s;
  for (int d = 0; d < shape.rank(); ++d)
    (d < axis ? s.outer : d == axis ? s.size : s.inner) *= shape[d];
  return s;
}

// Where logical dimension `axis` stands in the memory order of `type`.
inline int physical_axis(const Type& type, int axis) {
  if (type.layout == Layout::kPlain || type.shape.rank() < 3 || axis == 0) return axis;
  return axis == 1 ? type.shape.rank() - 1 : axis - 1;
}

inline bool channels_last(const Type& type) {
  return type.layout == Layout::kChannelsLast && type.shape.rank() >= 3;
}

// Elements a parallel task should at least have, and the same in items of `size` elements.
constexpr int64_t kTaskElements = 16384;
inline int64_t grain_of(int64_t size) {
  return std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, size));
}

constexpr size_t align_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

// The sum of f(x[i]): 16 sums side by side that compilers turn into vectors, brought into double
// every few thousand elements, so that long rows lose nothing.
template <class A, class T, class F> double blocked_sum(const T* x, int64_t n, F f) {
  constexpr int64_t kLanes = 16, kBlock = 4096;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(n, begin + kBlock);
    A part[kLanes] = {};
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      for (int64_t k = 0; k < kLanes; ++k) part[k] += f(A(x[i + k]));
    for (; i < end; ++i) part[0] += f(A(x[i]));
    for (const A v : part) total += static_cast<double>(v);
  }
  return total;
}

// A small input (scale, bias, mean) in the type A that a kernel computes in: a constant is
// converted at plan time.
template <class A> class Param {
 public:
  Param(const Prepare& p, size_t index) : index_(index), present_(p.has(index)) {
    if (!present_) return;
    constexpr DType kOwn = std::is_same_v<A, double> ? DType::kFloat64 : DType::kFloat32;
    dtype_ = p.in(index).dtype;
    size_ = p.in(index).shape.numel();
    direct_ = dtype_ == kOwn;
    if (const Array* value = p.constant(index); value && !direct_) fixed_ = value->to(kOwn);
  }

  explicit operator bool() const { return present_; }
  int64_t size() const { return size_; }
  bool is_fixed() const { return !present_ || fixed_.defined(); }
  // Elements of scratch that get() may use.
  int64_t scratch() const { return !present_ || direct_ || fixed_.defined() ? 0 : size_; }

  // The values, or null when absent; moves `scratch` behind what it used.
  const A* get(const Launch& l, A*& scratch) const {
    if (!present_) return nullptr;
    if (fixed_.defined()) return fixed_.template as<A>();
    if (direct_) return l.input<A>(index_);
    A* to = scratch;
    scratch += size_;
    for (int64_t i = 0; i < size_; ++i) to[i] = load(l.in[index_], i);
    return to;
  }

 private:
  A load(const void* from, int64_t i) const {
    switch (dtype_) {
      case DType::kBFloat16: return static_cast<const BFloat16*>(from)[i];
      case DType::kFloat16: return static_cast<const Float16*>(from)[i];
      case DType::kFloat64: return static_cast<A>(static_cast<const double*>(from)[i]);
      default: return static_cast<A>(static_cast<const float*>(from)[i]);
    }
  }

  size_t index_;
  bool present_, direct_ = false;
  DType dtype_ = DType::kFloat32;
  int64_t size_ = 0;
  Array fixed_;
};

// The results of an operator that has nothing to work on.
inline Kernel zero_outputs(const Prepare& p) {
  std::vector<size_t> bytes;
  for (const auto& v : p.node.outputs) bytes.push_back(v->type.bytes());
  return {[bytes](const Launch& l) {
    for (size_t i = 0; i < bytes.size(); ++i)
      if (bytes[i] > 0) std::memset(l.out[i], 0, bytes[i]);
  }};
}

}  // namespace trireme
