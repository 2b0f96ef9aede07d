// The functions of trireme/device.h.
#include "trireme/device.h"

#include "device/device.h"
#include "runtime/recorder.h"

namespace trireme::device {

bool is_compiled_with_cuda() {
#ifdef TRIREME_CUDA
  return true;
#else
  return false;
#endif
}

std::vector<std::string> get_available_device() {
  std::vector<std::string> names{"cpu"};
  for (int i = 0; i < cuda::device_count(); ++i) names.push_back("gpu:" + std::to_string(i));
  return names;
}

void set_memory_limit(const std::string& device, int64_t mib) {
  TRI_CHECK(mib >= 0 && mib < int64_t{1} << 40,
            "[set_memory_limit] expects a size in MiB, got " + std::to_string(mib));
  find_device(device).pool().set_cap(mib << 20);
}

namespace cuda {
namespace {

Device& gpu(int index) {
  if (index < 0 && !current_device().is_host()) return current_device();
  return find_device("gpu:" + std::to_string(std::max(index, 0)));
}

}  // namespace

int device_count() { return gpu_count(nullptr); }
std::string get_device_name(int index) { return gpu(index).info().model; }
std::pair<int, int> get_device_capability(int index) {
  const DeviceInfo info = gpu(index).info();
  return {info.major, info.minor};
}
int64_t get_device_memory(int index) { return gpu(index).info().total_bytes; }
int64_t memory_allocated(int index) { return gpu(index).pool().used(); }
int64_t max_memory_allocated(int index) { return gpu(index).pool().peak(); }
void reset_max_memory_allocated(int index) { gpu(index).pool().reset_peak(); }
int64_t memory_reserved(int index) { return gpu(index).reserved_bytes(); }
int64_t max_memory_reserved(int index) { return gpu(index).peak_reserved_bytes(); }
void empty_cache(int index) { gpu(index).trim(); }
void synchronize(int index) { gpu(index).synchronize(); }

}  // namespace cuda
}  // namespace trireme::device
