// Finding NVIDIA's libraries. No header of CUDA is needed: builds without CUDA have it for
// `doctor`.
#include "device/cuda/library.h"

#include <dlfcn.h>
#include <link.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "trireme/error.h"

namespace trireme::cuda {
namespace {

namespace fs = std::filesystem;

struct Known {
  const char *name, *soname;
  bool of_driver;  // comes with the driver, not with the toolkit
  const char* fix;
};

constexpr Known kKnown[] = {
    {"the CUDA driver", "libcuda.so.1", true,
     "install NVIDIA's driver (in a container: start it with --gpus all)"},
    {"NVML", "libnvidia-ml.so.1", true,
     "install NVIDIA's driver (in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility)"},
    {"cuDNN", "libcudnn.so.9", false,
     "install cuDNN 9 (pip: nvidia-cudnn-cu13) or name its folder in TRIREME_CUDA_PATH"},
    {"cuBLASLt", "libcublasLt.so.13", false,
     "install CUDA 13's cuBLAS (pip: nvidia-cublas) or name its folder in TRIREME_CUDA_PATH"},
    {"NVRTC", "libnvrtc.so.13", false,
     "install CUDA 13's NVRTC (pip: nvidia-cuda-nvrtc) or name its folder in TRIREME_CUDA_PATH"},
    {"NCCL", "libnccl.so.2", false,
     "install NCCL 2 (pip: nvidia-nccl-cu13) or name its folder in TRIREME_CUDA_PATH"},
};
static_assert(std::size(kKnown) == std::size(kAllLibs));

std::vector<std::string> split(const char* list) {
  std::vector<std::string> parts;
  std::string rest = list == nullptr ? "" : list;
  while (!rest.empty()) {
    const size_t colon = rest.find(':');
    if (colon != 0) parts.push_back(rest.substr(0, colon));
    rest = colon == std::string::npos ? "" : rest.substr(colon + 1);
  }
  return parts;
}

std::string own_folder() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path().string();
}

// Folders that the loader does not look into by itself.
std::vector<std::string> usual_folders(const Known& known) {
  if (known.of_driver)
    return {"/usr/local/nvidia/lib64", "/usr/lib/wsl/lib",
            "/usr/lib/x86_64-linux-gnu/nvidia/current"};
  const std::string own = own_folder();
  return {own,
          own + "/lib",
          own + "/../lib",
          "/usr/local/cuda/lib64",
          "/usr/local/cuda-13/lib64",
          "/usr/local/cuda/targets/x86_64-linux/lib",
          "/opt/cuda/lib64"};
}

std::string path_of(void* handle) {
  link_map* map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == nullptr) return {};
  std::error_code error;
  const fs::path real = fs::canonical(map->l_name, error);
  return error ? map->l_name : real.string();
}

std::string dotted(unsigned long long packed, unsigned major, unsigned minor) {
  return std::to_string(packed / major) + '.' + std::to_string(packed % major / minor) + '.' +
         std::to_string(packed % minor);
}

std::string version_of(Lib lib, void* handle) {
  const auto function = [&](const char* name) { return dlsym(handle, name); };
  int number = 0, minor = 0;
  switch (lib) {
    case Lib::kDriver:
      if (auto* f = reinterpret_cast<int (*)(int*)>(function("cuDriverGetVersion"));
          f && f(&number) == 0)
        return "CUDA " + std::to_string(number / 1000) + '.' + std::to_string(number % 1000 / 10);
      break;
    case Lib::kNvml: break;  // tells the driver's, and only after its initialisation
    case Lib::kCudnn:
      if (auto* f = reinterpret_cast<size_t (*)()>(function("cudnnGetVersion")))
        return dotted(f(), 10000, 100);
      break;
    case Lib::kCublasLt:
      if (auto* f = reinterpret_cast<size_t (*)()>(function("cublasLtGetVersion")))
        return dotted(f(), 10000, 100);
      break;
    case Lib::kNvrtc:
      if (auto* f = reinterpret_cast<int (*)(int*, int*)>(function("nvrtcVersion"));
          f && f(&number, &minor) == 0)
        return std::to_string(number) + '.' + std::to_string(minor);
      break;
    case Lib::kNccl:
      if (auto* f = reinterpret_cast<int (*)(int*)>(function("ncclGetVersion"));
          f && f(&number) == 0)
        return dotted(static_cast<unsigned long long>(number), 10000, 100);
      break;
  }
  return {};
}

void* open_at(const std::string& file, std::string& error) {
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) error = dlerror();
  return handle;
}

Library load(Lib lib) {
  const Known& known = kKnown[static_cast<size_t>(lib)];
  Library l{known.name, known.soname, {}, {}, {}, nullptr};
  std::string error, first_error;
  const auto try_folders = [&](const std::vector<std::string>& folders) {
    for (const std::string& folder : folders) {
      std::error_code ignored;
      if (l.handle != nullptr || !fs::exists(folder + '/' + l.soname, ignored)) continue;
      l.handle = open_at(folder + '/' + l.soname, error);
      if (l.handle == nullptr) first_error = error;  // there, but not loadable: worth telling
    }
  };
  try_folders(search_folders());
  if (l.handle == nullptr) l.handle = open_at(l.soname, error);
  if (l.handle == nullptr) {
    if (first_error.empty()) first_error = error;
    try_folders(usual_folders(known));
  }
  if (l.handle == nullptr) {
    l.error = first_error;
    return l;
  }
  l.path = path_of(l.handle);
  l.version = version_of(lib, l.handle);
  return l;
}

}  // namespace

std::vector<std::string> search_folders() {
  std::vector<std::string> folders;
  for (const std::string& given : split(std::getenv("TRIREME_CUDA_PATH"))) {
    folders.insert(folders.end(), {given, given + "/lib", given + "/lib64"});
    std::error_code ignored;
    for (const std::string& root : {given + "/nvidia", given})
      for (const auto& e : fs::directory_iterator(root, ignored))
        if (fs::is_directory(e.path() / "lib", ignored))
          folders.push_back((e.path() / "lib").string());
  }
  return folders;
}

const Library& library(Lib lib) {
  static std::array<Library, std::size(kKnown)> libraries;
  static std::array<std::once_flag, std::size(kKnown)> once;
  const auto i = static_cast<size_t>(lib);
  std::call_once(once[i], [&] { libraries[i] = load(lib); });
  return libraries[i];
}

void* find_symbol(Lib lib, const char* name) {
  const Library& l = library(lib);
  return l.handle == nullptr ? nullptr : dlsym(l.handle, name);
}

void* symbol(Lib lib, const char* name) {
  const Library& l = library(lib);
  if (l.handle == nullptr)
    fail(Code::kUnavailable, "[cuda] " + l.name + " (" + l.soname + ") cannot be loaded: " +
                                 l.error + "; " + kKnown[static_cast<size_t>(lib)].fix);
  void* f = dlsym(l.handle, name);
  if (f == nullptr)
    fail(Code::kUnavailable, "[cuda] " + l.path + " (" + l.name + ' ' + l.version +
                                 ") has no function " + name + "; a newer one is needed");
  return f;
}

}  // namespace trireme::cuda
