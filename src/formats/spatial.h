// What convolutions, pools and resizes share: Paddle's ways to write paddings, and channels-last
// programs.
#pragma once

#include <string>
#include <vector>

#include "formats/context.h"

namespace trireme {

// Top, bottom, left, right from `paddings` (2 or 4 numbers) and `padding_algorithm` (EXPLICIT,
// SAME, VALID). SAME resets `dilations` to 1, as Paddle does.
std::vector<int64_t> resolve_paddings(const Context& c, const Value* x,
                                      const std::vector<int64_t>& kernel,
                                      const std::vector<int64_t>& strides,
                                      std::vector<int64_t>& dilations);

// Exactly two positive numbers; one is doubled.
std::vector<int64_t> pair_of(const Context& c, std::string_view name,
                             std::vector<int64_t> otherwise);

// Whether the program computes in [N, ..., C]; refuses layouts that have no name here.
bool channels_last(const Context& c, std::string_view attr = "data_format");
// [N, ..., C] -> [N, C, ...] and back.
Value* to_channels_first(Value* x);
Value* to_channels_last(Value* x);

}  // namespace trireme
