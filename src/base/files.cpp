// Files: mappings and whole-or-nothing writing, over POSIX.
#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "trireme/error.h"

namespace trireme {

void fail_system(const std::string& what, const std::string& path) {
  const int reason = errno;
  const Code code = reason == ENOENT || reason == ENOTDIR ? Code::kNotFound
                    : reason == ENOSPC || reason == EDQUOT || reason == ENOMEM || reason == EFBIG
                        ? Code::kResourceExhausted
                        : Code::kInvalidArgument;
  fail(code, "cannot " + what + ": " + std::strerror(reason), path);
}

MappedFile::MappedFile(const std::string& path) {
  // Without O_NONBLOCK a pipe in the file's place would hang.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) fail_system("open the file", path);
  struct stat info {};
  const bool known = ::fstat(file, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    ::close(file);
    fail(Code::kInvalidArgument, "not a regular file", path);
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ > 0) {
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
      const int reason = errno;
      ::close(file);
      errno = reason;
      fail_system("map the file", path);
    }
    data_ = static_cast<const char*>(data);
  }
  ::close(file);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

FileWriter::FileWriter(std::string path) : path_(std::move(path)) {
  static std::atomic<unsigned> count{0};
  temporary_ = path_ + ".tmp-" + std::to_string(::getpid()) + '-' + std::to_string(++count);
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file_ < 0) fail_system("create the file", path_);
}

FileWriter::~FileWriter() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void FileWriter::flush(const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t count = ::write(file_, data, bytes);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail_system("write the file", path_);
    }
    data += count;
    bytes -= static_cast<size_t>(count);
  }
}

void FileWriter::write(const void* data, size_t bytes) {
  constexpr size_t kBuffer = 1 << 16;
  hash_.update(data, bytes);
  size_ += bytes;
  if (buffer_.size() + bytes < kBuffer) {
    buffer_.append(static_cast<const char*>(data), bytes);
    return;
  }
  flush(buffer_.data(), buffer_.size());
  buffer_.clear();
  flush(static_cast<const char*>(data), bytes);
}

void FileWriter::commit() {
  flush(buffer_.data(), buffer_.size());
  buffer_.clear();
  if (::fsync(file_) != 0) fail_system("write the file", path_);
  const int closed = ::close(file_);
  file_ = -1;
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    errno = reason;
    fail_system("write the file", path_);
  }
  sha256_ = hash_.hex();
}

void sync_folder(const std::string& path) {
  const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) fail_system("open the folder", path);
  const int result = ::fsync(folder);
  const int reason = errno;
  ::close(folder);
  // Some network file systems cannot, and need not.
  if (result == 0 || reason == EINVAL || reason == EROFS) return;
  errno = reason;
  fail_system("write the folder", path);
}

}  // namespace trireme
