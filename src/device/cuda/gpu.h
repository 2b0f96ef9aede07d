// GPUs as devices. No header of CUDA in here.
#pragma once

#include <string>
#include <vector>

#include "device/device.h"

namespace trireme::cuda {

// Throws kUnavailable with the reason.
Device& gpu(int index);

// Why this build runs nothing on that GPU: no driver, too old a driver, no such device, no code for
// its compute capability. Empty: it does.
std::string why_not(int index);

// The compute capabilities with machine code in this binary ("80", "90"); the last one as PTX, too.
std::vector<std::string> built_architectures();

// Runs a kernel of a few lines over 1 MiB, with copies both ways, and compares. Empty when all was
// right, else what went wrong.
std::string probe(int index);

}  // namespace trireme::cuda
