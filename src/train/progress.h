// Progress: what a training run shows while it goes: a bar on a terminal, plain lines elsewhere.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace trireme::train {

using Scalars = std::vector<std::pair<std::string, double>>;

// Writes to stderr. "1:02:03", "4:05" for a number of seconds.
std::string clock_text(double seconds);

class Progress {
 public:
  explicit Progress(int64_t total_steps);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // At a logging step: loss, lr, samples_per_s and metrics are shown as they come.
  void update(int64_t step, int64_t epoch, const Scalars& scalars);
  void line(const std::string& text);  // a line of its own, above the bar

 private:
  void clear();
  int64_t total_;
  int64_t first_step_ = -1;
  double start_ = 0;
  bool terminal_, drawn_ = false;
};

}  // namespace trireme::train
