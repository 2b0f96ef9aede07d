// NVRTC and the cache of what it made.
#include "device/cuda/compile.h"

#include <nvrtc.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "device/cuda/check.h"
#include "device/cuda/library.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

namespace fs = std::filesystem;

constexpr size_t kDigestBytes = 32;

std::string digest_of(const std::string& text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr) != 1 ||
      size != kDigestBytes)
    fail(Code::kInternal, "[cuda] SHA-256 failed");
  return {reinterpret_cast<const char*>(digest), size};
}

std::string hex(const std::string& bytes) {
  std::string s;
  for (const char c : bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(c));
    s += two;
  }
  return s;
}

void check_nvrtc(nvrtcResult result, const char* call) {
  if (result != NVRTC_SUCCESS)
    fail(Code::kInternal, std::string("[nvrtc] ") + call + ": " +
                              TRI_SYMBOL(Lib::kNvrtc, nvrtcGetErrorString)(result));
}
#define TRI_NVRTC(function, ...) \
  check_nvrtc(TRI_SYMBOL(Lib::kNvrtc, function)(__VA_ARGS__), #function)

// ---- on disk: the digest of the code, then the code

std::optional<fs::path> cache_folder() {
  const auto from = [](const char* name) { return std::getenv(name); };
  if (const char* own = from("TRIREME_CACHE_DIR"))
    return *own ? std::optional(fs::path(own) / "kernels") : std::nullopt;
  if (const char* xdg = from("XDG_CACHE_HOME"); xdg && *xdg)
    return fs::path(xdg) / "trireme" / "kernels";
  if (const char* home = from("HOME"); home && *home)
    return fs::path(home) / ".cache" / "trireme" / "kernels";
  return std::nullopt;
}

std::optional<std::string> read_entry(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  std::string all{std::istreambuf_iterator<char>(in), {}};
  if (all.size() <= kDigestBytes) return std::nullopt;
  std::string code = all.substr(kDigestBytes);
  if (digest_of(code) != all.substr(0, kDigestBytes)) return std::nullopt;
  return code;
}

// A cache that cannot be written is none: the program goes on.
void write_entry(const fs::path& path, const std::string& code) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) return;
  const fs::path part = path.string() + '.' + std::to_string(getpid());
  {
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    out << digest_of(code) << code;
    out.flush();
    if (!out) {
      fs::remove(part, error);
      return;
    }
  }
  fs::rename(part, path, error);
  if (error) fs::remove(part, error);
}

std::string nvrtc_version() {
  int major = 0, minor = 0;
  TRI_NVRTC(nvrtcVersion, &major, &minor);
  return std::to_string(major) + '.' + std::to_string(minor);
}

std::string cached_code(const std::string& source, const std::string& architecture) {
  const auto folder = cache_folder();
  if (!folder) return compile_source(source, architecture);
  const std::string key = architecture + '\n' + nvrtc_version() + '\n' + source;
  const fs::path path = *folder / (hex(digest_of(key)) + ".cubin");
  if (auto code = read_entry(path)) return *code;
  std::string code = compile_source(source, architecture);
  write_entry(path, code);
  return code;
}

std::string current_architecture() {
  int device = 0, major = 0, minor = 0;
  TRI_CUDA_CALL(cudaGetDevice(&device));
  TRI_CUDA_CALL(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  TRI_CUDA_CALL(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return "sm_" + std::to_string(10 * major + minor);
}

}  // namespace

std::string compile_source(const std::string& source, const std::string& architecture) {
  nvrtcProgram program = nullptr;
  TRI_NVRTC(nvrtcCreateProgram, &program, source.c_str(), "trireme.cu", 0, nullptr, nullptr);
  const std::string target = "--gpu-architecture=" + architecture;
  const char* options[] = {target.c_str(), "--std=c++17", "-w",
                           "--device-as-default-execution-space"};
  const nvrtcResult result =
      TRI_SYMBOL(Lib::kNvrtc, nvrtcCompileProgram)(program, std::size(options), options);
  std::string code;
  size_t size = 0;
  if (result == NVRTC_SUCCESS) {
    TRI_NVRTC(nvrtcGetCUBINSize, program, &size);
    code.resize(size);
    TRI_NVRTC(nvrtcGetCUBIN, program, code.data());
  } else if (TRI_SYMBOL(Lib::kNvrtc, nvrtcGetProgramLogSize)(program, &size) == NVRTC_SUCCESS) {
    code.resize(size);
    TRI_SYMBOL(Lib::kNvrtc, nvrtcGetProgramLog)(program, code.data());
  }
  TRI_SYMBOL(Lib::kNvrtc, nvrtcDestroyProgram)(&program);
  if (result != NVRTC_SUCCESS) fail(Code::kInternal, "[nvrtc] " + code + "\nof\n" + source);
  return code;
}

cudaKernel_t compiled_kernel(const std::string& source, const char* name) {
  static std::mutex mutex;
  static std::map<std::string, cudaKernel_t> kernels;
  const std::string architecture = current_architecture();
  const std::string key = architecture + ' ' + name + '\n' + source;
  const std::lock_guard lock(mutex);
  if (const auto it = kernels.find(key); it != kernels.end()) return it->second;
  const std::string code = cached_code(source, architecture);
  cudaLibrary_t loaded = nullptr;
  TRI_CUDA_CALL(
      cudaLibraryLoadData(&loaded, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  cudaKernel_t kernel = nullptr;
  TRI_CUDA_CALL(cudaLibraryGetKernel(&kernel, loaded, name));
  return kernels[key] = kernel;
}

}  // namespace trireme::cuda
