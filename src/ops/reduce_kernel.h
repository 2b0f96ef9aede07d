// Reductions of an array seen as [outer, n, inner] over n: what reduce.cpp and global pools share.
#pragma once

#include <limits>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "ops/column_sums.h"
#include "ops/elements.h"

namespace trireme {

// A way to reduce: the neutral value, how an element enters, how two results join. A is the type of
// the results.
template <class A> struct SumOf {
  static constexpr A kNeutral = 0;
  template <class T> static A load(T v) { return A(v); }
  static A join(A a, A b) { return a + b; }
};
template <class A> struct ProductOf {
  static constexpr A kNeutral = 1;
  template <class T> static A load(T v) { return A(v); }
  static A join(A a, A b) { return a * b; }
};
template <class A> struct MaxOf {
  static constexpr A kNeutral =
      std::is_integral_v<A> ? std::numeric_limits<A>::min() : -std::numeric_limits<A>::infinity();
  template <class T> static A load(T v) { return A(v); }
  static A join(A a, A b) { return a > b || a != a ? a : b; }  // NaN stays
};
template <class A> struct MinOf {
  static constexpr A kNeutral =
      std::is_integral_v<A> ? std::numeric_limits<A>::max() : std::numeric_limits<A>::infinity();
  template <class T> static A load(T v) { return A(v); }
  static A join(A a, A b) { return a < b || a != a ? a : b; }
};
struct AnyOf {
  static constexpr uint8_t kNeutral = 0;
  template <class T> static uint8_t load(T v) { return v != T(0); }
  static uint8_t join(uint8_t a, uint8_t b) { return a | b; }
};
struct AllOf {
  static constexpr uint8_t kNeutral = 1;
  template <class T> static uint8_t load(T v) { return v != T(0); }
  static uint8_t join(uint8_t a, uint8_t b) { return a & b; }
};

namespace detail {

template <class R, class A, class T> A reduce_row(const T* x, int64_t n) {
  if constexpr (std::is_floating_point_v<A> && std::is_same_v<R, SumOf<A>>)
    return static_cast<A>(blocked_sum<A>(x, n, [](A v) { return v; }));
  constexpr int64_t kLanes = 16;
  A part[kLanes];
  std::fill(part, part + kLanes, R::kNeutral);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) part[k] = R::join(part[k], R::load(x[i + k]));
  for (; i < n; ++i) part[0] = R::join(part[0], R::load(x[i]));
  for (int64_t k = 1; k < kLanes; ++k) part[0] = R::join(part[0], part[k]);
  return part[0];
}

template <class R, class A, class T>
void reduce_columns(const T* x, int64_t rows, int64_t n, int64_t stride, A* result) {
  if constexpr (std::is_same_v<R, SumOf<float>> &&
                (std::is_same_v<T, float> || std::is_same_v<T, BFloat16>)) {
    using Bits = std::conditional_t<std::is_same_v<T, float>, float, uint16_t>;
    if (cpu_features().avx512)
      return add_rows_avx512(reinterpret_cast<const Bits*>(x), rows, n, stride, result);
  }
  for (int64_t r = 0; r < rows; ++r, x += stride)
    for (int64_t c = 0; c < n; ++c) result[c] = R::join(result[c], R::load(x[c]));
}

constexpr int64_t kMostColumns = 1024;

// Long columns are summed in blocks of rows first, so that they lose no digits.
template <class R, class A, class T>
void reduce_piece(const T* x, int64_t rows, int64_t n, int64_t stride, A* result) {
  constexpr int64_t kRows = 256;
  std::fill(result, result + n, R::kNeutral);
  if (rows <= kRows) return reduce_columns<R, A>(x, rows, n, stride, result);
  A block[kMostColumns];
  for (int64_t r = 0; r < rows; r += kRows) {
    std::fill(block, block + n, R::kNeutral);
    reduce_columns<R, A>(x + r * stride, std::min(kRows, rows - r), n, stride, block);
    for (int64_t c = 0; c < n; ++c) result[c] = R::join(result[c], block[c]);
  }
}

}  // namespace detail

// How the work is cut: every piece is `rows` of the n and `columns` of the inner elements.
struct ReducePlan {
  AxisSplit s;
  int64_t chunks, bands, columns;

  explicit ReducePlan(const AxisSplit& split) : s(split) {
    constexpr int64_t kPieces = 16;
    columns = std::min(s.inner, detail::kMostColumns);
    bands = columns == 0 ? 0 : (s.inner + columns - 1) / columns;
    const int64_t pieces = std::max<int64_t>(1, s.outer * bands),
                  most = s.size * columns / kTaskElements;
    chunks = std::clamp<int64_t>(std::min(kPieces / pieces, most), 1, std::max<int64_t>(1, s.size));
  }
  int64_t partials() const { return s.outer * chunks * s.inner; }
};

// y = reduction of x by R, finally passed through finish(A) -> Out. `partial` holds plan.partials()
// results.
template <class R, class A, class T, class Out, class Finish>
void reduce_run(const ReducePlan& plan, const T* x, Out* y, A* partial, const Finish& finish) {
  const AxisSplit& s = plan.s;
  const int64_t pieces = s.outer * plan.chunks * plan.bands;
  const int64_t work = s.size / plan.chunks * plan.columns;
  parallel_for(pieces, grain_of(work), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t band = i % plan.bands, chunk = i / plan.bands % plan.chunks,
                    o = i / plan.bands / plan.chunks;
      const int64_t first = chunk * s.size / plan.chunks, last = (chunk + 1) * s.size / plan.chunks;
      const int64_t c = band * plan.columns, width = std::min(plan.columns, s.inner - c);
      const T* from = x + (o * s.size + first) * s.inner + c;
      A* to = partial + (o * plan.chunks + chunk) * s.inner + c;
      if (s.inner == 1) {
        *to = detail::reduce_row<R, A>(from, last - first);
      } else {
        detail::reduce_piece<R, A>(from, last - first, width, s.inner, to);
      }
    }
  });
  parallel_for(s.outer, grain_of(plan.chunks * s.inner), [&](int64_t begin, int64_t end, int) {
    for (int64_t o = begin; o < end; ++o) {
      A* to = partial + o * plan.chunks * s.inner;
      for (int64_t k = 1; k < plan.chunks; ++k)
        for (int64_t c = 0; c < s.inner; ++c) to[c] = R::join(to[c], to[k * s.inner + c]);
      for (int64_t c = 0; c < s.inner; ++c) y[o * s.inner + c] = finish(to[c]);
    }
  });
}

}  // namespace trireme
