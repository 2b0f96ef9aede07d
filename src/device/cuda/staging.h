// Staging: pinned memory through which host data goes to a GPU without waiting for it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <mutex>

namespace trireme::cuda {

// A ring. Thread-safe; of one device, which must be current.
class Staging {
 public:
  ~Staging();
  // Queues a copy on `stream`; `from` may be reused when this returns. Waits only when the ring is
  // full of copies that have not run yet.
  void upload(void* to, const void* from, int64_t bytes, cudaStream_t stream);

 private:
  struct Piece {
    int64_t begin, end;
    cudaEvent_t done;
  };
  int64_t make_room(int64_t bytes);  // the offset
  void retire();

  std::mutex mutex_;
  char* ring_ = nullptr;
  int64_t head_ = 0;
  std::deque<Piece> pieces_;  // oldest first
};

}  // namespace trireme::cuda
