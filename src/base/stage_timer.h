// StageTimer: TRIREME_TIMES=1 prints how long each stage of making a plan took, a line each on
// stderr.
#pragma once

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace trireme {

class StageTimer {
 public:
  explicit StageTimer(std::string_view stage)
      : stage_(stage), start_(std::chrono::steady_clock::now()) {}
  ~StageTimer() {
    static const bool on = std::getenv("TRIREME_TIMES") != nullptr;
    if (!on) return;
    const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - start_;
    std::fprintf(stderr, "%-16s %8.3f ms\n", stage_.c_str(), ms.count());
  }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  std::string stage_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace trireme
