// Sharing work out to threads, for the *_amx.cpp kernels only.
#pragma once

#include <cstdint>

#include "base/parallel.h"
#include "device/cpu/bf16_math_amx.h"

namespace trireme::cpu::bf16 {
namespace {

constexpr double kTaskNs = 2000;  // a thread is woken for no less work than this

[[maybe_unused]] int64_t input_pixels(const ConvSpec& s) { return s.n * s.h * s.w; }
[[maybe_unused]] int64_t output_pixels(const ConvSpec& s) { return s.n * s.oh * s.ow; }

// Runs task(t) for t in [0, tasks), tasks no more than parallel_for() would use.
template <class F> void run_tasks(int64_t tasks, F task) {
  parallel_for(tasks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) task(t);
  });
}
[[maybe_unused]] int64_t useful_tasks(double ns, int64_t most) {
  const int64_t n = static_cast<int64_t>(ns / kTaskNs);
  return larger<int64_t>(1, smaller(n, smaller<int64_t>(most, num_threads())));
}

}  // namespace
}  // namespace trireme::cpu::bf16
