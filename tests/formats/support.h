// Recording a program of either format in a test.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "formats/params.h"
#include "formats/program.h"

namespace trireme::test {

inline std::vector<ParamSpec> specs_of(const ForeignProgram& program) {
  std::vector<ParamSpec> specs;
  for (const auto& p : program.parameters) specs.push_back({p.name, p.dtype, p.shape});
  return specs;
}

// Zeros for a program whose weights are not there.
inline std::vector<Array> zeros_for(const ForeignProgram& program) {
  std::vector<Array> tensors;
  for (const auto& p : program.parameters) {
    tensors.emplace_back(p.dtype, p.shape);
    std::memset(tensors.back().data(), 0, tensors.back().bytes());
  }
  return tensors;
}

// The program as a graph for these input shapes.
inline std::unique_ptr<Graph> record(const Program& program, const std::vector<Shape>& shapes) {
  auto graph = std::make_unique<Graph>();
  const BuilderScope scope(*graph);
  std::vector<Value*> inputs;
  for (size_t i = 0; i < shapes.size(); ++i) {
    inputs.push_back(
        graph->add_input({program.inputs()[i].dtype, shapes[i]}, program.inputs()[i].name));
  }
  graph->outputs = program.record(inputs);
  graph->drop_unused();
  return graph;
}

inline std::map<std::string, int> count_ops(const Graph& graph) {
  std::map<std::string, int> counts;
  for (const auto& node : graph.nodes) ++counts[std::string(node->op->name)];
  return counts;
}

// The Error that `run` throws; a failed test when it throws none.
inline Error error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) { return error; }
  ADD_FAILURE() << "no error was thrown";
  return Error(Code::kInternal, "none");
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

}  // namespace trireme::test
