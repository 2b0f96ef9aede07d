// What the processor can do, asked once.
#pragma once

namespace trireme {

struct CpuFeatures {
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F, BW, VL, DQ
  bool avx512_bf16 = false;
  bool avx512_fp16 = false;
  bool amx_bf16 = false;  // and the kernel lets this process use the tiles
  // Products of bfloat16 are faster than of float32: with AMX, or AMD's AVX512-BF16. On Intel's
  // processors VDPBF16PS does 32 multiplications in the time of four FMAs of 16 (measured on
  // Emerald Rapids: networks take twice as long as in float32).
  bool fast_bf16 = false;
};

// Thread-safe. TRIREME_CPU in the environment changes what is reported, for tests:
// baseline|avx2|avx512|amx lowers it (avx512: no 16-bit products), bf16 takes bfloat16 for fast
// where it is there at all.
const CpuFeatures& cpu_features();

}  // namespace trireme
