// Device: where tensors live and plans run. The CPU is one; GPUs come from device/cuda.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "device/memory.h"

namespace trireme {

// Memory of one value. Free for overwriting when nobody else holds `owner`.
struct Storage {
  void* data = nullptr;
  std::shared_ptr<const void> owner;
};

// Thread-safe.
class Device {
 public:
  virtual ~Device() = default;
  const std::string& name() const { return name_; }  // "cpu", "gpu:0"
  MemoryPool& pool() { return *pool_; }
  const std::shared_ptr<MemoryPool>& shared_pool() const { return pool_; }
  bool is_host() const { return name_ == "cpu"; }

  // 64-byte aligned, contents undefined, counted in the pool; `what` names it in the error.
  virtual Storage allocate(int64_t bytes, const char* what) = 0;
  virtual void upload(void* to, const void* from, size_t bytes) = 0;    // host to device
  virtual void download(void* to, const void* from, size_t bytes) = 0;  // waits for the result

 protected:
  Device(std::string name, std::shared_ptr<MemoryPool> pool)
      : name_(std::move(name)), pool_(std::move(pool)) {}

 private:
  std::string name_;
  std::shared_ptr<MemoryPool> pool_;
};

// The device of that name ("cpu", "gpu", "gpu:1"); one object each, alive until the end. Throws
// kUnavailable with the reason when it cannot be used, kInvalidArgument for a name that is none.
Device& device(const std::string& name);

}  // namespace trireme
