// CPUID through the compiler's builtins; AMX tiles also need the kernel's permission.
#include "base/cpu_features.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace trireme {
namespace {

#if defined(__x86_64__)
bool has_fp16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && ((d >> 23) & 1);
}

bool amx_permitted() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool tile = (d >> 24) & 1, bf16 = (d >> 22) & 1;
  constexpr long kRequestPermission = 0x1023,
                 kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return tile && bf16 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

CpuFeatures detect() {
  CpuFeatures f;
#if defined(__x86_64__)
  __builtin_cpu_init();
  f.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  f.avx512 = f.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  f.avx512_bf16 = f.avx512 && __builtin_cpu_supports("avx512bf16");
  f.avx512_fp16 = f.avx512 && has_fp16();
  f.amx_bf16 = f.avx512_bf16 && amx_permitted();
  f.fast_bf16 = f.avx512_bf16 && __builtin_cpu_is("amd");
#endif
  if (const char* cap = std::getenv("TRIREME_CPU")) {
    const bool baseline = !std::strcmp(cap, "baseline"), avx2 = !std::strcmp(cap, "avx2");
    const bool avx512 = !std::strcmp(cap, "avx512");
    if (baseline) f.avx2 = false;
    if (baseline || avx2) f.avx512 = f.avx512_bf16 = false;
    if (baseline || avx2 || avx512) f.avx512_fp16 = f.amx_bf16 = f.fast_bf16 = false;
    if (!std::strcmp(cap, "bf16")) f.fast_bf16 = f.avx512_bf16;
  }
  f.fast_bf16 |= f.amx_bf16;
  return f;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

}  // namespace trireme
