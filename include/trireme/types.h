// DType and Shape: what a tensor's elements are and how many there are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace trireme {

enum class DType : uint8_t {
  kBool,
  kUInt8,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64
};

size_t size_of(DType dtype);            // bytes of one element
std::string_view name_of(DType dtype);  // "float32"
bool is_floating(DType dtype);
DType dtype_from_name(std::string_view name);  // throws kInvalidArgument

// Up to 8 dimensions, outermost first. Rank 0 is a scalar. Cheap to copy; no allocation.
class Shape {
 public:
  static constexpr int kMaxRank = 8;
  static constexpr int64_t kUnknown = -1;  // only in the declared inputs of an imported program

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  int64_t& operator[](int i) { return dims_[static_cast<size_t>(i)]; }
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }
  int64_t back() const { return dims_[static_cast<size_t>(rank_ - 1)]; }
  void push_back(int64_t dim);

  // Product of the dimensions; throws kInvalidArgument when it does not fit in 63 bits or a
  // dimension is negative.
  int64_t numel() const;
  bool known() const;       // no dimension is kUnknown
  std::string str() const;  // "[1, 3, 640, 640]"

  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// A shape written as "1x3x640x640" (the command line's form) or "[1, 3, 640, 640]"; throws
// kInvalidArgument.
Shape shape_from_text(std::string_view text);

}  // namespace trireme
