// Type: what a value is: element type, logical shape, physical layout.
#pragma once

#include <string>

#include "trireme/types.h"

namespace trireme {

// How a value of rank >= 3 lies in memory. The shape stays logical (N, C, spatial...) whatever the
// layout.
enum class Layout : uint8_t {
  kPlain,         // row-major, as the shape reads
  kChannelsLast,  // dimension 1 is innermost: N, spatial..., C
};

struct Type {
  DType dtype = DType::kFloat32;
  Shape shape;
  Layout layout = Layout::kPlain;

  size_t bytes() const { return static_cast<size_t>(shape.numel()) * size_of(dtype); }
  std::string str() const;  // "float32[1, 3, 8, 8]", with " nhwc" behind when channels-last
  friend bool operator==(const Type&, const Type&) = default;
};

// True when both layouts put the elements of this shape in the same order (one channel, or one
// pixel).
bool layouts_agree(const Shape& shape);

// The dimensions in the order they lie in memory, outermost first.
Shape physical_shape(const Type& type);

}  // namespace trireme
