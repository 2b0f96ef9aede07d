// Safetensors: named arrays with a JSON header, the format of our own checkpoints. Nothing in it
// can be executed.
#pragma once

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/files.h"
#include "formats/params.h"

namespace trireme {

using Metadata = std::map<std::string, std::string>;

struct Safetensors {
  std::vector<NamedArray> arrays;  // in the order of the data
  Metadata metadata;

  const Array* find(std::string_view name) const;  // null when there is none
};

// Every array has memory of its own. Throws kNotFound; kInvalidArgument (with the file) for a
// header that is damaged, absurd or has a name twice, and for arrays that overlap, leave gaps, do
// not fill their shape or the file; kUnimplemented for element types that the engine has not.
Safetensors read_safetensors(const std::string& path);
Safetensors read_safetensors(std::span<const char> bytes, const std::string& file);

// The file appears whole or not at all. Throws kInvalidArgument for a name that is there twice,
// empty, no UTF-8, or reserved ("__metadata__"). Returns the writer for its size and digest.
std::unique_ptr<FileWriter> write_safetensors(const std::string& path,
                                              std::span<const NamedArray> arrays,
                                              const Metadata& metadata = {});

}  // namespace trireme
