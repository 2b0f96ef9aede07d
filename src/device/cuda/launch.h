// Kernels whose launch is hidden behind the end of the kernel in front of them.
#pragma once

#include <cuda_runtime_api.h>

namespace trireme::cuda {

// Whether the active device can (from compute capability 9.0 on). A kernel that is launched with
// overlap_attribute() waits by griddepcontrol.wait before it touches memory that others write.
bool launches_overlap();

inline cudaLaunchAttribute overlap_attribute() {
  cudaLaunchAttribute a{};
  a.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  a.val.programmaticStreamSerializationAllowed = 1;
  return a;
}

}  // namespace trireme::cuda
