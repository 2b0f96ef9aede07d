// Moving weights in and out of cuDNN's weight space.
#include "ops/cuda_common.cuh"
#include "ops/cudnn_rnn_pieces.h"

namespace trireme::cuda {
namespace {

constexpr size_t kMost = 128;  // a kernel's parameters have 4 KiB

struct Pieces {
  MovedPiece list[kMost];
};

template <class W> __global__ void __launch_bounds__(kThreads) move_pieces(Pieces pieces) {
  const MovedPiece p = pieces.list[blockIdx.y];
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < p.count;
       i += static_cast<int64_t>(gridDim.x) * kThreads)
    static_cast<W*>(p.to)[i] = static_cast<const W*>(p.from)[i];
}

}  // namespace

void run_move_pieces(const std::vector<MovedPiece>& pieces, size_t element, void* stream) {
  for (size_t first = 0; first < pieces.size(); first += kMost) {
    const size_t count = std::min(kMost, pieces.size() - first);
    Pieces some{};
    int64_t longest = 1;
    for (size_t i = 0; i < count; ++i) {
      some.list[i] = pieces[first + i];
      longest = std::max(longest, some.list[i].count);
    }
    const dim3 grid(static_cast<unsigned>(std::min<int64_t>(64, (longest + 1023) / 1024)),
                    static_cast<unsigned>(count));
    with_size(element, [&]<class W>(Tag<W>) {
      move_pieces<W><<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(some);
    });
    TRI_CUDA_LAUNCHED();
  }
}

}  // namespace trireme::cuda
