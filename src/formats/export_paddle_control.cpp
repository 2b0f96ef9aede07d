// Control flow into Paddle's formats: the graphs of a node become blocks.
#include "formats/export_paddle.h"
#include "ops/control.h"

namespace trireme {
namespace {

using E = PaddleEmitter;

std::vector<OutId> inputs_of(E& e, const Node& node, size_t from, size_t to) {
  std::vector<OutId> ids;
  for (size_t i = from; i < to; ++i) ids.push_back(e.get(node.inputs[i]));
  return ids;
}

void set_outputs(E& e, const Node& node, const std::vector<OutId>& ids) {
  for (size_t i = 0; i < node.outputs.size(); ++i) e.set(node.out(i), ids[i]);
}

void branch(E& e, const Node& node) {
  const auto& a = node.get<BranchAttrs>();
  const std::vector<OutId> captured = inputs_of(e, node, 1, node.inputs.size());
  std::vector<OutType> types;
  for (const auto& out : node.outputs) types.push_back(e.type_of(out.get()));
  set_outputs(e, node,
              e.sink.branch(
                  e.get(node.inputs[0]), [&] { return e.block(*a.then_graph, captured); },
                  [&] { return e.block(*a.else_graph, captured); }, types));
}

void loop(E& e, const Node& node) {
  const auto& a = node.get<LoopAttrs>();
  const size_t first = 1 + static_cast<size_t>(a.variables);
  const std::vector<OutId> captured = inputs_of(e, node, first, node.inputs.size());
  const auto body = [&](std::vector<OutId> inputs) {
    inputs.insert(inputs.end(), captured.begin(), captured.end());
    return e.block(*a.body, inputs);
  };
  set_outputs(e, node, e.sink.loop(e.get(node.inputs[0]), inputs_of(e, node, 1, first), body));
}

constexpr PaddleExport kTable[] = {{&ops::if_op, branch}, {&ops::while_op, loop}};

}  // namespace

std::span<const PaddleExport> paddle_control_exports() { return kTable; }

}  // namespace trireme
