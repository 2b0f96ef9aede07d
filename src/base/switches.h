// Switches from the environment.
#pragma once

#include <string_view>

namespace trireme {

// Whether the variable, a list with commas, has this name in it.
bool listed(const char* variable, std::string_view name);

// Whether $TRIREME_DISABLE lists it: a pass, "record", "autotune", "cudnn_conv" and
// "cublaslt" (where a kernel of our own serves).
inline bool is_disabled(std::string_view name) { return listed("TRIREME_DISABLE", name); }

}  // namespace trireme
