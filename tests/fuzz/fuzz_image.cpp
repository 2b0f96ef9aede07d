// Fuzzes decode_image: any bytes give a picture or an Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "trireme/error.h"
#include "trireme/vision.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kMaxPixels = 1 << 20;
  try {
    const trireme::vision::Image image = trireme::vision::decode_image({data, size}, kMaxPixels);
    const auto pixels = static_cast<size_t>(image.width) * static_cast<size_t>(image.height);
    if (pixels == 0 || image.bgr.size() != pixels * 3) std::abort();
  } catch (const trireme::Error& e) {
    if (e.code() == trireme::Code::kInternal) std::abort();
  }
  return 0;
}
