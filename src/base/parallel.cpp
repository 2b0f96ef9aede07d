// OpenMP's team behind parallel_for.
#include "base/parallel.h"

#include <omp.h>

#include <algorithm>

namespace trireme {

int num_threads() { return std::max(1, omp_get_max_threads()); }

void set_num_threads(int n) { omp_set_num_threads(n > 0 ? n : omp_get_num_procs()); }

void detail::parallel_run(int tasks, void (*body)(void*, int), void* context) {
#pragma omp parallel num_threads(tasks)
  {
    // The runtime may give fewer threads than asked for; every task must run all the same.
    for (int t = omp_get_thread_num(); t < tasks; t += omp_get_num_threads()) body(context, t);
  }
}

}  // namespace trireme
