// Reader of Paddle's combined parameters (.pdiparams): records without names, in the order of their
// sorted names.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trireme/array.h"

namespace trireme {

using NamedArray = std::pair<std::string, Array>;

struct ParamSpec {
  std::string name;
  DType dtype;
  Shape shape;
};

// Reads one tensor for each of `expected`, which must be sorted bytewise by name. Each gets memory
// of its own: inside the file the data is not aligned, and a mapping besides would double the
// resident size while loading. Throws kNotFound without the file, kInvalidArgument (file, record,
// offset) for a record that is cut short or of another type or shape, and for bytes behind the last
// record. Nothing is allocated that the file is too short to fill.
std::vector<Array> read_params(const std::string& path, std::span<const ParamSpec> expected);

// The same from memory; `file` is for messages.
std::vector<Array> read_params(std::span<const char> bytes, const std::string& file,
                               std::span<const ParamSpec> expected);

// Writes the same file: `arrays` sorted bytewise by name. It appears whole or not at all.
void write_params(const std::string& path, std::span<const NamedArray> arrays);

// A program's file as a whole; throws kNotFound, kInvalidArgument over `limit` bytes.
std::string read_whole_file(const std::string& path, size_t limit);

}  // namespace trireme
