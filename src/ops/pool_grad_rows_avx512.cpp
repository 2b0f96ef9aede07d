// The loops of pool2d's gradient with AVX-512.
#include "ops/pool_grad_rows.inc"

namespace trireme {

const PoolGradRows<float>& pool_grad_rows_avx512() { return kPoolGradRows<float>; }

}  // namespace trireme
