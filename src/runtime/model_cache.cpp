// SharedCache: look up, else make and keep.
#include "runtime/model_cache.h"

#include <algorithm>

namespace trireme {

Array SharedCache::get(const std::string& key, std::vector<Array> sources,
                       const std::function<Array()>& make, bool counted) {
  const std::lock_guard lock(mutex_);
  const auto it = entries_.find(key);
  if (it != entries_.end()) return it->second.value;
  Array value = make();
  if (counted) {
    const auto bytes = static_cast<int64_t>(value.bytes());
    pool_->reserve(bytes, "a packed or folded weight");
    bytes_ += bytes;
  }
  entries_.emplace(key, Entry{value, std::move(sources)});
  return value;
}

// Weights are read from end to end once a run: in small pages every few lines miss the TLB.
Array SharedCache::memory(size_t bytes) {
  constexpr int64_t kSlab = int64_t{2} << 20, kLine = 64;
  const std::lock_guard lock(mutex_);
  const int64_t size = (static_cast<int64_t>(bytes) + kLine - 1) / kLine * kLine;
  if (slab_ == nullptr || slab_->bytes() - taken_ < size) {
    // Counted by get(), as it is used.
    slab_ = std::make_shared<const Block>(std::make_shared<MemoryPool>(), std::max(size, kSlab),
                                          "packed weights");
    taken_ = 0;
  }
  char* p = slab_->data() + taken_;
  taken_ += size;
  return {DType::kUInt8, Shape{static_cast<int64_t>(bytes)}, p, {slab_, p}};
}

}  // namespace trireme
