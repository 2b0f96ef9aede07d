// AMX tiles in software, to test the kernels of *_amx.cpp on processors without them: put in front
// of those files (-include), it stands in for the tile instructions that they use. Rows and columns
// beyond a tile's configuration are zeros, as the processor has it. Needs AVX512-BF16.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "device/cpu/immintrin_quiet.h"

namespace trireme::test {

struct Tiles {
  alignas(64) unsigned char data[8][16][64];
  uint16_t bytes[8] = {};
  uint8_t rows[8] = {};
};
inline thread_local Tiles tiles;

inline void configure_tiles(const void* palette) {
  const auto* p = static_cast<const unsigned char*>(palette);
  if (p[0] != 1) std::abort();
  std::memcpy(tiles.bytes, p + 16, sizeof tiles.bytes);
  std::memcpy(tiles.rows, p + 48, sizeof tiles.rows);
  for (int t = 0; t < 8; ++t)
    if (tiles.bytes[t] > 64 || tiles.rows[t] > 16) std::abort();
  std::memset(tiles.data, 0, sizeof tiles.data);
}
inline void zero_tile(int t) { std::memset(tiles.data[t], 0, sizeof tiles.data[t]); }
inline void load_tile(int t, const void* from, int64_t stride) {
  zero_tile(t);
  for (int r = 0; r < tiles.rows[t]; ++r)
    std::memcpy(tiles.data[t][r], static_cast<const char*>(from) + r * stride, tiles.bytes[t]);
}
inline void store_tile(int t, void* to, int64_t stride) {
  for (int r = 0; r < tiles.rows[t]; ++r)
    std::memcpy(static_cast<char*>(to) + r * stride, tiles.data[t][r], tiles.bytes[t]);
}
inline void multiply_tiles(int c, int a, int b) {
  const int pairs = tiles.bytes[a] / 4;
  if (tiles.rows[a] != tiles.rows[c] || tiles.rows[b] != pairs || tiles.bytes[b] != tiles.bytes[c])
    std::abort();
  for (int r = 0; r < tiles.rows[c]; ++r) {
    __m512 sum = _mm512_load_ps(tiles.data[c][r]);
    for (int k = 0; k < pairs; ++k) {
      int32_t pair;
      std::memcpy(&pair, tiles.data[a][r] + 4 * k, 4);
      sum = _mm512_dpbf16_ps(sum, std::bit_cast<__m512bh>(_mm512_set1_epi32(pair)),
                             std::bit_cast<__m512bh>(_mm512_load_si512(tiles.data[b][k])));
    }
    _mm512_store_ps(tiles.data[c][r], sum);
  }
}

}  // namespace trireme::test

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig(palette) trireme::test::configure_tiles(palette)
#define _tile_release() ((void)0)
#define _tile_zero(t) trireme::test::zero_tile(t)
#define _tile_loadd(t, from, stride) trireme::test::load_tile(t, from, stride)
#define _tile_stored(t, to, stride) trireme::test::store_tile(t, to, stride)
#define _tile_dpbf16ps(c, a, b) trireme::test::multiply_tiles(c, a, b)
