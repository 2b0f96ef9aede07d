// NumPy's .npy files: read and written, C order, little-endian.
#pragma once

#include <span>
#include <string>

#include "trireme/array.h"

namespace trireme {

// Versions 1 to 3. Throws kNotFound, kInvalidArgument (with the file and the byte) for another
// order, another type, short or trailing data. Nothing is allocated that the file is too short to
// fill.
Array read_npy(const std::string& path);
Array read_npy(std::span<const char> bytes, const std::string& file);  // `file` is for messages

// Version 1. bfloat16, which NumPy has not, is written as uint16 is: its bits. Throws
// kInvalidArgument when the file cannot be written.
void write_npy(const std::string& path, const Array& tensor);

}  // namespace trireme
