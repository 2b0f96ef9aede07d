// The inner loop of float32 matrix products: up to 14 pixels by 1..3 vectors in registers. Internal.
//
// Written in assembly as a whole, because the compiler does worse: given intrinsics it keeps an
// address register for every pixel and spills them, and it moves accumulators between registers
// inside the loop, which costs a fifth of the speed.
//
// The pixels of a tile lie in two groups of evenly spaced ones; `n0` and `n1` are their sizes.
// Accumulator v of pixel i of group g has a register of its own, (g * kSlots + i) * vectors + v,
// and so the same text serves every tile: the assembler drops the pixels that are not there.
// Two bases and three multiples of the stride (s1, s3, s5) reach all fourteen.
#pragma once

#include <cstdint>

#include "device/cpu/f32_math_avx512.h"

namespace trireme::cpu::f32 {

constexpr int kSlots[4] = {0, 7, 7, 5};  // pixels the larger group may have, by vectors

// Offsets are spelled out in the assembly.
struct TileLoop {
  const float* a[2];       // 0, 8: the groups' first pixels
  const int64_t* tap_end;  // 16
  int64_t quads, rest;     // 24, 32: steps of K a tap: 4 * quads + rest
  const int64_t* tap;
  const float* w;
  int64_t stride;     // bytes between neighbouring pixels
  const char* ahead;  // to fetch meanwhile: 128 bytes every four steps of K
  int64_t ahead_step;
};

#define TRI_PIXEL_0(a) "(%[" a "])"
#define TRI_PIXEL_1(a) "(%[" a "],%[s1])"
#define TRI_PIXEL_2(a) "(%[" a "],%[s1],2)"
#define TRI_PIXEL_3(a) "(%[" a "],%[s3])"
#define TRI_PIXEL_4(a) "(%[" a "],%[s1],4)"
#define TRI_PIXEL_5(a) "(%[" a "],%[s5])"
#define TRI_PIXEL_6(a) "(%[" a "],%[s3],2)"

#define TRI_IF(g, i, text) ".if %c[n" #g "] > " #i "\n\t" text ".endif\n\t"
#define TRI_CLEAR(r) "vpxord %%zmm" #r ", %%zmm" #r ", %%zmm" #r "\n\t"
#define TRI_STORE(r) "vmovaps %%zmm" #r ", " #r "*64(%[out])\n\t"
#define TRI_FMA(b, x, r) "vfmadd231ps %%zmm" #b ", %%zmm" #x ", %%zmm" #r "\n\t"
#define TRI_WEIGHT(s, vectors, v, b) \
  "vmovups " #s "*" #vectors "*64+" #v "*64(%[w]), %%zmm" #b "\n\t"
#define TRI_BROADCAST(s, g, i, x) "vbroadcastss " #s "*4" TRI_PIXEL_##i("a" #g) ", %%zmm" #x "\n\t"

// Step s for pixel i of group g, whose accumulators are the last arguments; x is a free register.
#define TRI_ROW_1(s, g, i, x, r) TRI_IF(g, i, TRI_BROADCAST(s, g, i, x) TRI_FMA(28, x, r))
#define TRI_ROW_2(s, g, i, x, r, q) \
  TRI_IF(g, i, TRI_BROADCAST(s, g, i, x) TRI_FMA(28, x, r) TRI_FMA(29, x, q))
#define TRI_ROW_3(s, g, i, x, r, q, p) \
  TRI_IF(g, i, TRI_BROADCAST(s, g, i, x) TRI_FMA(27, x, r) TRI_FMA(28, x, q) TRI_FMA(29, x, p))

#define TRI_STEP_1(s)                                                                              \
  TRI_WEIGHT(s, 1, 0, 28)                                                                          \
  TRI_ROW_1(s, 0, 0, 30, 0) TRI_ROW_1(s, 0, 1, 31, 1) TRI_ROW_1(s, 0, 2, 30, 2)                    \
  TRI_ROW_1(s, 0, 3, 31, 3) TRI_ROW_1(s, 0, 4, 30, 4) TRI_ROW_1(s, 0, 5, 31, 5)                    \
  TRI_ROW_1(s, 0, 6, 30, 6) TRI_ROW_1(s, 1, 0, 31, 7) TRI_ROW_1(s, 1, 1, 30, 8)                    \
  TRI_ROW_1(s, 1, 2, 31, 9) TRI_ROW_1(s, 1, 3, 30, 10) TRI_ROW_1(s, 1, 4, 31, 11)                  \
  TRI_ROW_1(s, 1, 5, 30, 12) TRI_ROW_1(s, 1, 6, 31, 13)
#define TRI_STEP_2(s)                                                                              \
  TRI_WEIGHT(s, 2, 0, 28) TRI_WEIGHT(s, 2, 1, 29)                                                  \
  TRI_ROW_2(s, 0, 0, 30, 0, 1) TRI_ROW_2(s, 0, 1, 31, 2, 3) TRI_ROW_2(s, 0, 2, 30, 4, 5)           \
  TRI_ROW_2(s, 0, 3, 31, 6, 7) TRI_ROW_2(s, 0, 4, 30, 8, 9) TRI_ROW_2(s, 0, 5, 31, 10, 11)         \
  TRI_ROW_2(s, 0, 6, 30, 12, 13) TRI_ROW_2(s, 1, 0, 31, 14, 15) TRI_ROW_2(s, 1, 1, 30, 16, 17)     \
  TRI_ROW_2(s, 1, 2, 31, 18, 19) TRI_ROW_2(s, 1, 3, 30, 20, 21) TRI_ROW_2(s, 1, 4, 31, 22, 23)     \
  TRI_ROW_2(s, 1, 5, 30, 24, 25) TRI_ROW_2(s, 1, 6, 31, 26, 27)
#define TRI_STEP_3(s)                                                                              \
  TRI_WEIGHT(s, 3, 0, 27) TRI_WEIGHT(s, 3, 1, 28) TRI_WEIGHT(s, 3, 2, 29)                          \
  TRI_ROW_3(s, 0, 0, 30, 0, 1, 2) TRI_ROW_3(s, 0, 1, 31, 3, 4, 5)                                  \
  TRI_ROW_3(s, 0, 2, 30, 6, 7, 8) TRI_ROW_3(s, 0, 3, 31, 9, 10, 11)                                \
  TRI_ROW_3(s, 0, 4, 30, 12, 13, 14) TRI_ROW_3(s, 1, 0, 31, 15, 16, 17)                            \
  TRI_ROW_3(s, 1, 1, 30, 18, 19, 20) TRI_ROW_3(s, 1, 2, 31, 21, 22, 23)                            \
  TRI_ROW_3(s, 1, 3, 30, 24, 25, 26)

// `each` is done to the accumulators of every pixel that is there.
#define TRI_EACH_1(each)                                                                           \
  TRI_IF(0, 0, each(0)) TRI_IF(0, 1, each(1)) TRI_IF(0, 2, each(2)) TRI_IF(0, 3, each(3))          \
  TRI_IF(0, 4, each(4)) TRI_IF(0, 5, each(5)) TRI_IF(0, 6, each(6)) TRI_IF(1, 0, each(7))          \
  TRI_IF(1, 1, each(8)) TRI_IF(1, 2, each(9)) TRI_IF(1, 3, each(10)) TRI_IF(1, 4, each(11))        \
  TRI_IF(1, 5, each(12)) TRI_IF(1, 6, each(13))
#define TRI_EACH_2(each)                                                                           \
  TRI_IF(0, 0, each(0) each(1)) TRI_IF(0, 1, each(2) each(3)) TRI_IF(0, 2, each(4) each(5))        \
  TRI_IF(0, 3, each(6) each(7)) TRI_IF(0, 4, each(8) each(9)) TRI_IF(0, 5, each(10) each(11))      \
  TRI_IF(0, 6, each(12) each(13)) TRI_IF(1, 0, each(14) each(15))                                  \
  TRI_IF(1, 1, each(16) each(17)) TRI_IF(1, 2, each(18) each(19))                                  \
  TRI_IF(1, 3, each(20) each(21)) TRI_IF(1, 4, each(22) each(23))                                  \
  TRI_IF(1, 5, each(24) each(25)) TRI_IF(1, 6, each(26) each(27))
#define TRI_EACH_3(each)                                                                           \
  TRI_IF(0, 0, each(0) each(1) each(2)) TRI_IF(0, 1, each(3) each(4) each(5))                      \
  TRI_IF(0, 2, each(6) each(7) each(8)) TRI_IF(0, 3, each(9) each(10) each(11))                    \
  TRI_IF(0, 4, each(12) each(13) each(14)) TRI_IF(1, 0, each(15) each(16) each(17))                \
  TRI_IF(1, 1, each(18) each(19) each(20)) TRI_IF(1, 2, each(21) each(22) each(23))                \
  TRI_IF(1, 3, each(24) each(25) each(26))

#define TRI_LOOP(vectors)                                                                          \
  asm volatile(                                                                                    \
      TRI_EACH_##vectors(TRI_CLEAR)                                                                \
      "1:\n\t"                                                                                     \
      "mov (%[tap]), %[a1]\n\t"                                                                    \
      "shl $2, %[a1]\n\t"                                                                          \
      "mov %[a1], %[a0]\n\t"                                                                       \
      "add (%[loop]), %[a0]\n\t"                                                                   \
      "add 8(%[loop]), %[a1]\n\t"                                                                  \
      "mov 24(%[loop]), %[k]\n\t"                                                                  \
      "test %[k], %[k]\n\t"                                                                        \
      "jz 3f\n\t"                                                                                  \
      ".p2align 6\n\t"                                                                             \
      "2:\n\t"                                                                                     \
      "prefetcht1 (%[ahead])\n\t"                                                                  \
      "prefetcht1 64(%[ahead])\n\t"                                                                \
      TRI_STEP_##vectors(0)                                                                        \
      TRI_STEP_##vectors(1)                                                                        \
      TRI_STEP_##vectors(2)                                                                        \
      TRI_STEP_##vectors(3)                                                                        \
      "add %[ahead_step], %[ahead]\n\t"                                                            \
      "add $16, %[a0]\n\t"                                                                         \
      "add $16, %[a1]\n\t"                                                                         \
      "add $4*64*" #vectors ", %[w]\n\t"                                                           \
      "dec %[k]\n\t"                                                                               \
      "jnz 2b\n\t"                                                                                 \
      "3:\n\t"                                                                                     \
      "mov 32(%[loop]), %[k]\n\t"                                                                  \
      "test %[k], %[k]\n\t"                                                                        \
      "jz 5f\n\t"                                                                                  \
      "4:\n\t"                                                                                     \
      TRI_STEP_##vectors(0)                                                                        \
      "add $4, %[a0]\n\t"                                                                          \
      "add $4, %[a1]\n\t"                                                                          \
      "add $64*" #vectors ", %[w]\n\t"                                                             \
      "dec %[k]\n\t"                                                                               \
      "jnz 4b\n\t"                                                                                 \
      "5:\n\t"                                                                                     \
      "add $8, %[tap]\n\t"                                                                         \
      "cmp 16(%[loop]), %[tap]\n\t"                                                                \
      "jb 1b\n\t"                                                                                  \
      TRI_EACH_##vectors(TRI_STORE)                                                                \
      : [a0] "=&r"(a0), [a1] "=&r"(a1), [k] "=&r"(k), [w] "+r"(w), [tap] "+r"(tap),                \
        [ahead] "+r"(ahead)                                                                        \
      : [loop] "r"(&loop), [out] "r"(out), [s1] "r"(s1), [s3] "r"(3 * s1), [s5] "r"(5 * s1),       \
        [ahead_step] "r"(loop.ahead_step), [n0] "i"(n0), [n1] "i"(n1)                              \
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",    \
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18",   \
        "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28",  \
        "xmm29", "xmm30", "xmm31")

// Sums of kRows pixels, of which group 0 has (kRows + 1) / 2, from zero. Accumulators go to `out`
// (64-byte aligned) in the order of their registers.
template <int kRows, int kVectors> TRI_INLINE void tile_loop(const TileLoop& loop, float* out) {
  constexpr int n0 = (kRows + 1) / 2, n1 = kRows / 2;
  static_assert(n0 <= kSlots[kVectors] && (kSlots[kVectors] + n1) * kVectors <= 28);
  const float* w = loop.w;
  const int64_t* tap = loop.tap;
  const char* ahead = loop.ahead;
  const int64_t s1 = loop.stride;
  int64_t a0, a1, k;
  if constexpr (kVectors == 1) TRI_LOOP(1);
  if constexpr (kVectors == 2) TRI_LOOP(2);
  if constexpr (kVectors == 3) TRI_LOOP(3);
}

#undef TRI_PIXEL_0
#undef TRI_PIXEL_1
#undef TRI_PIXEL_2
#undef TRI_PIXEL_3
#undef TRI_PIXEL_4
#undef TRI_PIXEL_5
#undef TRI_PIXEL_6
#undef TRI_IF
#undef TRI_CLEAR
#undef TRI_STORE
#undef TRI_FMA
#undef TRI_WEIGHT
#undef TRI_BROADCAST
#undef TRI_ROW_1
#undef TRI_ROW_2
#undef TRI_ROW_3
#undef TRI_STEP_1
#undef TRI_STEP_2
#undef TRI_STEP_3
#undef TRI_EACH_1
#undef TRI_EACH_2
#undef TRI_EACH_3
#undef TRI_LOOP

}  // namespace trireme::cpu::f32
