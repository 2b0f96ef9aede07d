// How PIR spells operators, and what the legacy format, whose names the translations use, calls the
// same things.
#pragma once

#include <string_view>

namespace trireme {

struct PirName {
  std::string_view pir;
  std::string_view legacy;
  std::string_view inputs = "X";     // slots of the operands, in order; "-": not used
  std::string_view outputs = "Out";  // slots of the results, in order; further results are not used
  std::string_view renames = "";     // attributes: "perm=axis keepdim=keep_dim"
};

// The entry of an operator, also under its in-place name ("relu_"); null when there is none.
const PirName* find_pir_name(std::string_view pir);

}  // namespace trireme
