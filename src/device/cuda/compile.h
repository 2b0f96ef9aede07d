// Kernels from source text: compiled by NVRTC for the current device, kept in memory and on disk.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

namespace trireme::cuda {

// The function `name` (extern "C") of `source`, for the device that is current on this thread. The
// same text gives the same kernel; it stays loaded to the end. Thread-safe. The machine code is
// kept on disk (disk_cache.h) by text, architecture and NVRTC's version. Throws kUnavailable
// without NVRTC, kInternal with the compiler's log.
cudaKernel_t compiled_kernel(const std::string& source, const char* name);

// The machine code of `source` for an architecture ("sm_90"), past all caches. Needs no GPU.
std::string compile_source(const std::string& source, const std::string& architecture);

}  // namespace trireme::cuda
