// Fuzzes the reader of safetensors: any bytes give arrays or an Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "formats/safetensors.h"
#include "trireme/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    trireme::read_safetensors(std::span(reinterpret_cast<const char*>(data), size), "fuzz");
  } catch (const trireme::Error& e) {
    if (e.code() == trireme::Code::kInternal) std::abort();
  }
  return 0;
}
