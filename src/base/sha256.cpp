// SHA-256 of a file, by OpenSSL's libcrypto, which uses the processor's own instructions for it.
#include "base/sha256.h"

#include <openssl/evp.h>

#include <cstdio>
#include <memory>
#include <vector>

#include "trireme/error.h"

namespace trireme {
namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

}  // namespace

std::string sha256_of_file(const std::string& path) {
  std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file) fail(Code::kNotFound, "[sha256] cannot open the file", path);
  std::unique_ptr<EVP_MD_CTX, Close> context(EVP_MD_CTX_new());
  bool good = context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1;
  std::vector<unsigned char> buffer(1 << 18);
  size_t count = 0;
  while (good && (count = std::fread(buffer.data(), 1, buffer.size(), file.get())) > 0) {
    good = EVP_DigestUpdate(context.get(), buffer.data(), count) == 1;
  }
  if (std::ferror(file.get()) != 0) {
    fail(Code::kInvalidArgument, "[sha256] cannot read the file", path);
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int bytes = 0;
  good = good && EVP_DigestFinal_ex(context.get(), digest, &bytes) == 1;
  if (!good) fail(Code::kInternal, "[sha256] libcrypto cannot compute the digest", path);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < bytes; ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

}  // namespace trireme
