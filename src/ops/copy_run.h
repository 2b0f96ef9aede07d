// copy_run: memcpy for kernels whose runs are mostly a few vectors long, where a call costs as much
// as the copy.
#pragma once

#include <cstddef>
#include <cstring>

namespace trireme {

inline void copy_run(void* to, const void* from, size_t bytes) {
  if (bytes > 512) {
    std::memcpy(to, from, bytes);
    return;
  }
  char* dst = static_cast<char*>(to);
  const char* src = static_cast<const char*>(from);
  size_t i = 0;
  for (; i + 16 <= bytes; i += 16) std::memcpy(dst + i, src + i, 16);
  if (i + 8 <= bytes) std::memcpy(dst + i, src + i, 8), i += 8;
  if (i + 4 <= bytes) std::memcpy(dst + i, src + i, 4), i += 4;
  for (; i < bytes; ++i) dst[i] = src[i];
}

}  // namespace trireme
