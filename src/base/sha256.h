// SHA-256 of a file, for what was fetched from elsewhere.
#pragma once

#include <string>

namespace trireme {

// 64 lower-case hexadecimal digits. Throws kNotFound when the file cannot be opened,
// kInvalidArgument when reading it fails.
std::string sha256_of_file(const std::string& path);

}  // namespace trireme
