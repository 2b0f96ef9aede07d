// A file of the disk cache: the digest of what follows, then the content.
#include "device/cuda/disk_cache.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/sha256.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

namespace fs = std::filesystem;

constexpr size_t kDigest = 64;  // hexadecimal digits

std::optional<fs::path> root() {
  const auto from = [](const char* name) { return std::getenv(name); };
  if (const char* own = from("TRIREME_CACHE_DIR"))
    return *own ? std::optional(fs::path(own)) : std::nullopt;
  if (const char* xdg = from("XDG_CACHE_HOME"); xdg && *xdg) return fs::path(xdg) / "trireme";
  if (const char* home = from("HOME"); home && *home) return fs::path(home) / ".cache" / "trireme";
  return std::nullopt;
}

std::string digest_of(const std::string& text) {
  Sha256 digest;
  digest.update(text.data(), text.size());
  return digest.hex();
}

}  // namespace

std::string DiskCache::file_of(const std::string& key) const {
  const auto folder = root();
  return folder ? (*folder / kind_ / digest_of(key)).string() : std::string();
}

std::optional<std::string> DiskCache::get(const std::string& key) const {
  const std::string path = file_of(key);
  if (path.empty()) return std::nullopt;
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::string all{std::istreambuf_iterator<char>(in), {}};
  if (all.size() <= kDigest) return std::nullopt;
  std::string content = all.substr(kDigest);
  if (digest_of(content) != all.substr(0, kDigest)) return std::nullopt;
  return content;
}

void DiskCache::put(const std::string& key, const std::string& content) const {
  static std::atomic<int> writes{0};
  const std::string path = file_of(key);
  if (path.empty()) return;
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error) return;
  const fs::path part = path + '.' + std::to_string(getpid()) + '.' + std::to_string(++writes);
  {
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    out << digest_of(content) << content;
    out.flush();
    if (!out) {
      fs::remove(part, error);
      return;
    }
  }
  fs::rename(part, path, error);
  if (error) fs::remove(part, error);
}

}  // namespace trireme::cuda
