// CachingAllocator: hands out pieces of large segments of a device's memory, under a hard cap.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>

#include "device/memory.h"

namespace trireme {

// Thread-safe. Best fit over segments that are split and joined again; small requests have segments
// of their own, so that they do not break up large ones. The cap is on the segments: what a
// device's tools show.
class CachingAllocator {
 public:
  struct Source {
    std::function<void*(int64_t bytes)> take;  // null: the device has none left
    std::function<void(void*)> give;
  };
  CachingAllocator(std::string device, std::shared_ptr<MemoryPool> pool, Source source);
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // 512-byte aligned if segments are. Throws kResourceExhausted, after whole segments that wait for
  // reuse were given back, with requested, used, cap and the three largest pieces in use; a smaller
  // request may then still succeed.
  void* allocate(int64_t bytes, const char* what);
  void free(void* data);
  void trim();

  int64_t reserved() const { return reserved_; }
  int64_t peak_reserved() const { return peak_reserved_; }

 private:
  struct Piece {
    char* data;
    int64_t bytes;
    bool small, used = false;
    const char* what = nullptr;
    Piece *before = nullptr, *after = nullptr;  // neighbours in the segment
  };
  struct BySize {
    bool operator()(const Piece* a, const Piece* b) const {
      return a->bytes != b->bytes ? a->bytes < b->bytes : a->data < b->data;
    }
  };
  using FreeList = std::set<Piece*, BySize>;

  Piece* find(int64_t bytes, bool small);
  Piece* grow(int64_t bytes, bool small);  // null: no room
  Piece* segment(int64_t bytes, bool small);
  void split(Piece* piece, int64_t bytes);
  void join(Piece* piece, Piece* next);
  bool trim_locked();
  std::string largest() const;
  [[noreturn]] void refuse(int64_t bytes, const char* what) const;

  const std::string device_;
  const std::shared_ptr<MemoryPool> pool_;
  const Source source_;
  mutable std::mutex mutex_;
  std::unordered_map<void*, std::unique_ptr<Piece>> pieces_;  // by address
  FreeList free_[2];                                          // large, small
  std::atomic<int64_t> reserved_{0}, peak_reserved_{0};
};

// "1.50 GiB", "12.0 KiB"
std::string bytes_text(int64_t bytes);

}  // namespace trireme
