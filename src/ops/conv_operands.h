// The operands of the GPU's convolutions in the form that a kernel gets: as they lie, copied at
// each run into the scratch memory, or packed once.
#pragma once

#include <array>
#include <memory>

#include "graph/kernel.h"
#include "ops/conv_cuda.h"

namespace trireme::cuda {

// A picture's strides as it lies: n, c, h, w, in elements.
std::array<int64_t, 4> strides_of(const Type& t);

// Places in the scratch memory.
class Scratch {
 public:
  size_t take(size_t bytes) {
    const size_t at = bytes_;
    bytes_ += (bytes + 255) / 256 * 256;
    return at;
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

// A picture in the form that a library gets: as it lies, or copied.
struct Picture {
  PictureCopy copy;
  bool copied = false;
  size_t at = 0;

  Picture() = default;
  Picture(const Type& t, int64_t channels, int64_t h, int64_t w, Scratch& scratch) {
    const Shape& s = t.shape;
    copy = {t.dtype, {s[0], s[1], s[2], s[3]}, strides_of(t), channels, h, w};
    copied = channels != s[1] || h != s[2] || w != s[3] || copy.strides[1] != 1;
    if (copied) at = scratch.take(copy.bytes());
  }
  // Every steps[0]-th row's steps[1]-th pixel, h rows of w of them.
  static Picture every(const Type& t, const std::array<int64_t, 2>& steps, int64_t h, int64_t w,
                       Scratch& scratch) {
    const Shape& s = t.shape;
    Picture p;
    p.copy = {t.dtype, {s[0], s[1], h, w}, strides_of(t), s[1], h, w};
    p.copy.strides[2] *= steps[0], p.copy.strides[3] *= steps[1];
    p.copied = h != s[2] || w != s[3] || p.copy.strides[1] != 1;
    if (p.copied) p.at = scratch.take(p.copy.bytes());
    return p;
  }
  DnnTensor tensor() const {
    return dnn_channels_last(copy.dtype, {copy.size[0], copy.c, copy.h, copy.w});
  }
  void* place(const Launch& l, void* own) const {
    return copied ? static_cast<char*>(l.scratch) + at : own;
  }
  void* given(const Launch& l, const void* own) const {
    void* to = place(l, const_cast<void*>(own));
    if (copied) copy.make(own, to, l.stream);
    return to;
  }
};

// A weight in the form that a kernel gets: as it lies, packed once, or copied at each run.
struct Weight {
  WeightCopy copy;
  bool copied = false;
  std::shared_ptr<const void> shared;
  size_t at = 0;

  void* given(const Launch& l, const void* own) const {
    if (shared) return const_cast<void*>(shared.get());
    if (!copied) return const_cast<void*>(own);
    void* to = static_cast<char*>(l.scratch) + at;
    copy.make(own, to, l.stream);
    return to;
  }
};

Weight weight_of(const Prepare& p, int input, const WeightCopy& copy, Scratch& scratch);

// A bias in the dtype and number that a kernel gets: packed once, as it lies, or copied at each run
// (of a bias that is absent: zeros).
struct Bias {
  int input = -1;
  DType from = DType::kFloat32, to = DType::kFloat32;
  int64_t count = 0, wanted = 0;
  bool copied = false;
  std::shared_ptr<const void> shared;
  size_t at = 0;

  const void* given(const Launch& l) const {
    if (shared) return shared.get();
    const void* own = input < 0 ? nullptr : l.in[input];
    if (!copied) return own;
    void* copy = static_cast<char*>(l.scratch) + at;
    copy_vector(own, from, count, copy, to, wanted, l.stream);
    return copy;
  }
};

Bias bias_of(const Prepare& p, int input, int64_t count, DType to, int64_t wanted,
             Scratch& scratch);

}  // namespace trireme::cuda
