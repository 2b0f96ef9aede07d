// RandomStream: the random numbers of one sample, the same whatever thread or machine draws them.
#pragma once

#include <cstdint>

namespace trireme {

// A counter that is mixed (splitmix64). Streams of different (seed, epoch, index) do not overlap in
// practice; nothing is shared, so each thread has its own streams.
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed = 0, uint64_t epoch = 0, uint64_t index = 0)
      : state_(mix(mix(mix(seed) ^ epoch) ^ index)) {}

  uint64_t next() { return mix(state_ += kStep); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  // [0, n), without bias; 0 for n <= 1.
  int64_t below(int64_t n) {
    if (n <= 1) return 0;
    const auto range = static_cast<uint64_t>(n);
    const uint64_t limit = UINT64_MAX - (UINT64_MAX % range + 1) % range;
    uint64_t value = next();
    while (value > limit) value = next();
    return static_cast<int64_t>(value % range);
  }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }  // inclusive
  bool chance(double probability) { return uniform() < probability; }
  double normal();  // mean 0, deviation 1

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
  static uint64_t mix(uint64_t z) {
    z += kStep;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }

  uint64_t state_;
};

}  // namespace trireme
