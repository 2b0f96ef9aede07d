// Profiler: collecting and printing.
#include "runtime/profiler.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>

#include "ops/conv.h"
#include "ops/fused.h"

namespace trireme {

double Profiler::now_us() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

namespace {

// "conv2d 3x3/2": nodes of the same result may differ in nothing else.
std::string name_of(const Node& n) {
  std::string name(n.op->name);
  if (n.op != &ops::conv2d_op && n.op != &ops::conv2d_transpose_op) return name;
  const Shape& w = n.inputs[1]->type.shape;
  name += ' ' + std::to_string(w[2]) + 'x' + std::to_string(w[3]);
  const auto& strides = n.get<Conv2dAttrs>().strides;
  if (strides[0] != 1 || strides[1] != 1) {
    name += '/' + std::to_string(strides[0]);
    if (strides[1] != strides[0]) name += 'x' + std::to_string(strides[1]);
  }
  return name;
}

}  // namespace

std::string Profiler::label(const Node& node) {
  std::string name = name_of(node);
  if (node.op == &ops::fused_op) {
    name += ' ';
    const char* separator = "";
    for (const Node* n : operators_of(*node.get<FusedAttrs>().body)) {
      name += separator + name_of(*n);
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
  struct Row {
    std::string name;
    int calls = 0;
    double us = 0, fastest = 0;
  };
  std::map<std::string, Row> by_name;
  double all = 0;
  for (const Event& e : events_) {
    Row& row = by_name[e.name];
    row.name = e.name;
    row.fastest = row.calls++ == 0 ? e.duration : std::min(row.fastest, e.duration);
    row.us += e.duration;
    all += e.duration;
  }
  std::vector<Row> rows;
  for (const auto& [name, row] : by_name) rows.push_back(row);
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.us > b.us; });
  std::string text = "   calls   total ms   share    fastest us  node\n";
  for (const Row& row : rows) {
    char line[80];
    std::snprintf(line, sizeof line, "%8d %10.3f %6.1f%% %13.1f  ", row.calls, row.us / 1e3,
                  all > 0 ? row.us * 100 / all : 0, row.fastest);
    text += line + row.name + '\n';
  }
  return text;
}

}  // namespace trireme
