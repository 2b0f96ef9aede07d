// SharedCache: look up, else make and keep.
#include "runtime/model_cache.h"

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

}  // namespace trireme
