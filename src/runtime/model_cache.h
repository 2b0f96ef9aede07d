// SharedCache: the folded constants and packed weights of one model, under the memory cap.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "device/memory.h"
#include "graph/kernel.h"

namespace trireme {

class SharedCache : public ModelCache {
 public:
  explicit SharedCache(std::shared_ptr<MemoryPool> pool) : pool_(std::move(pool)) {}
  ~SharedCache() override { pool_->release(bytes_); }

  // Entries are made under the lock: two plans prepared at once do not pack the same weights twice.
  Array get(const std::string& key, std::vector<Array> sources, const std::function<Array()>& make,
            bool counted = true) override;
  Array memory(size_t bytes) override;
  int64_t bytes() const { return bytes_; }

 private:
  struct Entry {
    Array value;
    std::vector<Array> sources;
  };
  std::shared_ptr<MemoryPool> pool_;
  std::recursive_mutex mutex_;
  std::unordered_map<std::string, Entry> entries_;
  std::shared_ptr<const Block> slab_;  // that memory() hands out; its users keep it
  int64_t taken_ = 0;                  // of the slab
  std::atomic<int64_t> bytes_{0};
};

}  // namespace trireme
