// Random numbers for every processor, and the choice.
#include "base/cpu_features.h"
#include "ops/random_rows.inc"

namespace trireme {

const RandomRows& random_rows() {
  return cpu_features().avx512 ? random_rows_avx512() : kRandomRows;
}

}  // namespace trireme
