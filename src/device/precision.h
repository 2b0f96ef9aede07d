// How exact products of float32 are on a GPU.
#pragma once

namespace trireme {

enum class Products { kConvolutions, kMatrices };

// Whether they may be computed in TF32 (10 bits of mantissa, sums in float32). At the start it is
// what $FLAGS_allow_tf32_cudnn and $FLAGS_allow_tf32_cublas say ("0", "1"); without them
// convolutions may, matrix products may not. Kernels that were prepared before a change stay as
// they are. Thread-safe.
bool allows_tf32(Products products);
void allow_tf32(Products products, bool allowed);

}  // namespace trireme
