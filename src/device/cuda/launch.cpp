// What the active device can do for launches.
#include "device/cuda/launch.h"

#include "device/cuda/check.h"

namespace trireme::cuda {

bool launches_overlap() {
  static const bool can = [] {
    int device = 0, major = 0;
    TRI_CUDA_CALL(cudaGetDevice(&device));
    TRI_CUDA_CALL(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    return major >= 9;
  }();
  return can;
}

}  // namespace trireme::cuda
