// The ring of pinned memory.
#include "device/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "device/cuda/check.h"

namespace trireme::cuda {
namespace {

constexpr int64_t kRing = int64_t{32} << 20;
constexpr int64_t kPiece = int64_t{4} << 20;  // copying into the next piece overlaps with sending
constexpr int64_t kAlign = 64;

}  // namespace

Staging::~Staging() {
  for (const Piece& p : pieces_) cudaEventDestroy(p.done);
  if (ring_ != nullptr) cudaFreeHost(ring_);
}

void Staging::retire() {
  cudaEventDestroy(pieces_.front().done);
  pieces_.pop_front();
}

int64_t Staging::make_room(int64_t bytes) {
  while (!pieces_.empty() && cudaEventQuery(pieces_.front().done) == cudaSuccess) retire();
  (void)cudaGetLastError();  // "not ready" is no error
  if (head_ + bytes > kRing) head_ = 0;
  const int64_t begin = head_, end = head_ + bytes;
  const auto overlaps = [&](const Piece& p) { return p.begin < end && begin < p.end; };
  while (std::any_of(pieces_.begin(), pieces_.end(), overlaps)) {
    TRI_CUDA_CALL(cudaEventSynchronize(pieces_.front().done));
    retire();
  }
  head_ = (end + kAlign - 1) / kAlign * kAlign;
  return begin;
}

void Staging::upload(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  if (ring_ == nullptr) {
    void* p = nullptr;
    TRI_CUDA_CALL(cudaHostAlloc(&p, static_cast<size_t>(kRing), cudaHostAllocDefault));
    ring_ = static_cast<char*>(p);
  }
  for (int64_t done = 0; done < bytes;) {
    const int64_t n = std::min(kPiece, bytes - done);
    const int64_t at = make_room(n);
    std::memcpy(ring_ + at, static_cast<const char*>(from) + done, static_cast<size_t>(n));
    Piece piece{at, at + n, nullptr};
    TRI_CUDA_CALL(cudaEventCreateWithFlags(&piece.done, cudaEventDisableTiming));
    TRI_CUDA_CALL(cudaMemcpyAsync(static_cast<char*>(to) + done, ring_ + at, static_cast<size_t>(n),
                                  cudaMemcpyHostToDevice, stream));
    TRI_CUDA_CALL(cudaEventRecord(piece.done, stream));
    pieces_.push_back(piece);
    done += n;
  }
}

}  // namespace trireme::cuda
