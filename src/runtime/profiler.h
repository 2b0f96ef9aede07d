// Profiler: how long each node took; totals by operator, and a trace file for chrome://tracing.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace trireme {

// One thread's. Events accumulate over runs.
class Profiler {
 public:
  void add(const Node& node, double start_us, double duration_us);
  static double now_us();                      // a steady clock
  static std::string label(const Node& node);  // "fused conv2d+hardswish+affine [1, 16, 320, 320]"

  void write_trace(const std::string& file) const;  // Chrome's trace format
  double total_ms() const;
  std::string table() const;  // by node label: calls, total ms, share

 private:
  struct Event {
    std::string name;
    double start, duration;
  };
  std::vector<Event> events_;
};

}  // namespace trireme
