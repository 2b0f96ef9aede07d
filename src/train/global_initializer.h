// What set_global_initializer() said on this thread; empty functions where nothing.
#pragma once

#include "trireme/layer.h"

namespace trireme::nn {

Initializer& global_weight_initializer();
Initializer& global_bias_initializer();

}  // namespace trireme::nn
