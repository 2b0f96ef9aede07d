// Tile functions: each pointwise operator as a loop over a short run of elements, one table per
// instruction set.
#pragma once

#include <cstdint>

namespace trireme {

// What a tile holds: float16, bfloat16 and float32 are computed as float, integers and bool as
// int64.
enum class TileClass : uint8_t { kFloat, kDouble, kInt };

// dst[i] = f(x[i], y[i]) for i < n; a and b are the operator's attributes. Pointers are of the
// class's element type (of a comparison's dst: int64). x, y may equal dst.
using TileFn = void (*)(void* dst, const void* x, const void* y, int n, double a, double b);

enum class TileOp : uint8_t {
#define TRI_UNARY(name, value, kind, ...) name, TRI_IF_##kind(name##_grad, )
#define TRI_FLOAT(name, value, kind, ...) name, TRI_IF_##kind(name##_grad, )
#define TRI_BINARY(name, ...) name,
#define TRI_COMPARE(name, ...) name,
#define TRI_LOGIC(name, ...) name,
#include "ops/pointwise.def"
#undef TRI_UNARY
#undef TRI_FLOAT
#undef TRI_BINARY
#undef TRI_COMPARE
#undef TRI_LOGIC
  count
};

struct TileTable {
  TileFn op[static_cast<int>(TileOp::count)][3];  // by TileClass of the inputs; null: not for it
  void (*select[3])(void* dst, const void* condition, const void* x, const void* y,
                    int n);  // condition: int64
  void (*bf16_to_float)(float* dst, const uint16_t* x, int n);
  void (*float_to_bf16)(uint16_t* dst, const float* x, int n);
};

// The best table this processor runs.
const TileTable& tile_table();

}  // namespace trireme
