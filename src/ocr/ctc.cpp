// Best-path CTC decoding. The arg max over thousands of classes is most of the work, so it is
// written for SIMD.
#include "ocr/ctc.h"

#include <algorithm>

namespace trireme::ocr {

int arg_max(const float* values, int count) {
  constexpr int kLanes = 32;
  float best[kLanes];
  std::fill(best, best + kLanes, values[0]);
  int i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) best[lane] = std::max(best[lane], values[i + lane]);
  for (; i < count; ++i) best[0] = std::max(best[0], values[i]);
  const float largest = *std::max_element(best, best + kLanes);
  for (i = 0; i + kLanes <= count; i += kLanes) {  // a block at a time, without a branch in it
    int hits = 0;
    for (int lane = 0; lane < kLanes; ++lane) hits += values[i + lane] == largest;
    if (hits != 0) break;
  }
  return std::min(static_cast<int>(std::find(values + i, values + count, largest) - values),
                  count - 1);
}

Reading decode_ctc(const float* probabilities, int steps, int classes,
                   const Dictionary& dictionary) {
  Reading reading;
  double sum = 0;
  int kept = 0, last = 0;
  for (int t = 0; t < steps; ++t) {
    const float* row = probabilities + static_cast<int64_t>(t) * classes;
    const int best = arg_max(row, classes);
    if (best != 0 && best != last) {
      const auto index = static_cast<size_t>(best - 1);
      reading.text += index < dictionary.size() ? dictionary[index] : " ";
      sum += row[best];
      ++kept;
    }
    last = best;
  }
  if (kept > 0) reading.score = static_cast<float>(sum / kept);
  return reading;
}

}  // namespace trireme::ocr
