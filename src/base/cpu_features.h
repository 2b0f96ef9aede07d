// What the processor can do, asked once.
#pragma once

namespace trireme {

struct CpuFeatures {
  bool avx2 = false;    // with FMA and F16C
  bool avx512 = false;  // F, BW, VL, DQ
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  // and the kernel lets this process use the tiles
};

// Thread-safe. TRIREME_CPU=baseline|avx2|avx512|amx in the environment lowers what is reported (for
// tests).
const CpuFeatures& cpu_features();

}  // namespace trireme
