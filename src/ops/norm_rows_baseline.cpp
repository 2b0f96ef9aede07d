// The normalisations' loops for every processor and dtype, and the choice.
#include "base/cpu_features.h"
#include "ops/elements.h"
#include "ops/norm_rows.inc"

namespace trireme {

template <> const NormRows<float, float>& norm_rows() {
  return cpu_features().avx512 ? norm_rows_avx512() : kRows<float, float>;
}
template <> const NormRows<double, double>& norm_rows() { return kRows<double, double>; }
template <> const NormRows<BFloat16, float>& norm_rows() { return kRows<BFloat16, float>; }
template <> const NormRows<Float16, float>& norm_rows() { return kRows<Float16, float>; }

}  // namespace trireme
