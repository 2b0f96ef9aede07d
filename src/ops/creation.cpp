// Functions that record constants: full, arange, shape_of.
#include <cmath>

#include "ops/elements.h"
#include "ops/shape.h"

namespace trireme::ops {
namespace {

// A constant of more elements than this is an expanded scalar instead.
constexpr int64_t kLargestConstant = 4096;

}  // namespace

Value* full(const std::vector<int64_t>& shape, double value, DType dtype) {
  TRI_CHECK(shape.size() <= Shape::kMaxRank,
            message("full", "shape expects at most ", Shape::kMaxRank, " dimensions, got ",
                    shape.size()));
  for (const int64_t d : shape)
    TRI_CHECK(d >= 0, message("full", "shape expects dimensions of 0 or more, got ", d));
  const Shape to{std::span(shape)};
  if (to.numel() > kLargestConstant) return expand(scalar(value, dtype), shape);
  Array t(DType::kFloat64, to);
  std::fill(t.as<double>(), t.as<double>() + t.numel(), value);
  return constant(t.to(dtype));
}

Value* arange(double start, double end, double step, DType dtype) {
  const double count = std::ceil((end - start) / step);
  TRI_CHECK(step != 0 && std::isfinite(count) && count < 0x1p31,
            message("arange", "step expects a value that leads from start to end, got ",
                    std::to_string(step)));
  Array t(DType::kFloat64, Shape{static_cast<int64_t>(std::max(0.0, count))});
  for (int64_t i = 0; i < t.numel(); ++i) t.as<double>()[i] = start + static_cast<double>(i) * step;
  return constant(t.to(dtype));
}

Value* shape_of(Value* x, DType dtype) {
  const Shape& shape = x->type.shape;
  return constant(Array::from(Shape{shape.rank()}, shape.dims(), DType::kInt64).to(dtype));
}

}  // namespace trireme::ops
