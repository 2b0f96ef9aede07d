// Errors of the CUDA runtime.
#include "device/cuda/check.h"

#include <string>
#include <string_view>

#include "trireme/error.h"

namespace trireme::cuda {

void fail_cuda(cudaError_t error, const char* call, const char* file, int line) {
  (void)cudaGetLastError();
  Code code = Code::kInternal;
  switch (error) {
    case cudaErrorMemoryAllocation: code = Code::kResourceExhausted; break;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemNotReady:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion: code = Code::kUnavailable; break;
    default: break;
  }
  std::string_view name = call;
  name = name.substr(0, name.find('('));
  std::string_view source = file;
  if (const size_t at = source.rfind("src/"); at != std::string_view::npos)
    source = source.substr(at + 4);
  fail(code,
       "[cuda] " + std::string(name) + ": " + cudaGetErrorString(error) + " (" +
           cudaGetErrorName(error) + ')',
       std::string(source) + ':' + std::to_string(line));
}

}  // namespace trireme::cuda
