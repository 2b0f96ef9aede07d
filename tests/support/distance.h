// How far two arrays are apart.
#pragma once

#include <algorithm>
#include <cmath>

#include "trireme/array.h"

namespace trireme::test {

// Largest difference relative to the largest finite value wanted, but no less than `floor`; NaN and
// infinity have to agree. Infinite for another shape or dtype.
inline double distance(const Array& got, const Array& want, double floor = 1e-6) {
  if (got.shape() != want.shape() || got.dtype() != want.dtype()) return HUGE_VAL;
  const Array a = got.to(DType::kFloat64), b = want.to(DType::kFloat64);
  double scale = floor, worst = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.as<double>()[i], y = b.as<double>()[i];
    if (std::isfinite(y)) scale = std::max(scale, std::abs(y));
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    const double d = std::abs(x - y);
    worst = std::max(worst, std::isnan(d) ? HUGE_VAL : d);
  }
  return worst / scale;
}

}  // namespace trireme::test
