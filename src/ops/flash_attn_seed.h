// The random numbers of flash_attn.
#pragma once

#include <cstdint>

namespace trireme::cuda {

// cuDNN's seed and offset [2] for the random state [2] and the place `index` of a program.
void run_attention_seed(const int64_t* state, int64_t index, int64_t* seed, void* stream);

}  // namespace trireme::cuda
