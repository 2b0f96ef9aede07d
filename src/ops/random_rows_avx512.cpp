// Random numbers with AVX-512.
#include "ops/random_rows.inc"

namespace trireme {

const RandomRows& random_rows_avx512() { return kRandomRows; }

}  // namespace trireme
