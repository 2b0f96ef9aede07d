// Timing candidates: all of them briefly, the best few again.
#include "device/cuda/autotune.h"

#include <algorithm>
#include <mutex>
#include <random>

#include "base/half.h"
#include "base/switches.h"
#include "trireme/array.h"

namespace trireme::cuda {
namespace {

constexpr int kFinalists = 3;

// Microseconds of one run, from a recording of `runs`; negative: it cannot be recorded.
double time_of(Device& device, const Candidate& candidate, int runs, int launches) {
  const auto recording = device.record([&](void* stream) {
    for (int i = 0; i < runs; ++i) candidate(stream);
  });
  if (recording == nullptr) return -1;
  recording->launch();
  const auto timer = device.timer();
  for (int i = 0; i <= launches; ++i) {
    timer->mark();
    if (i < launches) recording->launch();
  }
  const std::vector<double> marks = timer->read_us();
  std::vector<double> times;
  for (size_t i = 1; i < marks.size(); ++i) times.push_back(marks[i] - marks[i - 1]);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] / runs;
}

}  // namespace

bool autotunes() { return !is_disabled("autotune"); }

std::array<int64_t, 3> workspace_limits(Device& device) {
  constexpr int64_t kModest = int64_t{128} << 20;
  const int64_t cap = device.pool().cap();
  const int64_t last = cap > 0 ? cap : device.info().total_bytes / 4;
  const int64_t first = std::min(kModest, last / 8);
  return {first, std::min(8 * first, last), last};
}

Storage tuning_memory(Device& device, DType dtype, int64_t bytes) {
  constexpr int64_t kBlock = int64_t{1} << 20;
  const int64_t block = std::min(bytes, kBlock),
                count = block / static_cast<int64_t>(size_of(dtype));
  Array numbers(dtype, Shape{count});
  if (is_floating(dtype)) {
    Array wide(DType::kFloat32, Shape{count});
    std::minstd_rand random(1);
    for (int64_t i = 0; i < count; ++i)
      wide.as<float>()[i] = std::uniform_real_distribution<float>(-1, 1)(random);
    numbers = wide.to(dtype);
  } else {
    std::fill_n(static_cast<char*>(numbers.data()), numbers.bytes(), char{0});
  }
  Storage memory = device.allocate(bytes, "a buffer of autotuning");
  const Storage first =
      device.upload(numbers.data(), static_cast<int64_t>(numbers.bytes()), "numbers");
  char* to = static_cast<char*>(memory.data);
  int64_t done = static_cast<int64_t>(numbers.bytes());
  device.copy(to, first.data, static_cast<size_t>(done));
  for (; done > 0 && done < bytes; done *= 2)
    device.copy(to + done, to, static_cast<size_t>(std::min(done, bytes - done)));
  return memory;
}

int fastest(Device& device, const std::vector<Candidate>& candidates, double* us) {
  static std::mutex turns;
  const std::lock_guard lock(turns);
  std::vector<std::pair<double, int>> ranked;
  double best = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    double time = time_of(device, candidates[i], 1, 1);
    if (time < 0) continue;
    if (best == 0 || time < 3 * best)
      time = time_of(device, candidates[i], std::clamp(static_cast<int>(50 / time), 4, 16), 2);
    if (time < 0) continue;
    if (best == 0 || time < best) best = time;
    ranked.emplace_back(time, static_cast<int>(i));
  }
  if (ranked.empty()) return -1;
  std::sort(ranked.begin(), ranked.end());
  std::pair<double, int> winner = ranked.front();
  if (ranked.size() > 1) {
    winner.first = -1;
    for (size_t k = 0; k < std::min<size_t>(kFinalists, ranked.size()); ++k) {
      const int index = ranked[k].second,
                runs = std::clamp(static_cast<int>(1500 / ranked[k].first), 3, 30);
      const double time = time_of(device, candidates[static_cast<size_t>(index)], runs, 5);
      if (time >= 0 && (winner.first < 0 || time < winner.first)) winner = {time, index};
    }
    if (winner.first < 0) winner = ranked.front();
  }
  if (us != nullptr) *us = winner.first;
  return winner.second;
}

}  // namespace trireme::cuda
