// Work on many lines of text in parallel, where an exception is carried out to the caller.
#pragma once

#include <exception>
#include <mutex>

#include "base/parallel.h"

namespace trireme::ocr {

// Calls f(i) for i in [0, count), in parallel; rethrows the first exception.
template <class F> void for_each_line(size_t count, F&& f) {
  std::exception_ptr failure;
  std::mutex mutex;
  parallel_for(static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end, int) {
    try {
      for (int64_t i = begin; i < end; ++i) f(static_cast<size_t>(i));
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace trireme::ocr
