// Indices: an int32 or int64 input whose values choose elements. They are checked before a kernel
// goes parallel.
#pragma once

#include "ops/elements.h"

namespace trireme {

inline void check_index_dtype(const Infer& i, size_t input) {
  TRI_CHECK(i.dtype(input) == DType::kInt32 || i.dtype(input) == DType::kInt64,
            message(i.op.name, "indices expect int32 or int64, got ", i.dtype(input)));
}

class Indices {
 public:
  Indices(const Prepare& p, size_t input)
      : input_(input), wide_(p.in(input).dtype == DType::kInt64) {}

  int64_t get(const Launch& l, int64_t i) const {
    return wide_ ? l.input<int64_t>(input_)[i] : l.input<int32_t>(input_)[i];
  }

  // Index i brought into [0, size); negative ones count from the end. Throws when it is outside.
  int64_t checked(const Op& op, const Launch& l, int64_t i, int64_t size) const {
    const int64_t at = get(l, i);
    TRI_CHECK(at >= -size && at < size, message(op.name, "index ", i, " expects a value in [",
                                                -size, ", ", size, "), got ", at));
    return at < 0 ? at + size : at;
  }

 private:
  size_t input_;
  bool wide_;
};

}  // namespace trireme
