// The machine that this program runs on, as the doctor sees it.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "device/caching_allocator.h"
#include "device/cuda/gpu.h"
#include "device/cuda/library.h"
#include "device/doctor_probe.h"
#include "trireme/error.h"

namespace trireme::doctor {
namespace {

LibraryState state_of(cuda::Lib lib) {
  const cuda::Library& l = cuda::library(lib);
  return {l.name + " (" + l.soname + ')', l.path, l.version, l.error};
}

#ifdef TRIREME_CUDA
GpuState gpu_state(int index) {
  GpuState g;
  g.why_not = cuda::why_not(index);
  if (!g.why_not.empty()) return g;
  try {
    const DeviceInfo info = cuda::gpu(index).info();
    g.model = info.model;
    g.capability = std::to_string(info.major) + '.' + std::to_string(info.minor);
    g.memory = bytes_text(info.total_bytes);
    g.probe = cuda::probe(index);
  } catch (const Error& e) { g.probe = e.message(); }
  return g;
}
#endif

}  // namespace

Machine this_machine() {
  Machine m;
  m.variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  m.open_error = [](const std::string& file) {
    const int fd = open(file.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno;
    close(fd);
    return 0;
  };
  for (const cuda::Lib lib : cuda::kAllLibs)
    (lib == cuda::Lib::kDriver || lib == cuda::Lib::kNvml ? m.driver_libraries : m.libraries)
        .push_back(state_of(lib));
  using Init = int (*)(unsigned);
  using Count = int (*)(int*);
  if (const auto init = reinterpret_cast<Init>(cuda::find_symbol(cuda::Lib::kDriver, "cuInit")))
    m.init_error = init(0);
  const auto count =
      reinterpret_cast<Count>(cuda::find_symbol(cuda::Lib::kDriver, "cuDeviceGetCount"));
  if (m.init_error == 0 && count != nullptr) m.count_error = count(&m.count);
#ifdef TRIREME_CUDA
  m.compiled = true;
  for (const std::string& a : cuda::built_architectures())
    m.architectures += (m.architectures.empty() ? "" : ", ") + a;
  for (int i = 0; i < m.count; ++i) m.gpus.push_back(gpu_state(i));
#endif
  return m;
}

Report examine() { return examine(this_machine()); }

}  // namespace trireme::doctor
