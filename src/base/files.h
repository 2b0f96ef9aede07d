// Files: a mapping to read from, and a writer whose file appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/sha256.h"

namespace trireme {

// A regular file mapped for reading. Who shortens the file meanwhile kills the reader: only for
// files that are replaced by renaming, as ours are, or that nobody writes any more.
class MappedFile {
 public:
  // Throws kNotFound, kInvalidArgument (no regular file, no permission).
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const char> bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

// Writes beside the final name; commit() makes the bytes durable and renames. Without commit()
// nothing remains. A full disk is kResourceExhausted, everything else kInvalidArgument, both with
// the system's reason.
class FileWriter {
 public:
  explicit FileWriter(std::string path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  uint64_t size() const { return size_; }
  // After it, size() and sha256() describe the file.
  void commit();
  const std::string& sha256() const { return sha256_; }

 private:
  void flush(const char* data, size_t bytes);

  std::string path_, temporary_, buffer_, sha256_;
  Sha256 hash_;
  uint64_t size_ = 0;
  int file_ = -1;
};

// The error of a failed system call: what was attempted, errno's reason, the path.
[[noreturn]] void fail_system(const std::string& what, const std::string& path);

// Makes the names in a folder durable.
void sync_folder(const std::string& path);

}  // namespace trireme
