// Fuzzes the reader of .pdiparams: the first byte chooses what is expected, the rest is the file.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "formats/params.h"
#include "trireme/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using trireme::DType;
  using trireme::ParamSpec;
  using trireme::Shape;
  if (size == 0) return 0;
  std::vector<ParamSpec> expected = {{"a", DType::kFloat32, Shape{2}},
                                     {"b", DType::kInt64, Shape{}},
                                     {"c", DType::kUInt8, Shape{0, 3}}};
  expected.erase(expected.begin() + data[0] % 4, expected.end());
  try {
    trireme::read_params(std::span(reinterpret_cast<const char*>(data) + 1, size - 1), "fuzz",
                         expected);
  } catch (const trireme::Error& e) {
    if (e.code() == trireme::Code::kInternal) std::abort();
  }
  return 0;
}
