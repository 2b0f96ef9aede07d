// Moving weights in and out of cuDNN's weight space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace trireme::cuda {

struct MovedPiece {
  const void* from;
  void* to;
  int64_t count;  // elements
};
// All of them by as few launches as their list has room in.
void run_move_pieces(const std::vector<MovedPiece>& pieces, size_t element, void* stream);

}  // namespace trireme::cuda
