// Best fit with splitting and joining over segments.
#include "device/caching_allocator.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "trireme/error.h"

namespace trireme {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGranule = 512;
constexpr int64_t kSmall = kMiB;  // requests up to here are small
constexpr int64_t kSmallSegment = 2 * kMiB;
constexpr int64_t kMediumSegment = 20 * kMiB;  // for requests below half of it

int64_t round_up(int64_t bytes, int64_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

std::string bytes_text(int64_t bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[48];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text;
}

CachingAllocator::CachingAllocator(std::string device, std::shared_ptr<MemoryPool> pool,
                                   Source source)
    : device_(std::move(device)), pool_(std::move(pool)), source_(std::move(source)) {}

CachingAllocator::~CachingAllocator() { trim(); }

void* CachingAllocator::allocate(int64_t bytes, const char* what) {
  if (bytes < 0 || bytes > int64_t{1} << 50)
    fail(Code::kResourceExhausted, "[memory] " + device_ + " has no " + std::to_string(bytes) +
                                       " bytes for " + std::string(what));
  const int64_t size = round_up(std::max<int64_t>(bytes, 1), kGranule);
  const bool small = size <= kSmall;
  const std::lock_guard lock(mutex_);
  Piece* piece = find(size, small);
  if (piece == nullptr) piece = grow(size, small);
  if (piece == nullptr && trim_locked()) piece = grow(size, small);
  if (piece == nullptr) refuse(size, what);
  split(piece, size);
  piece->used = true;
  piece->what = what;
  pool_->count(piece->bytes);
  return piece->data;
}

CachingAllocator::Piece* CachingAllocator::find(int64_t bytes, bool small) {
  Piece wanted{nullptr, bytes, small};
  FreeList& list = free_[small];
  const auto it = list.lower_bound(&wanted);
  if (it == list.end()) return nullptr;
  Piece* piece = *it;
  list.erase(it);
  return piece;
}

CachingAllocator::Piece* CachingAllocator::grow(int64_t bytes, bool small) {
  const int64_t exact = small ? kSmallSegment : round_up(bytes, 2 * kMiB);
  if (!small && bytes < kMediumSegment / 2)
    if (Piece* piece = segment(kMediumSegment, small)) return piece;
  if (Piece* piece = segment(exact, small)) return piece;
  return small ? segment(round_up(bytes, 64 * 1024), small) : nullptr;  // close to the cap
}

CachingAllocator::Piece* CachingAllocator::segment(int64_t bytes, bool small) {
  if (pool_->cap() > 0 && reserved_ + bytes > pool_->cap()) return nullptr;
  void* data = source_.take(bytes);
  if (data == nullptr) return nullptr;
  reserved_ += bytes;
  peak_reserved_ = std::max(peak_reserved_.load(), reserved_.load());
  auto piece = std::make_unique<Piece>(Piece{static_cast<char*>(data), bytes, small});
  return (pieces_[data] = std::move(piece)).get();
}

// Leaves the rest in the free list when it is worth keeping.
void CachingAllocator::split(Piece* piece, int64_t bytes) {
  const int64_t rest = piece->bytes - bytes;
  if (rest < (piece->small ? kGranule : kSmall)) return;
  auto other = std::make_unique<Piece>(Piece{piece->data + bytes, rest, piece->small});
  other->before = piece;
  other->after = piece->after;
  if (other->after != nullptr) other->after->before = other.get();
  piece->after = other.get();
  piece->bytes = bytes;
  free_[piece->small].insert(other.get());
  pieces_[other->data] = std::move(other);
}

void CachingAllocator::join(Piece* piece, Piece* next) {
  piece->bytes += next->bytes;
  piece->after = next->after;
  if (piece->after != nullptr) piece->after->before = piece;
  pieces_.erase(next->data);
}

void CachingAllocator::free(void* data) {
  const std::lock_guard lock(mutex_);
  const auto it = pieces_.find(data);
  if (it == pieces_.end() || !it->second->used) return;  // nobody else's
  Piece* piece = it->second.get();
  piece->used = false;
  pool_->release(piece->bytes);
  FreeList& list = free_[piece->small];
  if (Piece* next = piece->after; next != nullptr && !next->used) {
    list.erase(next);
    join(piece, next);
  }
  if (Piece* before = piece->before; before != nullptr && !before->used) {
    list.erase(before);
    join(before, piece);
    piece = before;
  }
  list.insert(piece);
}

void CachingAllocator::trim() {
  const std::lock_guard lock(mutex_);
  (void)trim_locked();
}

bool CachingAllocator::trim_locked() {
  bool any = false;
  for (FreeList& list : free_)
    for (auto it = list.begin(); it != list.end();) {
      Piece* piece = *it;
      if (piece->before != nullptr || piece->after != nullptr) {
        ++it;
        continue;
      }
      it = list.erase(it);
      source_.give(piece->data);
      reserved_ -= piece->bytes;
      pieces_.erase(piece->data);
      any = true;
    }
  return any;
}

std::string CachingAllocator::largest() const {
  std::vector<const Piece*> used;
  for (const auto& [data, piece] : pieces_)
    if (piece->used) used.push_back(piece.get());
  std::sort(used.begin(), used.end(),
            [](const Piece* a, const Piece* b) { return a->bytes > b->bytes; });
  std::string text;
  for (size_t i = 0; i < used.size() && i < 3; ++i)
    text += (i == 0 ? "" : ", ") + std::string(used[i]->what) + ' ' + bytes_text(used[i]->bytes);
  return text;
}

void CachingAllocator::refuse(int64_t bytes, const char* what) const {
  const int64_t cap = pool_->cap();
  std::string text = "[memory] " + device_ + ": " + what + " needs " + bytes_text(bytes) + "; " +
                     bytes_text(pool_->used()) + " are in use, " + bytes_text(reserved_) +
                     " held of the device";
  text += cap > 0 ? ", the cap is " + bytes_text(cap) : ", which has no more";
  const std::string names = largest();
  if (!names.empty()) text += "; the largest in use: " + names;
  fail(Code::kResourceExhausted, text);
}

}  // namespace trireme
