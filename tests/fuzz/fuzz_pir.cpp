// Fuzzes the reader of PIR programs: any bytes give a program or an Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "formats/foreign.h"
#include "trireme/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    trireme::read_pir_program({reinterpret_cast<const char*>(data), size}, "fuzz.json");
  } catch (const trireme::Error& e) {
    if (e.code() == trireme::Code::kInternal) std::abort();
  }
  return 0;
}
