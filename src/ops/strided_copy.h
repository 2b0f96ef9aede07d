// StridedCopy: moves a box of elements between two strided arrays. Transposition, slicing, padding,
// flipping, expansion, tiling and change of layout are all this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "graph/kernel.h"

namespace trireme {

// Prepared once, run often, from several threads. Strides count elements; 0 repeats, negative walks
// backwards.
class StridedCopy {
 public:
  // dst[sum i * dst_strides] = src[sum i * src_strides] for every index of the box `dims`,
  // outermost first.
  StridedCopy(std::vector<int64_t> dims, std::vector<int64_t> src_strides,
              std::vector<int64_t> dst_strides, size_t element_size);

  // `src` and `dst` point to the elements of index 0.
  void run(const void* src, void* dst) const;

 private:
  struct Dim {
    int64_t size, src, dst;
  };
  enum class Inner : uint8_t { kRuns, kFill, kTranspose, kElements };

  void choose();
  // f(src offset, dst offset) for the indices [begin, end) of the dimensions but the last `inner`.
  template <class F> void walk(size_t inner, int64_t begin, int64_t end, F f) const;
  template <class T> void run_rows(const T* src, T* dst) const;
  template <class T> void run_row(const T* src, T* dst, int64_t begin, int64_t end) const;
  template <class T> void run_transpose(const T* src, T* dst) const;

  std::vector<Dim>
      dims_;  // outermost first, without dimensions of 1; neighbours that could be one are one
  size_t element_;
  int64_t outer_ = 1;  // indices of the dimensions but the last (transpose: but the last two); 0:
                       // nothing to move
  Inner inner_ = Inner::kElements;
};

// One of an operator's copies: from its input `input` (fill: from one element, which stands in
// `value`) to output 0; offsets in elements.
struct CopyBox {
  std::vector<int64_t> dims, src, dst;
  int64_t from = 0, to = 0;
  size_t input = 0;
  bool fill = false;
  uint64_t value = 0;  // the element's bytes, first ones first
};

// The kernel that does them one after the other, on the device of `p`.
Kernel copy_boxes(const Prepare& p, std::vector<CopyBox> boxes, size_t element_size);

// The strides of a dense array.
std::vector<int64_t> dense_strides(const std::vector<int64_t>& dims);

}  // namespace trireme
