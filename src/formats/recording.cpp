// ProgramRecording: a foreign program becomes nodes of the graph being built; blocks become graphs
// of their own.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "formats/context.h"
#include "trireme/error.h"

namespace trireme {

const Translation* find_translation(std::string_view op) {
  static const auto table = [] {
    std::unordered_map<std::string_view, const Translation*> all;
    for (const auto part : {math_translations(), reduce_translations(), nn_translations(),
                            pool_translations(), shape_translations(), create_translations(),
                            index_translations(), control_translations()}) {
      for (const Translation& entry : part) all.emplace(entry.op, &entry);
    }
    return all;
  }();
  const auto it = table.find(op);
  return it == table.end() ? nullptr : it->second;
}

ProgramRecording::ProgramRecording(const ForeignProgram& program, std::span<const Array> parameters)
    : program_(program),
      parameters_(parameters),
      parameter_of_(program.values.size(), -1),
      values_(program.values.size(), nullptr) {
  for (size_t i = 0; i < program.parameters.size(); ++i) {
    parameter_of_[static_cast<size_t>(program.parameters[i].value)] = static_cast<int>(i);
  }
}

Value* ProgramRecording::get(int id, const ForeignOp* user) {
  const auto i = static_cast<size_t>(id);
  if (values_[i] == nullptr && parameter_of_[i] >= 0) {
    values_[i] = constant(parameters_[static_cast<size_t>(parameter_of_[i])], program_.values[i]);
  }
  if (values_[i] == nullptr) {
    const std::string what = program_.values[i].empty() ? "value " + std::to_string(id)
                                                        : "variable '" + program_.values[i] + "'";
    fail(Code::kInvalidArgument, what + " is used, but no operator gives it",
         user != nullptr ? user->where : program_.file);
  }
  return values_[i];
}

void ProgramRecording::set(int id, Value* value) {
  const auto i = static_cast<size_t>(id);
  if (value->name.empty()) value->name = program_.values[i];
  values_[i] = value;
}

void ProgramRecording::run(const ForeignBlock& block) {
  for (const ForeignOp& op : block.ops) {
    set_location(op.where);
    const Translation* translation = find_translation(op.type);
    Context context(*this, op);
    if (translation == nullptr) context.refuse("the operator is not supported");
    try {
      translation->run(context);
    } catch (const Error& error) {
      if (!error.location().empty()) throw;
      throw error.at(op.where);
    }
  }
}

std::vector<int> ProgramRecording::captured(std::span<const ForeignBlock> blocks) {
  std::vector<int> out;
  for (const ForeignBlock& block : blocks) {
    for (int id : free_values(block)) {
      if (is_parameter(id) || std::ranges::find(out, id) != out.end()) continue;
      if (constant_of(get(id)) == nullptr) out.push_back(id);
    }
  }
  return out;
}

std::shared_ptr<Graph> ProgramRecording::record_block(const ForeignBlock& block,
                                                      const std::vector<Type>& arguments,
                                                      const std::vector<int>& captured) {
  auto graph = std::make_shared<Graph>();
  if (const auto* outer = dynamic_cast<const Graph*>(&current_builder())) {
    graph->fold_below = outer->fold_below;
    graph->fold_named = outer->fold_named;
  }
  const BuilderScope scope(*graph);
  const std::string where = current_location();
  ProgramRecording inner(program_, parameters_);
  for (size_t i = 0; i < block.arguments.size(); ++i) {
    const int id = block.arguments[i];
    inner.set(id, graph->add_input(arguments[i], program_.values[static_cast<size_t>(id)]));
  }
  for (int id : captured) {
    const Value* outer = get(id);
    inner.set(id, graph->add_input(outer->type, outer->name));
  }
  for (int id : free_values(block)) {
    if (is_parameter(id)) continue;
    const Value* outer = get(id);
    if (const Array* tensor = constant_of(outer)) inner.set(id, constant(*tensor, outer->name));
  }
  inner.run(block);
  for (int id : block.results) graph->outputs.push_back(inner.get(id));
  graph->drop_unused();
  set_location(where);
  return graph;
}

}  // namespace trireme
