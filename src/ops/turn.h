// Turning pictures between row-major and channels-last around a kernel that wants the other.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"
#include "ops/elements.h"

namespace trireme {

// Our kernels and oneDNN's run channels-last. Where the layout pass did not arrange that (it was
// switched off, or the node is run on its own), the data is turned around them.
class Turn {
 public:
  Turn() = default;
  Turn(const Shape& s, size_t element, bool to_channels_last)
      : n_(s[0]),
        rows_(to_channels_last ? s[1] : s[2] * s[3]),
        columns_(s.numel() / std::max<int64_t>(n_ * rows_, 1)),
        element_(element) {}

  size_t bytes() const { return align_up(static_cast<size_t>(n_ * rows_ * columns_) * element_); }
  bool needed() const { return element_ != 0; }

  void run(const void* from, void* to) const {
    if (element_ == 4) transpose<uint32_t>(from, to);
    else transpose<uint16_t>(from, to);
  }

 private:
  template <class T> void transpose(const void* from, void* to) const {
    parallel_for(n_ * rows_, 64, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = static_cast<const T*>(from) + i * columns_;
        T* column = static_cast<T*>(to) + i / rows_ * rows_ * columns_ + i % rows_;
        for (int64_t j = 0; j < columns_; ++j) column[j * rows_] = row[j];
      }
    });
  }

  int64_t n_ = 0, rows_ = 0, columns_ = 0;
  size_t element_ = 0;
};

}  // namespace trireme
