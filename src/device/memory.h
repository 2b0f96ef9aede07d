// MemoryPool: a device's memory under a hard cap; Block: memory taken from it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace trireme {

// Thread-safe. Over the cap allocate() throws kResourceExhausted with requested, used and cap; the
// pool goes on.
class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
 public:
  explicit MemoryPool(int64_t cap_bytes = 0) : cap_(cap_bytes) {}  // 0: no cap

  int64_t used() const { return used_; }
  int64_t peak() const { return peak_; }
  int64_t cap() const { return cap_; }
  void set_cap(int64_t bytes) { cap_ = bytes; }  // of what comes; 0: none
  void reset_peak() { peak_ = used_.load(); }

  void reserve(int64_t bytes,
               const char* what);  // counts memory that somebody else holds (weights)
  void release(int64_t bytes) { used_ -= bytes; }
  void count(int64_t bytes);  // like reserve(), but the cap was looked at elsewhere

 private:
  std::atomic<int64_t> cap_;
  std::atomic<int64_t> used_{0}, peak_{0};
};

// 64-byte aligned host memory (huge pages where the system gives them), counted in the pool;
// contents undefined.
class Block {
 public:
  Block() = default;
  Block(std::shared_ptr<MemoryPool> pool, int64_t bytes, const char* what);
  ~Block();
  Block(Block&& other) noexcept { *this = static_cast<Block&&>(other); }
  Block& operator=(Block&& other) noexcept;

  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<MemoryPool> pool_;
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace trireme
