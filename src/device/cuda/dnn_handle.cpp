// A pool of cuDNN's handles for each device.
#include "device/cuda/dnn_handle.h"

#include <map>
#include <mutex>
#include <vector>

#include "device/cuda/check.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

struct Pool {
  std::mutex mutex;
  std::map<int, std::vector<cudnnHandle_t>> idle;
};
Pool& pool() {
  static auto& all = *new Pool;  // outlives every static plan
  return all;
}

}  // namespace

void check_dnn(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  Code code = Code::kInternal;
  if (status == CUDNN_STATUS_ALLOC_FAILED) code = Code::kResourceExhausted;
  if (status / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000) code = Code::kUnimplemented;
  fail(code, std::string("[cudnn] ") + call + ": " +
                 TRI_SYMBOL(Lib::kCudnn, cudnnGetErrorString)(status));
}

DnnHandle::DnnHandle() {
  TRI_CUDA_CALL(cudaGetDevice(&device_));
  {
    const std::lock_guard lock(pool().mutex);
    auto& idle = pool().idle[device_];
    if (!idle.empty()) {
      handle_ = idle.back();
      idle.pop_back();
      return;
    }
  }
  TRI_DNN_CALL(cudnnCreate, &handle_);
}

DnnHandle::DnnHandle(void* stream) : DnnHandle() {
  TRI_DNN_CALL(cudnnSetStream, handle_, static_cast<cudaStream_t>(stream));
}

DnnHandle::~DnnHandle() {
  const std::lock_guard lock(pool().mutex);
  pool().idle[device_].push_back(handle_);
}

}  // namespace trireme::cuda
