// TRI_CUDA_CALL: calls of the CUDA runtime, whose errors become trireme::Error.
#pragma once

#include <cuda_runtime_api.h>

namespace trireme::cuda {

// Throws: kResourceExhausted for lack of memory, kUnavailable when the device cannot be used,
// kInternal for the rest. Clears the runtime's last error, so that one that can be survived is not
// reported again by the next call.
[[noreturn]] void fail_cuda(cudaError_t error, const char* call, const char* file, int line);

}  // namespace trireme::cuda

#define TRI_CUDA_CALL(...)                                                            \
  do {                                                                                \
    if (const cudaError_t error_ = (__VA_ARGS__); error_ != cudaSuccess) [[unlikely]] \
      ::trireme::cuda::fail_cuda(error_, #__VA_ARGS__, __FILE__, __LINE__);           \
  } while (0)

// Behind a kernel launch: what the launch itself did wrong (its configuration, no code for the
// device).
#define TRI_CUDA_LAUNCHED() TRI_CUDA_CALL(cudaGetLastError())
