// NVRTC and the caches of what it made.
#include "device/cuda/compile.h"

#include <nvrtc.h>

#include <map>
#include <mutex>

#include "device/cuda/check.h"
#include "device/cuda/disk_cache.h"
#include "device/cuda/library.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

void check_nvrtc(nvrtcResult result, const char* call) {
  if (result != NVRTC_SUCCESS)
    fail(Code::kInternal, std::string("[nvrtc] ") + call + ": " +
                              TRI_SYMBOL(Lib::kNvrtc, nvrtcGetErrorString)(result));
}
#define TRI_NVRTC(function, ...) \
  check_nvrtc(TRI_SYMBOL(Lib::kNvrtc, function)(__VA_ARGS__), #function)

std::string nvrtc_version() {
  int major = 0, minor = 0;
  TRI_NVRTC(nvrtcVersion, &major, &minor);
  return std::to_string(major) + '.' + std::to_string(minor);
}

std::string cached_code(const std::string& source, const std::string& architecture) {
  static const DiskCache cache("kernels");
  const std::string key = architecture + '\n' + nvrtc_version() + '\n' + source;
  if (auto code = cache.get(key)) return *code;
  std::string code = compile_source(source, architecture);
  cache.put(key, code);
  return code;
}

std::string current_architecture() {
  int device = 0, major = 0, minor = 0;
  TRI_CUDA_CALL(cudaGetDevice(&device));
  TRI_CUDA_CALL(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  TRI_CUDA_CALL(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return "sm_" + std::to_string(10 * major + minor);
}

}  // namespace

std::string compile_source(const std::string& source, const std::string& architecture) {
  nvrtcProgram program = nullptr;
  TRI_NVRTC(nvrtcCreateProgram, &program, source.c_str(), "trireme.cu", 0, nullptr, nullptr);
  const std::string target = "--gpu-architecture=" + architecture;
  const char* options[] = {target.c_str(), "--std=c++17", "-w",
                           "--device-as-default-execution-space"};
  const nvrtcResult result =
      TRI_SYMBOL(Lib::kNvrtc, nvrtcCompileProgram)(program, std::size(options), options);
  std::string code;
  size_t size = 0;
  if (result == NVRTC_SUCCESS) {
    TRI_NVRTC(nvrtcGetCUBINSize, program, &size);
    code.resize(size);
    TRI_NVRTC(nvrtcGetCUBIN, program, code.data());
  } else if (TRI_SYMBOL(Lib::kNvrtc, nvrtcGetProgramLogSize)(program, &size) == NVRTC_SUCCESS) {
    code.resize(size);
    TRI_SYMBOL(Lib::kNvrtc, nvrtcGetProgramLog)(program, code.data());
  }
  TRI_SYMBOL(Lib::kNvrtc, nvrtcDestroyProgram)(&program);
  if (result != NVRTC_SUCCESS) fail(Code::kInternal, "[nvrtc] " + code + "\nof\n" + source);
  return code;
}

cudaKernel_t compiled_kernel(const std::string& source, const char* name) {
  static std::mutex mutex;
  static std::map<std::string, cudaKernel_t> kernels;
  const std::string architecture = current_architecture();
  const std::string key = architecture + ' ' + name + '\n' + source;
  const std::lock_guard lock(mutex);
  if (const auto it = kernels.find(key); it != kernels.end()) return it->second;
  const std::string code = cached_code(source, architecture);
  cudaLibrary_t loaded = nullptr;
  TRI_CUDA_CALL(
      cudaLibraryLoadData(&loaded, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  cudaKernel_t kernel = nullptr;
  TRI_CUDA_CALL(cudaLibraryGetKernel(&kernel, loaded, name));
  return kernels[key] = kernel;
}

}  // namespace trireme::cuda
