// Tests that need a GPU: their suites are named Gpu..., and they say why they were skipped.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "device/device.h"

// In a test: skips it when this build or this machine has no GPU.
#define TRI_NEEDS_GPU() \
  if (std::string why_; ::trireme::gpu_count(&why_) == 0) GTEST_SKIP() << "no GPU: " << why_
