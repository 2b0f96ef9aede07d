// The CPU as a device, and finding devices by name.
#include <sys/mman.h>

#include <cstring>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "device/cuda/gpu.h"
#include "device/device.h"
#include "trireme/error.h"

namespace trireme {
namespace {

// Large blocks are made of huge pages where the system has them: a step walks through its memory
// in strides, which miss the small pages' few places in the TLB.
constexpr int64_t kHugePage = int64_t{2} << 20;

std::align_val_t alignment_of(int64_t size) {
  return std::align_val_t{static_cast<size_t>(size >= kHugePage ? kHugePage : 64)};
}
void* take_memory(int64_t size) {
  void* p = ::operator new(static_cast<size_t>(size), alignment_of(size), std::nothrow);
  if (p && size >= kHugePage)
    madvise(p, static_cast<size_t>(size / kHugePage * kHugePage), MADV_HUGEPAGE);
  return p;
}
void give_memory(void* p, int64_t size) { ::operator delete(p, alignment_of(size)); }

// Blocks of memory for results that come again each step: freed ones wait here for the next request
// of their size, so that no step asks the system for pages.
class HostCache : public std::enable_shared_from_this<HostCache> {
 public:
  explicit HostCache(std::shared_ptr<MemoryPool> pool) : pool_(std::move(pool)) {}
  ~HostCache() {
    for (auto& [bytes, blocks] : free_)
      for (void* p : blocks) give_memory(p, bytes);
  }

  Storage get(int64_t bytes, const char* what) {
    const int64_t size = rounded(bytes);
    {
      const std::lock_guard lock(mutex_);
      if (const auto it = free_.find(size); it != free_.end() && !it->second.empty()) {
        void* p = it->second.back();
        it->second.pop_back();
        waiting_ -= size;
        return wrap(p, size);
      }
    }
    void* p = nullptr;
    try {
      pool_->reserve(size, what);
    } catch (const Error&) {
      if (!trim()) throw;
      pool_->reserve(size, what);
    }
    p = take_memory(size);
    if (p == nullptr) {
      pool_->release(size);
      fail(Code::kResourceExhausted, "[memory] the system gives no " + std::to_string(size) +
                                         " bytes for " + std::string(what));
    }
    return wrap(p, size);
  }

 private:
  // Few sizes, so that blocks fit again: multiples of 64 bytes, then of an eighth of a power of
  // two.
  static int64_t rounded(int64_t bytes) {
    int64_t step = 64;
    while (step * 16 < bytes) step *= 2;
    return std::max<int64_t>(64, (bytes + step - 1) / step * step);
  }

  Storage wrap(void* p, int64_t size) {
    return {p, std::shared_ptr<const void>(p, [cache = shared_from_this(), size](const void* q) {
              cache->put(const_cast<void*>(q), size);
            })};
  }

  void put(void* p, int64_t size) {
    constexpr int64_t kMostWaiting = int64_t{1} << 30;
    const std::lock_guard lock(mutex_);
    if (waiting_ + size > kMostWaiting) {
      give_memory(p, size);
      pool_->release(size);
      return;
    }
    waiting_ += size;
    free_[size].push_back(p);
  }

  bool trim() {
    const std::lock_guard lock(mutex_);
    const bool any = waiting_ > 0;
    for (auto& [bytes, blocks] : free_)
      for (void* p : blocks) {
        give_memory(p, bytes);
        pool_->release(bytes);
      }
    free_.clear();
    waiting_ = 0;
    return any;
  }

  std::shared_ptr<MemoryPool> pool_;
  std::mutex mutex_;
  std::unordered_map<int64_t, std::vector<void*>> free_;
  int64_t waiting_ = 0;
};

class Host : public Device {
 public:
  Host() : Device("cpu", std::make_shared<MemoryPool>()) {
    cache_ = std::make_shared<HostCache>(shared_pool());
  }
  Storage allocate(int64_t bytes, const char* what) override { return cache_->get(bytes, what); }
  Storage upload(const void* from, int64_t bytes, const char* what) override {
    Storage s = allocate(bytes, what);
    if (bytes > 0) std::memcpy(s.data, from, static_cast<size_t>(bytes));
    return s;
  }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void copy(void* to, const void* from, size_t bytes, void*) override {
    std::memcpy(to, from, bytes);
  }

 private:
  std::shared_ptr<HostCache> cache_;
};

}  // namespace

std::unique_ptr<Recording> Device::record(const std::function<void(void*)>&) { return nullptr; }

Device& find_device(const std::string& name) {
  static Host* host = new Host;  // outlives every static tensor
  if (name == "cpu") return *host;
  int index = name == "gpu" ? 0 : -1;
  if (name.starts_with("gpu:") && name.size() > 4 && name.size() < 8 &&
      name.find_first_not_of("0123456789", 4) == std::string::npos)
    index = std::stoi(name.substr(4));
  if (index < 0)
    fail(Code::kInvalidArgument, "device expects \"cpu\" or \"gpu:N\", got '" + name + "'");
#ifdef TRIREME_CUDA
  return cuda::gpu(index);
#else
  fail(Code::kUnavailable, "device '" + name +
                               "' cannot be used: this build has no CUDA (-DTRIREME_CUDA=ON makes "
                               "one that does); it runs on \"cpu\" alone");
#endif
}

#ifndef TRIREME_CUDA
int gpu_count(std::string* why) {
  if (why != nullptr) *why = "this build has no CUDA";
  return 0;
}
#endif

}  // namespace trireme
