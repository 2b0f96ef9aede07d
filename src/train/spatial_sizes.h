// Reading Sizes: numbers for one or two spatial dimensions, paddings in all of Paddle's forms.
#pragma once

#include <string>

#include "trireme/nn_functional.h"

namespace trireme::nn {

// `n` numbers; throws naming `what`, "[conv2d] stride".
Ints sizes(const Sizes& s, size_t n, const std::string& what);

// {before, after} of each of `n` dimensions, for windows of `kernel` at `stride` and `dilation`
// over `in` ("SAME": as much as needed for ceil(in / stride) results).
Ints paddings(const Sizes& s, size_t n, const std::string& what, const Ints& in, const Ints& kernel,
              const Ints& stride, Ints& dilation);

// Rank 3 as rank 4 of height 1.
inline Tensor as_picture(const Tensor& x) { return unsqueeze(x, {2}); }

// The pictures x with `size` pixels by Paddle's bicubic rule; `scales` may be empty.
Tensor resize_bicubic(const Tensor& x, const Ints& size, const std::vector<double>& scales,
                      bool align_corners);

}  // namespace trireme::nn
