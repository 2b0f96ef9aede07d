// The AMX tile product: a block of pixels times a panel of packed weights, accumulated in float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cpu/conv.h"

namespace trireme::cpu::bf16 {

constexpr int kTile = 16;         // rows of A, columns of B
constexpr int64_t kMaxStep = 32;  // elements of K that one tile instruction takes

// How K (input channels of all kernel taps) is cut into tile steps. An exact layout has steps that
// divide the channels of one tap, so A tiles load straight from the activations and never read
// what is not theirs. The others need A copied into a block padded with zeros.
struct KLayout {
  int64_t step = 0;      // elements of K in a step: even, at most 32
  int64_t steps = 0;     // steps in a segment
  int64_t segments = 1;  // one for each tap, or one in all (`joined`: few channels, many taps), or
                         // one for each row of the window (`lines`, see line_ring_bf16_amx.h)
  bool joined = false, lines = false;
  bool exact = false;
  int64_t all_steps() const { return steps * segments; }
  int64_t b_tile() const { return all_steps() * step * kTile; }  // elements for 16 columns
};
KLayout k_layout(const ConvSpec& spec);

// Packed weights: [group][transposed tap][16 columns][segment][step][step / 2][16][2].
size_t packed_gemm_bytes(const ConvSpec& spec);
void pack_gemm(const ConvSpec& spec, const float* weight, void* packed);

// A run of K steps for up to four tiles of A: row r of tile i starts at a[i] + r * stride[i] bytes.
struct Segment {
  const char* a[4];
  int64_t stride[4];
  int64_t b;  // offset of the segment's first step in a B tile column, bytes
  int64_t steps;
};

// Memory to bring near during a product: `lines` cache lines in each of its steps.
struct Ahead {
  const char* at = nullptr;
  int64_t lines = 0;
};

struct TileJob {
  const Segment* segments;
  int64_t count;
  int64_t a_step, b_step;  // bytes from one step to the next
  const char* b;           // first tile column; the next one is b_tile bytes later
  int64_t b_tile;
  float* c;  // [m * 16][n * 16], 64-byte aligned
  bool add;  // to what c holds already
  Ahead ahead[2];
};

// c = A B, or c += A B, for m tiles of rows by n tiles of columns; m x n is
// one of 1x1 1x2 1x3 1x4 2x1 2x2 3x1 4x1.
void multiply(int m, int n, const TileJob& job);

// Owns the calling thread's tile configuration while it lives; everything multiply() does is under
// it. Changing it costs about 45 ns.
class TileScope {
 public:
  TileScope() = default;
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
  ~TileScope();
  void use(int64_t step, int64_t rows);            // A tiles of `rows` rows
  void use_narrow(int64_t step, int64_t columns);  // B and C tiles of `columns` columns

 private:
  void configure(int64_t step, int64_t rows, int64_t columns);
  int64_t step_ = 0, rows_ = 0;
};

}  // namespace trireme::cpu::bf16
