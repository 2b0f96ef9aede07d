// Host memory under a cap.
#include "device/memory.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "trireme/error.h"

namespace trireme {

void MemoryPool::reserve(int64_t bytes, const char* what) {
  int64_t now = used_.load();
  const int64_t cap = cap_;
  do {
    if (cap > 0 && now + bytes > cap)
      fail(Code::kResourceExhausted, "[memory] " + std::string(what) + " needs " +
                                         std::to_string(bytes) + " bytes; " + std::to_string(now) +
                                         " of the cap of " + std::to_string(cap) + " are in use");
  } while (!used_.compare_exchange_weak(now, now + bytes));
  int64_t peak = peak_.load();
  while (peak < now + bytes && !peak_.compare_exchange_weak(peak, now + bytes)) {}
}

void MemoryPool::count(int64_t bytes) {
  const int64_t now = used_ += bytes;
  int64_t peak = peak_.load();
  while (peak < now && !peak_.compare_exchange_weak(peak, now)) {}
}

namespace {

constexpr int64_t kHuge = int64_t{2} << 20;

// A multiple of kHuge, at an address that is one: else the system finds no room for a huge page.
// Null when there is no memory.
char* map_huge(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes), more = static_cast<size_t>(kHuge);
  void* p = mmap(nullptr, size + more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  auto* all = static_cast<char*>(p);
  const size_t before = (more - reinterpret_cast<uintptr_t>(all) % more) % more;
  if (before > 0) munmap(all, before);
  munmap(all + before + size, more - before);
  madvise(all + before, size, MADV_HUGEPAGE);  // fewer TLB misses; no harm where it is refused
  return all + before;
}

}  // namespace

Block::Block(std::shared_ptr<MemoryPool> pool, int64_t bytes, const char* what)
    : pool_(std::move(pool)) {
  bytes_ = (bytes + kHuge - 1) / kHuge * kHuge;
  if (bytes_ == 0) return;
  pool_->reserve(bytes_, what);
  data_ = map_huge(bytes_);
  if (data_ == nullptr) {
    pool_->release(bytes_);
    fail(Code::kResourceExhausted,
         "[memory] the system gives no " + std::to_string(bytes_) + " bytes for " + what);
  }
}

Block::~Block() {
  if (data_ == nullptr) return;
  munmap(data_, static_cast<size_t>(bytes_));
  pool_->release(bytes_);
}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace trireme
