// SHA-256 by OpenSSL's libcrypto, which uses the processor's own instructions for it.
#include "base/sha256.h"

#include <openssl/evp.h>

#include <cstdio>
#include <vector>

#include "trireme/error.h"

namespace trireme {
namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

EVP_MD_CTX* context_of(const std::shared_ptr<void>& p) { return static_cast<EVP_MD_CTX*>(p.get()); }

void check(bool good) {
  if (!good) fail(Code::kInternal, "[sha256] libcrypto cannot compute the digest");
}

}  // namespace

Sha256::Sha256()
    : context_(EVP_MD_CTX_new(), [](void* p) { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(p)); }) {
  check(context_ && EVP_DigestInit_ex(context_of(context_), EVP_sha256(), nullptr) == 1);
}

void Sha256::update(const void* data, size_t bytes) {
  check(EVP_DigestUpdate(context_of(context_), data, bytes) == 1);
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int bytes = 0;
  check(EVP_DigestFinal_ex(context_of(context_), digest, &bytes) == 1);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < bytes; ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

std::string sha256_of_file(const std::string& path) {
  std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file) fail(Code::kNotFound, "[sha256] cannot open the file", path);
  Sha256 hash;
  std::vector<unsigned char> buffer(1 << 18);
  size_t count = 0;
  while ((count = std::fread(buffer.data(), 1, buffer.size(), file.get())) > 0)
    hash.update(buffer.data(), count);
  if (std::ferror(file.get()) != 0) {
    fail(Code::kInvalidArgument, "[sha256] cannot read the file", path);
  }
  return hash.hex();
}

}  // namespace trireme
