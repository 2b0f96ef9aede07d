// Devices: what is there, how much memory it holds. trireme/tensor.h chooses one (set_device).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace trireme::device {

bool is_compiled_with_cuda();
// "cpu", and "gpu:0", "gpu:1", ... as far as this build and the driver can use any.
std::vector<std::string> get_available_device();

// A hard cap, in MiB, on the memory of a device ("gpu:0"); 0: none. Over it a request throws
// kResourceExhausted; the process goes on, and smaller requests work. On a GPU it counts all memory
// taken from the device, with what waits for reuse.
void set_memory_limit(const std::string& device, int64_t mib);

// Names are Paddle's (paddle.device.cuda). `index` -1: the current device if it is a GPU, else
// gpu:0. All but device_count() throw kUnavailable, with the reason, when it cannot be used.
namespace cuda {

int device_count();  // 0 without CUDA, driver or device: `trireme doctor` tells which
std::string get_device_name(int index = -1);
std::pair<int, int> get_device_capability(int index = -1);  // {9, 0}
int64_t get_device_memory(int index = -1);                  // all there is, in bytes

// Bytes of values and working memory that are in use, and the most that were.
int64_t memory_allocated(int index = -1);
int64_t max_memory_allocated(int index = -1);
void reset_max_memory_allocated(int index = -1);
// Bytes taken from the device: in use, or waiting for reuse.
int64_t memory_reserved(int index = -1);
int64_t max_memory_reserved(int index = -1);
// Gives what waits for reuse back to the device; waits for its work.
void empty_cache(int index = -1);
// Waits until the device has done what it was given; does not compute pending tensors.
void synchronize(int index = -1);

}  // namespace cuda
}  // namespace trireme::device
