// The libraries of NVIDIA, found by SONAME when they are first needed: nothing of them is linked.
#pragma once

#include <string>
#include <vector>

namespace trireme::cuda {

enum class Lib { kDriver, kNvml, kCudnn, kCublasLt, kNvrtc, kNccl };
inline constexpr Lib kAllLibs[] = {Lib::kDriver,   Lib::kNvml,  Lib::kCudnn,
                                   Lib::kCublasLt, Lib::kNvrtc, Lib::kNccl};

struct Library {
  std::string name;     // "cuDNN"
  std::string soname;   // "libcudnn.so.9"
  std::string path;     // of the file that was loaded, links resolved; empty: none was
  std::string version;  // as the library tells it, "9.19.0"; empty when it does not say
  std::string error;    // why none could be loaded, with the places searched
  void* handle = nullptr;
};

// Loads it at the first call. Looked for, in this order: the folders in $TRIREME_CUDA_PATH (each
// may be the library's own folder, a toolkit, or a Python site-packages with nvidia/*/lib); where
// the loader looks ($LD_LIBRARY_PATH, its cache); beside this program; the usual folders of toolkit
// and driver. Thread-safe.
const Library& library(Lib lib);

// A function of it. Throws kUnavailable: the library, why it is not there, what to do.
void* symbol(Lib lib, const char* name);
// The same, null when the library or the function is not there.
void* find_symbol(Lib lib, const char* name);

// The folders of $TRIREME_CUDA_PATH in which libraries are looked for.
std::vector<std::string> search_folders();

}  // namespace trireme::cuda

// TRI_SYMBOL(Lib::kNvrtc, nvrtcVersion)(&major, &minor): calls a function that a header declares.
#define TRI_SYMBOL(lib, function)                                  \
  ([]() -> decltype(&::function) {                                 \
    static const auto f = reinterpret_cast<decltype(&::function)>( \
        ::trireme::cuda::symbol(::trireme::cuda::lib, #function)); \
    return f;                                                      \
  }())
