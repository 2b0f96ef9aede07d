// 3x3 convolutions of small pictures, whose rows would leave much of each A tile unused.
//
// The pictures are copied with one pixel of zeros after each row and one row of them after each
// picture. Neighbours share these, and what one tap sees of 16 pixels in a row, over the ends of
// lines, is a tile whose rows lie equally far apart. The results at the zeros are thrown away. All
// pixels pass a part of the weights while it is in the first-level cache, and the weights come from
// memory once for several pictures, not once for each row.
#pragma once

#include <cstdint>

#include "device/cpu/gemm_bf16_amx.h"

namespace trireme::cpu::bf16 {

bool worth_padding(const ConvSpec& spec, const KLayout& layout, int64_t threads);

// Pixels of the copies from the first picture's first to the last one's last.
int64_t padded_pixels(const ConvSpec& spec, int64_t images);
int64_t padded_bytes(const ConvSpec& spec, int64_t images);
void pad_pictures(const ConvSpec& spec, const uint16_t* x, int64_t images, uint16_t* out);

// Steps [k_begin, k_end) of K for `tiles` tiles of A from padded pixel `at` on. Returns how many
// segments that takes.
int64_t padded_segments(const ConvSpec& spec, const uint16_t* padded, int64_t at, int64_t tiles,
                        int64_t k_begin, int64_t k_end, Segment* segments);

}  // namespace trireme::cpu::bf16
