// What the doctor looks at, behind one table, so that tests can show it other machines.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "trireme/doctor.h"

namespace trireme::doctor {

struct LibraryState {
  std::string soname, path, version, error;  // path empty: it could not be loaded
};

struct GpuState {
  std::string model, capability, memory, why_not, probe;  // probe: what a kernel's run said
};

struct Machine {
  std::string root;                                   // in front of /proc, /dev and /sys
  std::function<std::string(const char*)> variable;   // of the environment; empty: not set
  std::function<int(const std::string&)> open_error;  // errno of opening a node for use; 0: fine
  std::vector<LibraryState> driver_libraries, libraries;  // libcuda and NVML; the toolkit's
  bool compiled = false;                                  // with CUDA
  std::string architectures;                              // "80, 90"
  int init_error = -1;                                    // of cuInit; -1: not called
  int count_error = 0, count = 0;                         // of cuDeviceGetCount
  std::vector<GpuState> gpus;
};

Machine this_machine();
Report examine(const Machine& machine);

}  // namespace trireme::doctor
