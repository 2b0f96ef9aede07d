// Can this program run anything on a GPU? A small kernel answers, and tells why not.
#include <cstdint>
#include <string>
#include <vector>

#include "device/cuda/check.h"
#include "device/cuda/gpu.h"
#include "device/cuda/library.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

__global__ void add_kernel(const uint32_t* x, const uint32_t* y, uint32_t* sum, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) sum[i] = x[i] + y[i];
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + '.' + std::to_string(version % 1000 / 10);
}

std::string describe(cudaError_t error) {
  return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ", " +
         std::to_string(static_cast<int>(error)) + ')';
}

std::string no_devices(cudaError_t error) {
  const Library& driver = library(Lib::kDriver);
  if (driver.handle == nullptr) return "the CUDA driver library cannot be loaded: " + driver.error;
  int have = 0, need = 0;
  (void)cudaDriverGetVersion(&have);
  (void)cudaRuntimeGetVersion(&need);
  if (error == cudaErrorInsufficientDriver || (have > 0 && have / 1000 < need / 1000))
    return "the driver serves CUDA " + version_text(have) + ", this program needs " +
           version_text(need) + ": install a newer driver";
  if (error == cudaErrorStubLibrary)
    return driver.path + " is the toolkit's stub, not the driver's library";
  if (error == cudaSuccess || error == cudaErrorNoDevice)
    return "the driver shows no device (CUDA_VISIBLE_DEVICES hides those that it does not list)";
  return describe(error);
}

}  // namespace

std::string why_not(int index) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (error != cudaSuccess || count == 0) return no_devices(error);
  if (index >= count)
    return count == 1 ? "there is one device, gpu:0"
                      : "there are " + std::to_string(count) +
                            " devices, gpu:0 to gpu:" + std::to_string(count - 1);
  error = cudaSetDevice(index);
  if (error == cudaSuccess) error = cudaFree(nullptr);  // makes the context
  cudaFuncAttributes attributes;
  if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, add_kernel);
  (void)cudaGetLastError();
  if (error == cudaSuccess) return {};
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
      error == cudaErrorUnsupportedPtxVersion) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, index) != cudaSuccess) p.major = p.minor = 0;
    std::string list;
    for (const std::string& a : built_architectures()) list += (list.empty() ? "" : ", ") + a;
    return std::string(p.name) + " has compute capability " + std::to_string(p.major) + '.' +
           std::to_string(p.minor) + ", this program has code for " + list +
           " (build it with -DTRIREME_CUDA_ARCHITECTURES=" + std::to_string(p.major) +
           std::to_string(p.minor) + ')';
  }
  return describe(error);
}

std::string probe(int index) {
  constexpr int kCount = 1 << 18;
  try {
    TRI_CUDA_CALL(cudaSetDevice(index));
    std::vector<uint32_t> x(kCount), y(kCount), sum(kCount, 0);
    for (int i = 0; i < kCount; ++i) {
      x[static_cast<size_t>(i)] = static_cast<uint32_t>(i) * 2654435761u;
      y[static_cast<size_t>(i)] = static_cast<uint32_t>(i) ^ 0x5bd1e995u;
    }
    const size_t bytes = sizeof(uint32_t) * kCount;
    uint32_t* memory = nullptr;
    TRI_CUDA_CALL(cudaMalloc(reinterpret_cast<void**>(&memory), 3 * bytes));
    struct Free {
      void* p;
      ~Free() { (void)cudaFree(p); }
    } const guard{memory};
    TRI_CUDA_CALL(cudaMemcpy(memory, x.data(), bytes, cudaMemcpyHostToDevice));
    TRI_CUDA_CALL(cudaMemcpy(memory + kCount, y.data(), bytes, cudaMemcpyHostToDevice));
    add_kernel<<<(kCount + 255) / 256, 256>>>(memory, memory + kCount, memory + 2 * kCount, kCount);
    TRI_CUDA_LAUNCHED();
    TRI_CUDA_CALL(cudaMemcpy(sum.data(), memory + 2 * kCount, bytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < kCount; ++i)
      if (sum[i] != x[i] + y[i]) return "a sum came out wrong at element " + std::to_string(i);
  } catch (const Error& e) { return e.message(); }
  return {};
}

}  // namespace trireme::cuda
