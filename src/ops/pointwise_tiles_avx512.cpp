// Tile functions compiled for avx512.
#include "device/cpu/gelu_avx512.h"
#include "ops/avx512.h"

namespace trireme {
namespace {

// Memory is what these wait for.
void gelu_tile_avx512(float* dst, const float* x, int n) {
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    store(dst + i, m, cpu::gelu_ps(load(x + i, m)));
  }
}
void gelu_grad_tile_avx512(float* dst, const float* x, const float* dy, int n) {
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = lanes(n - i);
    store(dst + i, m, _mm512_mul_ps(load(dy + i, m), cpu::gelu_slope_ps(load(x + i, m))));
  }
}

}  // namespace
}  // namespace trireme

#define TRI_TILE_TABLE tile_table_avx512
#define TRI_TILE_GELU  // those two are hot and have their own
#include "ops/pointwise_tiles.inc"
