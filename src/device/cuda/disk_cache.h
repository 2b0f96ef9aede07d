// What is dear to make and small to keep, on disk between the runs of programs.
#pragma once

#include <optional>
#include <string>

namespace trireme::cuda {

// Entries of one kind: a file each, in a folder of that name in $TRIREME_CACHE_DIR, or trireme/ in
// $XDG_CACHE_HOME or ~/.cache; $TRIREME_CACHE_DIR="" keeps none. Files appear whole or not at all.
// An entry that is damaged is none; a folder that cannot be written keeps none. Thread-safe.
class DiskCache {
 public:
  explicit DiskCache(std::string kind) : kind_(std::move(kind)) {}

  // The key must tell everything that the content depends on.
  std::optional<std::string> get(const std::string& key) const;
  void put(const std::string& key, const std::string& content) const;
  std::string file_of(const std::string& key) const;  // empty: nothing is kept

 private:
  std::string kind_;
};

}  // namespace trireme::cuda
