// What the float32 plans (conv_f32*.cpp) ask of the AVX-512 kernels (*_f32_avx512.cpp). Internal.
// Strides and pitches count floats.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cpu/conv.h"

namespace trireme::cpu::f32 {

inline constexpr int kLanes = 16;
inline constexpr int64_t kLongestSum = 1152;  // of K in one go

// Panels: how oc output channels are cut into groups of 1..3 vectors. Panel p covers vectors
// [panel_vector(p), panel_vector(p + 1)), its weights are [K][vectors * 16], zero beyond oc.
inline int64_t vectors_of(int64_t oc, int64_t lanes = kLanes) { return (oc + lanes - 1) / lanes; }
inline int64_t panels_of(int64_t oc, int64_t lanes = kLanes) {
  const int64_t v = vectors_of(oc, lanes);
  return v % 3 == 0 ? v / 3 : v / 2 + (v == 1);
}
inline int64_t panel_vector(int64_t oc, int64_t p, int64_t lanes = kLanes) {
  const int64_t v = vectors_of(oc, lanes);
  if (v % 3 == 0) return 3 * p;
  return p == panels_of(oc, lanes) ? v : 2 * p;  // an odd one out makes the last panel wider
}

// C[pixels, oc] = epilogue(A * W): a run of pixels times a run of panels.
// Pixel (r, i) of the run (r < rows, i < width) has its K inputs at
//   a + r * a_row + i * a_pixel + tap[t] + c    (t < taps, c < ic)
// its outputs at y + r * y_row + i * ldy, and its residual likewise.
// Where the weights of a run are: every panel of those that are not in L2 fetches the next one.
enum class Weights : uint8_t { kBySize, kCold, kWarm };

struct GemmRun {
  const float* a = nullptr;
  int64_t a_pixel = 0, a_row = 0;
  int64_t rows = 1, width = 0;
  const int64_t* tap = nullptr;
  int64_t taps = 1, ic = 0;
  const float* w = nullptr;  // all panels
  Weights weights = Weights::kBySize;
  int64_t oc = 0, panel_begin = 0, panel_end = 0;
  const float* bias = nullptr;  // [oc] or null
  float* y = nullptr;
  int64_t ldy = 0, y_row = 0;
  const float* residual = nullptr;
  int64_t ldr = 0, r_row = 0;
  const Epilogue* epilogue = nullptr;
  // Not 1: element k of K lies k a_step further, pixels lie side by side (one row, one tap): as
  // columns of a matrix, or, with tile_rows above 0 and a_step 16, in what pack_tiles() made.
  int64_t a_step = 1;
  int tile_rows = 0;
  bool accumulate = false;  // y holds sums already, which go on (no bias then)
  bool more = false;        // the sums go on in another run (no epilogue then)
  // Memory that is wanted in L2 when this run is done, fetched in this order.
  struct Ahead {
    const char *at = nullptr, *end = nullptr;
  };
  Ahead ahead[3];
};
inline GemmRun::Ahead ahead_of(const float* x, int64_t floats) {
  return {reinterpret_cast<const char*>(x), reinterpret_cast<const char*>(x + floats)};
}
void gemm(const GemmRun& run);

// ---- products of float16, see ConvSpec::half_products

// Panels are cut in vectors of 32 columns, their weights lie as [K][vectors * 32] float16 (64 bytes
// a vector, as in float32), each column divided by a power of two of its own.
inline constexpr int kHalfLanes = 32;
struct HalfScales {
  float pixels = 1;                // what halve_pixels() returned
  const float* columns = nullptr;  // the weights' powers of two, [vectors * 32]
};
// As gemm(). The run's pixels are those of halve_pixels(); no a_step, accumulate or more.
void gemm_half(const GemmRun& run, const HalfScales& scales);
// Every number becomes a pair of the same float16, so that the pixels keep their size, divided by a
// power of two for which no sum overflows. Returns it. `out` may be x.
struct HalveRun {
  const float* x = nullptr;
  int64_t x_pixel = 0, x_row = 0;
  int64_t rows = 1, width = 0, channels = 0;
  float* out = nullptr;
  int64_t out_pixel = 0, out_row = 0;
};
float halve_pixels(const HalveRun& run);

// Columns [0, width) of n rows, ldx apart, become the pixels of a run: tiles [n][16] of at most
// `most` of them. most: tile_rows_of() for the columns of the other matrix.
void pack_tiles(const float* x, int64_t ldx, int64_t n, int64_t width, int most, float* out);
// As many rows as the widest of the panels allows.
inline int64_t tile_rows_of(int64_t oc) {
  const int64_t v = vectors_of(oc);
  return v % 3 == 0 || v % 2 == 1 ? (v == 1 ? 14 : 9) : 14;
}

// Depthwise over the output pixels [row_begin, row_end) x [col_begin, col_end) of one image; y and
// residual point at the first of them. Weights are [channel vectors][kh * kw][16].
struct DepthwiseRun {
  const ConvSpec* spec = nullptr;
  const float* x = nullptr;
  const float* w = nullptr;
  const float* bias = nullptr;
  const float* zeros = nullptr;  // at least vectors_of(oc) * 16 zeros
  int64_t row_begin = 0, row_end = 0, col_begin = 0, col_end = 0;
  float* y = nullptr;
  int64_t ldy = 0, y_row = 0;
  const float* residual = nullptr;
  int64_t ldr = 0, r_row = 0;
  const Epilogue* epilogue = nullptr;
};
void depthwise(const DepthwiseRun& run);

// Winograd's F(2x2, 3x3), see conv_f32_winograd.cpp. A tile has sixteen inputs (4 x 4 pixels) and
// four outputs (2 x 2); element e of the transformed tile lies e * pitch floats further.
void winograd_input(const float* const (&pixel)[16], int64_t ic, float* v, int64_t pitch);
// Null y: the pixel is outside the picture. r is only read when the epilogue has a residual.
void winograd_output(const float* m, int64_t pitch, int64_t oc, const float* bias,
                     const Epilogue& epilogue, float* const (&y)[4], const float* const (&r)[4]);

// y[i, c] = x[i, c] * scale[c] for n pixels.
void scale_pixels(const float* x, int64_t ldx, const float* scale, int64_t n, int64_t channels,
                  float* y, int64_t ldy);

// ---- for the gradients of weights (wgrad_f32.cpp)

// out[c * pitch + j] = x[column * ldx + c] where column = first + j * step (zero outside [0,
// width)) for count columns and some channels. bfloat16 comes as its bits.
struct TurnRun {
  int64_t first = 0, step = 1, count = 0, width = 0;
  int64_t ldx = 0, channels = 0, pitch = 0;
};
void turn_pixels(const float* x, const TurnRun& run, float* out);
void turn_pixels(const uint16_t* x, const TurnRun& run, float* out);

// n rows of oc elements, ldx apart, into panels [n_total][vectors * 16] from row `at` on.
void pack_rows(const float* x, int64_t ldx, int64_t n, int64_t oc, int64_t at, int64_t n_total,
               float* out);
void pack_rows(const uint16_t* x, int64_t ldx, int64_t n, int64_t oc, int64_t at, int64_t n_total,
               float* out);

// y[i, c] += x[i, c].
void add_rows(const float* x, int64_t ldx, int64_t n, int64_t columns, float* y, int64_t ldy);

// n rows of oc elements, ldx apart, into some of the panels [n_total][vectors * 16], from row `at`
// on; the first of these panels lies at `out`.
struct PackRun {
  int64_t ldx, n, oc, panel_begin, panel_end, at, n_total;
};
void pack_panels(const float* x, const PackRun& run, float* out);

// Depthwise: adds the output row's products with its window to dw [kh * kw][vectors * 16].
// x: the image; dy: the row.
void depthwise_wgrad_row(const ConvSpec& s, const float* x, const float* dy, int64_t oy, float* dw);

// The 2x2 transposed convolution to one channel: q holds w times four accumulators (two rows of
// two); makes two output rows of 2 w pixels, ldy apart, of them.
void spread_quads(const float* q, int64_t w, float bias, const Epilogue& epilogue, float* row0,
                  float* row1, int64_t ldy);

}  // namespace trireme::cpu::f32
