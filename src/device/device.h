// Device: where tensors live and plans run. The CPU is one; GPUs come from device/cuda.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/memory.h"

namespace trireme {

// Memory of one value. Free for overwriting when nobody else holds `owner`.
struct Storage {
  void* data = nullptr;
  std::shared_ptr<const void> owner;
};

// Work of a device that was recorded once and is started again by one call, with the same pointers.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void launch() = 0;  // in the order of the device's work; does not wait
};

// Marks in the order of a device's work.
class Timer {
 public:
  virtual ~Timer() = default;
  virtual void mark() = 0;
  virtual std::vector<double> read_us() = 0;  // when each mark was reached; waits for the last one
};

struct DeviceInfo {
  std::string model;         // "NVIDIA H100 80GB HBM3"
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t total_bytes = 0;
};

// Thread-safe. A GPU works in one order, that of the calls, behind the host's back: everything but
// download() and synchronize() returns at once, and memory that was let go of may be handed out
// again while work that uses it is under way, since what comes later runs later.
class Device {
 public:
  virtual ~Device() = default;
  const std::string& name() const { return name_; }  // "cpu", "gpu:0"
  MemoryPool& pool() { return *pool_; }
  const std::shared_ptr<MemoryPool>& shared_pool() const { return pool_; }
  bool is_host() const { return name_ == "cpu"; }

  // 64-byte aligned (512 on a GPU), contents undefined, counted in the pool; `what` (a literal)
  // names it in errors.
  virtual Storage allocate(int64_t bytes, const char* what) = 0;
  // New memory with a copy of host memory, which may be reused at once.
  virtual Storage upload(const void* from, int64_t bytes, const char* what) = 0;
  virtual void download(void* to, const void* from, size_t bytes) = 0;  // waits for the result
  virtual void synchronize() {}  // waits for everything; reports faults of earlier work

  // ---- for plans; `stream` is what record() hands out, null: the device's own order
  virtual void activate() {}  // before work is given to it on this thread
  virtual void* stream() { return nullptr; }
  virtual void copy(void* to, const void* from, size_t bytes, void* stream = nullptr) = 0;
  // Runs `work` without executing what it gives to the stream it gets. Null where the device cannot
  // do that, or some work cannot be recorded.
  virtual std::unique_ptr<Recording> record(const std::function<void(void* stream)>& work);
  virtual std::unique_ptr<Timer> timer() { return nullptr; }  // null: the host's clock serves
  virtual void begin_range(const char*) {}  // names what follows in a vendor's profiler
  virtual void end_range() {}

  virtual DeviceInfo info() const { return {}; }
  virtual int64_t reserved_bytes() const { return pool_->used(); }  // with what waits for reuse
  virtual int64_t peak_reserved_bytes() const { return pool_->peak(); }
  virtual void trim() {}  // gives memory that waits for reuse back to the system

 protected:
  Device(std::string name, std::shared_ptr<MemoryPool> pool)
      : name_(std::move(name)), pool_(std::move(pool)) {}

 private:
  std::string name_;
  std::shared_ptr<MemoryPool> pool_;
};

// The device of that name ("cpu", "gpu", "gpu:1"); one object each, alive until the end. Throws
// kUnavailable with the reason when it cannot be used, kInvalidArgument for a name that is none.
Device& find_device(const std::string& name);

// How many GPUs this build can see; 0 with `why` (may be null) telling what stands in the way.
int gpu_count(std::string* why);

}  // namespace trireme
