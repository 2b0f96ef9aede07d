// RandomStream::normal, by Box and Muller's formula (its second number is dropped: no state to
// keep).
#include "trireme/random_stream.h"

#include <cmath>
#include <numbers>

namespace trireme {

double RandomStream::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

}  // namespace trireme
