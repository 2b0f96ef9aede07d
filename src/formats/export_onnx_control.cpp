// Control flow into ONNX: the graphs of a node become attributes of If and Loop.
#include "formats/export_onnx.h"
#include "ops/control.h"

namespace trireme {
namespace {

using E = OnnxEmitter;
using Name = E::Name;

std::vector<Name> inputs_of(E& e, const Node& node, size_t from, size_t to) {
  std::vector<Name> names;
  for (size_t i = from; i < to; ++i) names.push_back(e.get(node.inputs[i]));
  return names;
}

Name condition_of(E& e, const Node& node) {
  return e.reshape(node, e.get(node.inputs[0]), e.model.dims(node.inputs[0]), {});
}

void set_outputs(E& e, const Node& node, const std::vector<Name>& names) {
  for (size_t i = 0; i < node.outputs.size(); ++i) e.set(node.out(i), names[i]);
}

void branch(E& e, const Node& node) {
  const auto& a = node.get<BranchAttrs>();
  const std::vector<Name> captured = inputs_of(e, node, 1, node.inputs.size());
  set_outputs(e, node,
              e.ops("If", {condition_of(e, node)}, node.outputs.size(),
                    {{"then_branch", e.block(*a.then_graph, {}, 0, captured)},
                     {"else_branch", e.block(*a.else_graph, {}, 0, captured)}}));
}

// The number of rounds, which Loop counts itself, is bounded by nothing.
void loop(E& e, const Node& node) {
  const auto& a = node.get<LoopAttrs>();
  const auto variables = static_cast<size_t>(a.variables);
  const std::vector<Name> captured = inputs_of(e, node, 1 + variables, node.inputs.size());
  std::vector<Name> in{Name(), condition_of(e, node)};
  for (const Name& name : inputs_of(e, node, 1, 1 + variables)) in.push_back(name);
  set_outputs(e, node,
              e.ops("Loop", in, variables,
                    {{"body", e.block(*a.body, {{"round", DType::kInt64}, {"go_on", DType::kBool}},
                                      variables, captured)}}));
}

constexpr OnnxExport kTable[] = {{&ops::if_op, branch}, {&ops::while_op, loop}};

}  // namespace

std::span<const OnnxExport> onnx_control_exports() { return kTable; }

}  // namespace trireme
