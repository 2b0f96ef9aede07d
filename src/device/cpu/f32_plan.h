// Small decisions that packing and planning of float32 convolutions share. Internal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "device/cpu/conv.h"
#include "device/cpu/f32_kernels.h"

namespace trireme::cpu::f32 {

inline bool is_depthwise(const ConvSpec& s) {
  return s.groups > 1 && s.groups == s.ic && s.groups == s.oc;
}
// Few input channels: the picture is cut into planes and K runs over (channel, row, column).
inline bool is_shallow(const ConvSpec& s) { return s.ic <= 4 && s.groups == 1 && !s.transposed; }
// Transposed, to one channel, 2 x 2: four columns in one panel instead of two in each of two.
inline bool is_quad(const ConvSpec& s) {
  return s.transposed && s.oc == 1 && s.kh == 2 && s.kw == 2;
}
inline int64_t set_floats(int64_t k_total, int64_t oc) { return vectors_of(oc) * kLanes * k_total; }
// The same of float16, with the columns' scales behind the panels.
inline int64_t half_set_floats(int64_t k_total, int64_t oc) {
  return vectors_of(oc, kHalfLanes) * (kLanes * k_total + kHalfLanes);
}

// 3x3 with enough channels may run as Winograd, whose weights then follow the plain ones. Large
// ones are left out: 16 transformed values for 9 would come from memory.
inline bool is_winograd(const ConvSpec& s) {
  return s.kh == 3 && s.kw == 3 && s.sh == 1 && s.sw == 1 && s.dh == 1 && s.dw == 1 &&
         s.groups == 1 && !s.transposed && s.ic >= 16 && s.oc >= 16 && s.ic * s.oc <= 256 * 256;
}

// Whether products are of float16: with sums and results that are long enough to pay for making
// the pixels float16.
inline bool halves(const ConvSpec& s) {
  return s.half_products && cpu_features().avx512_fp16 && !s.transposed && !is_depthwise(s) &&
         !is_shallow(s) && !is_winograd(s) && s.kh * s.kw * (s.ic / s.groups) >= 32 &&
         s.oc / s.groups >= 24;
}
// Of a group's weights.
inline int64_t weight_floats(const ConvSpec& s) {
  const int64_t k_total = s.kh * s.kw * (s.ic / s.groups), oc = s.oc / s.groups;
  return halves(s) ? half_set_floats(k_total, oc) : set_floats(k_total, oc);
}
// The run in the spec's kind of products; halve(run) makes its pixels float16, once for all.
template <class Halve> void multiply(const ConvSpec& s, const GemmRun& run, Halve&& halve) {
  if (!halves(s)) return gemm(run);
  GemmRun half = run;
  HalfScales scales;
  scales.pixels = halve(half);
  scales.columns = run.w + vectors_of(run.oc, kHalfLanes) * kLanes * run.taps * run.ic;
  gemm_half(half, scales);
}
inline int64_t lanes_of(const ConvSpec& s) { return halves(s) ? kHalfLanes : kLanes; }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Rows of a depthwise result that are made together: two share what they read, unless that would
// leave threads without their equal part.
inline int64_t depthwise_rows(const ConvSpec& dw, int64_t slots) {
  const int64_t pairs = ceil_div(dw.n * dw.oh, 2);
  return dw.sh == 1 && (pairs % slots == 0 || pairs >= 8 * slots) ? 2 : 1;
}

// A rectangle of work: row units, columns, panels; [begin, end) each.
struct Part {
  int64_t row[2], col[2], panel[2];
};

// How the work is dealt out: rows x cols x panels parts.
struct Grid {
  int64_t rows = 1, cols = 1, panels = 1;
  int64_t count() const { return rows * cols * panels; }
};

// What dealing out goes by. Costs are in vector multiply-adds.
struct Work {
  int64_t rows = 1;      // indivisible groups of rows
  int64_t row_unit = 1;  // rows of a group
  int64_t lines = 0;     // rows in all, when the last group may be smaller
  int64_t cols = 1;      // indivisible groups of columns
  int64_t panels = 1;
  double cell = 1;     // a row unit times a column unit times all panels
  double prepare = 0;  // a row unit times a column unit, repeated by every panel part
  double weights = 0;  // all panels, once a part
};
Grid choose_grid(const Work& work, int64_t slots);

// Part i of the grid, in units.
Part part_at(const Work& work, const Grid& grid, int64_t i);

inline constexpr int64_t kLargePicture = 256 * 1024;  // floats of input that do not stay in L2

inline constexpr int64_t kManyWeights = 128 * 1024;  // floats of weights that crowd L2

// Pixels a block works on: its input, and its output as long as that does not make weights beyond
// L2 pass by more often, take up to 384 KB of the 2 MB.
inline int64_t block_pixels(int64_t in_floats, int64_t k_total, int64_t oc) {
  const bool small = k_total * oc < kManyWeights;
  return 96 * 1024 / (in_floats + (small ? oc : 0));
}
inline constexpr int64_t kTilePixels = 14;

inline size_t bytes_of(int64_t floats) { return static_cast<size_t>(floats) * sizeof(float); }

// Rows whose distance is a multiple of 2 KB fall into few cache sets: copies get a wider pitch.
inline int64_t pitch_of(int64_t channels) {
  return channels % 512 == 0 ? channels + kLanes : channels;
}

// Runs f(i, scratch) for every part, each part with scratch memory of its own.
template <class F> void for_parts(int64_t count, int64_t scratch_floats, void* scratch, F&& f) {
  parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) f(i, static_cast<float*>(scratch) + i * scratch_floats);
  });
}

// Output rows [begin, end) of one image.
struct Rows {
  int64_t image, begin, end;
};

// Cuts output rows [begin, end), counted over all images, into blocks within one image.
template <class F>
void for_row_blocks(int64_t begin, int64_t end, int64_t oh, int64_t block, F&& f) {
  while (begin < end) {
    const int64_t image = begin / oh, y = begin % oh;
    const int64_t count = std::min({block, oh - y, end - begin});
    f(Rows{image, y, y + count});
    begin += count;
  }
}

// Convolutions with a window wider than a pixel, or a stride; and depthwise followed by 1x1.
std::unique_ptr<Conv> make_windowed(const ConvSpec& spec, const Epilogue& epilogue);
std::unique_ptr<Conv> make_windowed(const ConvSpec& dw, const Epilogue& dw_epilogue,
                                    const ConvSpec& pw, const Epilogue& epilogue);

// Null where the plain form is better.
std::unique_ptr<Conv> make_winograd(const ConvSpec& spec, const Epilogue& epilogue);

}  // namespace trireme::cpu::f32
