// Choosing the fastest of several ways to compute the same, by time on the device.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "device/device.h"
#include "trireme/types.h"

namespace trireme::cuda {

// Off with TRIREME_DISABLE=autotune: the libraries' first proposals are taken.
bool autotunes();

// The most scratch memory that a library's kernel may ask for, in bytes: first a modest amount (128
// MiB, less under a device's cap), then more, which is for problems that no kernel solves within
// it, at last a quarter of the device or all that its cap allows.
std::array<int64_t, 3> workspace_limits(Device& device);

// Device memory of `bytes` with numbers of that dtype between -1 and 1 (integers: zeros): NaNs and
// zeros would flatter what is timed. Throws kResourceExhausted.
Storage tuning_memory(Device& device, DType dtype, int64_t bytes);

// Gives the work of a candidate to the stream.
using Candidate = std::function<void(void* stream)>;

// The fastest candidate, -1 when none can be recorded; `us` (may be null) gets its time. Each is
// recorded several times over and launched as a whole, so that the host's time does not count. One
// that throws is out. Takes turns with other threads.
int fastest(Device& device, const std::vector<Candidate>& candidates, double* us = nullptr);

}  // namespace trireme::cuda
