// Convolutions and their weights' gradients as plain loops: the dtypes that no fast kernel serves.
#pragma once

#include "graph/kernel.h"

namespace trireme {

// Of a conv2d, conv2d_transpose or conv2d_wgrad node, any floating dtype and layout.
Kernel reference_conv(const Prepare& p);

}  // namespace trireme
