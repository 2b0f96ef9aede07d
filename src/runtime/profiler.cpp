// Profiler: collecting and printing.
#include "runtime/profiler.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>

#include "ops/fused.h"

namespace trireme {

double Profiler::now_us() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

std::string Profiler::label(const Node& node) {
  std::string name(node.op->name);
  if (node.op == &ops::fused_op) {
    name += ' ';
    const char* separator = "";
    for (const auto& n : node.get<FusedAttrs>().body->nodes) {
      if (n->op == &kData || n->op == &kConstant) continue;
      name += separator + std::string(n->op->name);
      separator = "+";
    }
  }
  if (!node.outputs.empty()) name += ' ' + node.out()->type.str();
  return name;
}

void Profiler::add(const Node& node, double start_us, double duration_us) {
  events_.push_back({label(node), start_us, duration_us});
}

void Profiler::write_trace(const std::string& file) const {
  std::ofstream out(file);
  TRI_CHECK(out.good(), "cannot write the trace file '" + file + "'");
  out << "{\"traceEvents\": [";
  const double origin = events_.empty() ? 0 : events_[0].start;
  const char* separator = "\n";
  for (const Event& e : events_) {
    std::string name;
    for (char c : e.name) name += c == '"' || c == '\\' ? '_' : c;
    out << separator << "{\"name\": \"" << name
        << "\", \"ph\": \"X\", \"pid\": 1, \"tid\": 1, \"ts\": " << std::fixed << e.start - origin
        << ", \"dur\": " << e.duration << "}";
    separator = ",\n";
  }
  out << "\n]}\n";
}

double Profiler::total_ms() const {
  double us = 0;
  for (const Event& e : events_) us += e.duration;
  return us / 1e3;
}

std::string Profiler::table() const {
  std::map<std::string, std::pair<int, double>> totals;
  double all = 0;
  for (const Event& e : events_) {
    auto& [calls, us] = totals[e.name];
    ++calls;
    us += e.duration;
    all += e.duration;
  }
  std::vector<std::pair<std::string, std::pair<int, double>>> rows(totals.begin(), totals.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.second > b.second.second; });
  std::string text = "   calls   total ms   share  node\n";
  for (const auto& [name, row] : rows) {
    char line[64];
    std::snprintf(line, sizeof line, "%8d %10.3f %6.1f%%  ", row.first, row.second / 1e3,
                  all > 0 ? row.second * 100 / all : 0);
    text += line + name + '\n';
  }
  return text;
}

}  // namespace trireme
