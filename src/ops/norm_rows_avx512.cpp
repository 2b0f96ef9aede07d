// The normalisations' loops with AVX-512.
#include "ops/norm_rows.inc"

namespace trireme {

const NormRows<float, float>& norm_rows_avx512() { return kRows<float, float>; }

}  // namespace trireme
