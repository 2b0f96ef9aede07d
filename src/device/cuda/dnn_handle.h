// Handles of cuDNN and the errors of its calls, for the files that call it.
#pragma once

#include <cudnn.h>

#include <string>

#include "device/cuda/library.h"

namespace trireme::cuda {

// Throws for everything but success: kResourceExhausted, kUnimplemented, kInternal.
void check_dnn(cudnnStatus_t status, const char* call);

// A handle serves one thread at a time: who needs one takes it for the life of this object. Of the
// device that is current on this thread.
class DnnHandle {
 public:
  DnnHandle();
  explicit DnnHandle(void* stream);  // a cudaStream_t, on which it works
  ~DnnHandle();
  DnnHandle(const DnnHandle&) = delete;
  DnnHandle& operator=(const DnnHandle&) = delete;
  cudnnHandle_t get() const { return handle_; }

 private:
  int device_ = 0;
  cudnnHandle_t handle_ = nullptr;
};

}  // namespace trireme::cuda

#define TRI_DNN_CALL(function, ...) \
  ::trireme::cuda::check_dnn(TRI_SYMBOL(Lib::kCudnn, function)(__VA_ARGS__), #function)
