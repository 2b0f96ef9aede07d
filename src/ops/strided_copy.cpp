// StridedCopy: dimensions are merged, then the innermost loop is a run, a fill, a blocked
// transposition or single steps.
#include "ops/strided_copy.h"

#include <algorithm>
#include <cstring>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "device/device.h"
#include "ops/copy_run.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/transpose_block.h"

namespace trireme {
namespace {

// Both sides of a transposed tile stay in the first-level cache.
constexpr int64_t kTile = 64;

// dst[c * dst_stride + r] = src[r * src_stride + c]; dst rows are short: interleave.
template <class T, int R>
void interleave(const T* src, int64_t src_stride, T* dst, int64_t dst_stride, int64_t columns) {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < R; ++r) dst[c * dst_stride + r] = src[r * src_stride + c];
}

template <class T>
void transpose_block(const T* src, int64_t src_stride, T* dst, int64_t dst_stride, int64_t rows,
                     int64_t columns) {
  switch (rows) {
    case 1: return interleave<T, 1>(src, src_stride, dst, dst_stride, columns);
    case 2: return interleave<T, 2>(src, src_stride, dst, dst_stride, columns);
    case 3: return interleave<T, 3>(src, src_stride, dst, dst_stride, columns);
    case 4: return interleave<T, 4>(src, src_stride, dst, dst_stride, columns);
    default: break;
  }
  if constexpr (sizeof(T) == 2 || sizeof(T) == 4) {
    if (columns >= 4 && cpu_features().avx512)
      return transpose_block_avx512(src, src_stride, dst, dst_stride, rows, columns);
  }
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) dst[c * dst_stride + r] = src[r * src_stride + c];
}

}  // namespace

std::vector<int64_t> dense_strides(const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides(dims.size(), 1);
  for (size_t d = dims.size(); d-- > 1;) strides[d - 1] = strides[d] * dims[d];
  return strides;
}

StridedCopy::StridedCopy(std::vector<int64_t> dims, std::vector<int64_t> src_strides,
                         std::vector<int64_t> dst_strides, size_t element_size)
    : element_(element_size) {
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 0) outer_ = 0;
    if (dims[d] == 1) continue;
    const Dim next{dims[d], src_strides[d], dst_strides[d]};
    const bool merge = !dims_.empty() && dims_.back().src == next.src * next.size &&
                       dims_.back().dst == next.dst * next.size;
    if (merge) {
      dims_.back() = {dims_.back().size * next.size, next.src, next.dst};
    } else {
      dims_.push_back(next);
    }
  }
  if (dims_.empty()) dims_.push_back({1, 1, 1});
  choose();
}

void StridedCopy::choose() {
  const Dim& last = dims_.back();
  size_t inner = 1;
  if (last.dst == 1 && last.src == 1) {
    inner_ = Inner::kRuns;
  } else if (last.dst == 1 && last.src == 0) {
    inner_ = Inner::kFill;
  } else if (last.dst == 1) {
    const auto contiguous =
        std::find_if(dims_.begin(), dims_.end(), [](const Dim& d) { return d.src == 1; });
    if (contiguous != dims_.end()) {
      inner_ = Inner::kTranspose;
      inner = 2;
      std::rotate(contiguous, contiguous + 1, dims_.end() - 1);
    }
  }
  for (size_t d = 0; d + inner < dims_.size(); ++d) outer_ *= dims_[d].size;
}

template <class F> void StridedCopy::walk(size_t inner, int64_t begin, int64_t end, F f) const {
  const size_t n = dims_.size() - inner;
  int64_t index[16] = {}, src = 0, dst = 0, rest = begin;
  for (size_t d = n; d-- > 0;) {
    index[d] = rest % dims_[d].size;
    rest /= dims_[d].size;
    src += index[d] * dims_[d].src;
    dst += index[d] * dims_[d].dst;
  }
  for (int64_t i = begin; i < end; ++i) {
    f(src, dst);
    for (size_t d = n; d-- > 0;) {
      src += dims_[d].src;
      dst += dims_[d].dst;
      if (++index[d] < dims_[d].size) break;
      index[d] = 0;
      src -= dims_[d].size * dims_[d].src;
      dst -= dims_[d].size * dims_[d].dst;
    }
  }
}

template <class T>
void StridedCopy::run_row(const T* src, T* dst, int64_t begin, int64_t end) const {
  const Dim& d = dims_.back();
  if (inner_ == Inner::kRuns) {
    copy_run(dst + begin, src + begin, static_cast<size_t>(end - begin) * sizeof(T));
  } else if (inner_ == Inner::kFill) {
    std::fill(dst + begin, dst + end, *src);
  } else {
    for (int64_t i = begin; i < end; ++i) dst[i * d.dst] = src[i * d.src];
  }
}

template <class T> void StridedCopy::run_rows(const T* src, T* dst) const {
  const int64_t size = dims_.back().size;
  if (outer_ == 1) {
    parallel_for(size, kTaskElements,
                 [&](int64_t begin, int64_t end, int) { run_row(src, dst, begin, end); });
    return;
  }
  parallel_for(outer_, grain_of(size), [&](int64_t begin, int64_t end, int) {
    walk(1, begin, end, [&](int64_t s, int64_t d) { run_row(src + s, dst + d, 0, size); });
  });
}

template <class T> void StridedCopy::run_transpose(const T* src, T* dst) const {
  const Dim columns = dims_[dims_.size() - 2],
            rows = dims_.back();  // of the source: columns are adjacent there
  const int64_t bands = (columns.size + kTile - 1) / kTile;
  parallel_for(outer_ * bands, grain_of(kTile * rows.size), [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t c = item % bands * kTile, width = std::min(kTile, columns.size - c);
      walk(2, item / bands, item / bands + 1, [&](int64_t s, int64_t d) {
        for (int64_t r = 0; r < rows.size; r += kTile) {
          transpose_block(src + s + c + r * rows.src, rows.src, dst + d + c * columns.dst + r,
                          columns.dst, std::min(kTile, rows.size - r), width);
        }
      });
    }
  });
}

void StridedCopy::run(const void* src, void* dst) const {
  if (outer_ == 0) return;
  with_size(element_, [&]<class T>(Tag<T>) {
    if (inner_ == Inner::kTranspose) {
      run_transpose(static_cast<const T*>(src), static_cast<T*>(dst));
    } else {
      run_rows(static_cast<const T*>(src), static_cast<T*>(dst));
    }
  });
}

Kernel copy_boxes(const Prepare& p, std::vector<CopyBox> boxes, size_t element_size) {
  std::erase_if(boxes, [](const CopyBox& b) {
    return std::any_of(b.dims.begin(), b.dims.end(), [](int64_t d) { return d == 0; });
  });
#ifdef TRIREME_CUDA
  if (p.device && !p.device->is_host()) return cuda_copy_boxes(boxes, element_size);
#endif
  static_cast<void>(p);
  struct Part {
    StridedCopy copy;
    CopyBox box;
  };
  std::vector<Part> parts;
  for (const CopyBox& b : boxes) parts.push_back({{b.dims, b.src, b.dst, element_size}, b});
  return {[parts, size = static_cast<int64_t>(element_size)](const Launch& l) {
    for (const auto& [copy, b] : parts) {
      const void* from = &b.value;
      if (!b.fill) from = l.input<char>(b.input) + b.from * size;
      copy.run(from, l.output<char>() + b.to * size);
    }
  }};
}

}  // namespace trireme
