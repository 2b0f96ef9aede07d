// Drawing the bar.
#include "train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace trireme::train {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string number(const std::string& name, double v) {
  char text[48];
  const char* form = name == "lr" ? "%.3g" : name == "samples_per_s" ? "%.0f" : "%.4f";
  std::snprintf(text, sizeof text, form, v);
  return name == "samples_per_s" ? std::string(text) + "/s" : name + ' ' + text;
}

size_t columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

}  // namespace

std::string clock_text(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  char text[32];
  if (s >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", static_cast<long long>(s / 3600),
                  static_cast<long long>(s / 60 % 60), static_cast<long long>(s % 60));
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", static_cast<long long>(s / 60),
                  static_cast<long long>(s % 60));
  return text;
}

Progress::Progress(int64_t total) : total_(total), terminal_(isatty(STDERR_FILENO) == 1) {}
Progress::~Progress() { clear(); }

void Progress::clear() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

void Progress::update(int64_t step, int64_t epoch, const Scalars& scalars) {
  if (first_step_ < 0) {
    first_step_ = step;
    start_ = now();
  }
  std::string text = "step " + std::to_string(step) + '/' + std::to_string(total_) + "  epoch " +
                     std::to_string(epoch);
  for (const auto& [name, v] : scalars) text += "  " + number(name, v);
  if (step > first_step_) {
    const double each = (now() - start_) / static_cast<double>(step - first_step_);
    text += "  left " + clock_text(each * static_cast<double>(total_ - step));
  }
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  constexpr size_t kBar = 20;
  const auto filled = static_cast<size_t>(static_cast<double>(kBar) * static_cast<double>(step) /
                                          static_cast<double>(std::max<int64_t>(total_, 1)));
  std::string bar = "[" + std::string(std::min(filled, kBar), '=') +
                    std::string(kBar - std::min(filled, kBar), ' ') + "] " + text;
  bar.resize(std::min(bar.size(), columns() - 1));
  std::fprintf(stderr, "\r\033[K%s", bar.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::line(const std::string& text) {
  clear();
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace trireme::train
