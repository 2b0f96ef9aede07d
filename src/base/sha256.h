// SHA-256, of files that were fetched from elsewhere and of those that were written.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace trireme {

// The digest of bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  void update(const void* data, size_t bytes);
  std::string hex();  // 64 lower-case hexadecimal digits; ends the digest

 private:
  std::shared_ptr<void> context_;
};

// Throws kNotFound when the file cannot be opened, kInvalidArgument when reading it fails.
std::string sha256_of_file(const std::string& path);

}  // namespace trireme
