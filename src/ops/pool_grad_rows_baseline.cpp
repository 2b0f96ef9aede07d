// The loops of pool2d's gradient for every processor and dtype, and the choice.
#include "base/cpu_features.h"
#include "ops/elements.h"
#include "ops/pool_grad_rows.inc"

namespace trireme {

template <> const PoolGradRows<float>& pool_grad_rows() {
  return cpu_features().avx512 ? pool_grad_rows_avx512() : kPoolGradRows<float>;
}
template <> const PoolGradRows<double>& pool_grad_rows() { return kPoolGradRows<double>; }
template <> const PoolGradRows<BFloat16>& pool_grad_rows() { return kPoolGradRows<BFloat16>; }
template <> const PoolGradRows<Float16>& pool_grad_rows() { return kPoolGradRows<Float16>; }

}  // namespace trireme
