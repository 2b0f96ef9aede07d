// Reading .xz files of raw elements, by the xz program.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "trireme/array.h"

namespace trireme::test {

inline Array read_xz(const std::filesystem::path& path, DType dtype, const Shape& shape) {
  const std::string command = "xz -dc -- '" + path.string() + "'";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  Array tensor(dtype, shape);
  const size_t count = pipe ? std::fread(tensor.data(), 1, tensor.bytes(), pipe.get()) : 0;
  if (count != tensor.bytes() || std::fgetc(pipe.get()) != EOF)
    fail(Code::kInvalidArgument, "not the size that its description says", path.string());
  return tensor;
}

}  // namespace trireme::test
