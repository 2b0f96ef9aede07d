// parallel_for: the one way in which kernels use several cores. Runs on OpenMP's team, which oneDNN
// uses as well.
#pragma once

#include <cstdint>
#include <type_traits>

namespace trireme {

// Threads that parallel regions started from the calling thread use; at least 1. Set per calling
// thread.
int num_threads();
void set_num_threads(int n);

namespace detail {
void parallel_run(int tasks, void (*body)(void*, int), void* context);
}

// Splits [0, n) into at most num_threads() contiguous ranges of at least `grain` items and calls
// f(begin, end, task) once for each, in parallel; returns when all are done. task < num_threads()
// numbers the range (for scratch memory). f must not throw.
template <class F> void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  int64_t tasks = (n + grain - 1) / (grain > 0 ? grain : 1);
  if (tasks > num_threads()) tasks = num_threads();
  if (tasks <= 1) {
    f(int64_t{0}, n, 0);
    return;
  }
  struct Context {
    std::remove_reference_t<F>* f;
    int64_t n, tasks;
  } context{&f, n, tasks};
  detail::parallel_run(
      static_cast<int>(tasks),
      [](void* p, int task) {
        auto& c = *static_cast<Context*>(p);
        (*c.f)(c.n * task / c.tasks, c.n * (task + 1) / c.tasks, task);
      },
      &context);
}

}  // namespace trireme
