// The seed of flash_attn's random numbers, made on the device: the state lives there.
#include "ops/cuda_common.cuh"
#include "ops/flash_attn_seed.h"

namespace trireme::cuda {
namespace {

__device__ uint64_t mixed(uint64_t v) {  // SplitMix64
  v += 0x9E3779B97F4A7C15ull;
  v = (v ^ v >> 30) * 0xBF58476D1CE4E5B9ull;
  v = (v ^ v >> 27) * 0x94D049BB133111EBull;
  return v ^ v >> 31;
}

__global__ void attention_seed(const int64_t* state, int64_t index, int64_t* seed) {
  const auto a = static_cast<uint64_t>(state[0]), b = static_cast<uint64_t>(state[1]);
  seed[0] = static_cast<int64_t>(mixed(mixed(a) ^ mixed(static_cast<uint64_t>(index) + 1) ^ b));
  seed[1] = 0;
}

}  // namespace

void run_attention_seed(const int64_t* state, int64_t index, int64_t* seed, void* stream) {
  attention_seed<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(state, index, seed);
  TRI_CUDA_LAUNCHED();
}

}  // namespace trireme::cuda
