// A program into Paddle's formats: values, constants, shapes; the operators are in the tables.
#include "formats/export_paddle.h"

#include <algorithm>

#include "trireme/error.h"

namespace trireme {
namespace {

const PaddleExport* find_export(const Op* op) {
  static const auto table = [] {
    std::unordered_map<const Op*, const PaddleExport*> all;
    for (const auto part : {paddle_math_exports(), paddle_nn_exports(), paddle_shape_exports(),
                            paddle_control_exports()})
      for (const PaddleExport& entry : part) all.emplace(entry.op, &entry);
    return all;
  }();
  const auto it = table.find(op);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace

OutType PaddleEmitter::type_of(DType dtype, const Dims& dims) {
  OutType type{dtype, {}};
  for (const Dim& d : dims) type.dims.push_back(d.known() ? d.first : -1);
  return type;
}

// ---- values

void PaddleEmitter::set(const Value* value, OutId id) {
  ids_[value] = id;
  written_.emplace_back(model.dims(value), id);
}

OutId PaddleEmitter::get(const Value* value) {
  if (value == nullptr) return 0;
  const auto it = ids_.find(value);
  if (it != ids_.end()) return it->second;
  const OutId id = constant(value);
  ids_[value] = id;
  return id;
}

std::string PaddleEmitter::fresh_name(const std::string& wish) {
  std::string name = wish;
  for (int i = 0; !names_.insert(name).second; ++i) name = wish + '_' + std::to_string(i);
  return name;
}

OutId PaddleEmitter::constant(const Value* value) {
  const Array& array = *constant_of(value);
  const ConstantForm form = constant_form(model, value);
  if (form.sized)
    return expand(*value->node, sink.full({}, form.number, array.dtype()), {}, model.dims(value));
  if (form.uniform && !form.parameter)
    return sink.full(type_of(value).dims, form.number, array.dtype());
  return parameter(value->name.empty() ? "constant_0" : value->name, array);
}

OutId PaddleEmitter::parameter(const std::string& wish, const Array& array) {
  OutId& id = parameters_[{wish, array.data()}];
  if (id == 0) id = sink.parameter(fresh_name(wish), array);
  return id;
}

// ---- operators

OutId PaddleEmitter::op(std::string_view names, std::vector<OutSlot> inputs,
                        std::string_view result, const OutType& type, std::vector<OutAttr> attrs) {
  OutOp made;
  const size_t bar = names.find('|');
  made.legacy = names.substr(0, bar);
  made.pir = bar == std::string_view::npos ? names : names.substr(bar + 1);
  made.inputs = std::move(inputs);
  made.results.push_back({std::string(result), {type}});
  made.attrs = std::move(attrs);
  return sink.op(std::move(made))[0];
}

OutId PaddleEmitter::unary(std::string_view names, OutId x, std::vector<OutAttr> attrs) {
  return op(names, {{"X", {x}}}, "Out", sink.type(x), std::move(attrs));
}

OutId PaddleEmitter::binary(std::string_view names, OutId x, OutId y, const OutType& type) {
  std::vector<OutAttr> attrs;
  if (names.find('|') != std::string_view::npos || names.starts_with("elementwise"))
    attrs.push_back({"axis", int32_t{-1}});
  return op(names, {{"X", {x}}, {"Y", {y}}}, "Out", type, std::move(attrs));
}

OutId PaddleEmitter::cast(OutId x, DType dtype) {
  const OutType from = sink.type(x);
  if (from.dtype == dtype) return x;
  return op("cast", {{"X", {x}}}, "Out", {dtype, from.dims},
            {{"in_dtype", from.dtype}, {"out_dtype", dtype}});
}

OutId PaddleEmitter::dimension(const Node& node, const Dim& dim) {
  for (const auto& [dims, id] : written_) {
    const auto at = std::ranges::find(dims, dim);
    if (at != dims.end()) return sink.dimension(id, static_cast<int>(at - dims.begin()));
  }
  refuse_export(node, "a size that no value has depends on the size of the inputs (" +
                          std::to_string(dim.first) + ", then " + std::to_string(dim.second) + ")");
}

std::vector<OutId> PaddleEmitter::runtime_shape(const Node& node, const Dims& dims) {
  std::vector<OutId> ids;
  for (const Dim& d : dims) ids.push_back(d.known() ? sink.number(d.first) : dimension(node, d));
  return ids;
}

OutId PaddleEmitter::reshape(const Node& node, OutId x, const Dims& from, const Dims& to) {
  if (from == to) return x;
  const DType dtype = sink.type(x).dtype;
  OutOp made{"reshape2", "reshape", {{"X", {x}}}, {{"Out", {type_of(dtype, to)}}}, {}, {}, {}, {}};
  bool computed = false;
  made.attrs.push_back({"shape", list_as<int32_t>(reshape_numbers(from, to, computed)), "Shape"});
  if (computed) {
    made.shape = runtime_shape(node, to);
    made.legacy_shape_slot = "ShapeTensor";
    made.pir_shape_slot = "Shape";
  }
  return sink.op(std::move(made))[0];
}

OutId PaddleEmitter::expand(const Node& node, OutId x, const Dims& from, const Dims& to) {
  if (from == to) return x;
  const DType dtype = sink.type(x).dtype;
  OutOp made{"expand_v2", "expand", {{"X", {x}}}, {{"Out", {type_of(dtype, to)}}}, {}, {}, {}, {}};
  bool computed = false;
  made.attrs.push_back({"shape", list_as<int32_t>(expand_numbers(from, to, computed)), "Shape"});
  if (computed) {
    made.shape = runtime_shape(node, to);
    made.legacy_shape_slot = "expand_shapes_tensor";
    made.pir_shape_slot = "Shape";
  }
  return sink.op(std::move(made))[0];
}

OutId PaddleEmitter::transpose(OutId x, const std::vector<int32_t>& perm) {
  const OutType from = sink.type(x);
  OutType to{from.dtype, {}};
  for (const int32_t p : perm) to.dims.push_back(from.dims[static_cast<size_t>(p)]);
  return op("transpose2|transpose", {{"X", {x}}}, "Out", to, {{"axis", perm}});
}

OutId PaddleEmitter::broadcast(const Node& node, size_t i) {
  return expand(node, get(node.inputs[i]), model.dims(node.inputs[i]), model.dims(node.out()));
}

void PaddleEmitter::same_attrs(const Node& node) const {
  if (!(node.attrs == model.twin(node).attrs))
    refuse_export(node, "an attribute depends on the size of the inputs: " + node.attrs.str() +
                            ", then " + model.twin(node).attrs.str());
}

// ---- the program

std::vector<OutId> PaddleEmitter::block(const Graph& graph, const std::vector<OutId>& inputs) {
  const auto ids = ids_;
  const auto written = written_;
  for (size_t i = 0; i < inputs.size(); ++i) set(graph.inputs[i], inputs[i]);
  nodes(graph);
  std::vector<OutId> results;
  for (const Value* value : graph.outputs) results.push_back(get(value));
  ids_ = ids;
  written_ = written;
  return results;
}

void PaddleEmitter::nodes(const Graph& graph) {
  for (const auto& node : graph.nodes) {
    if (node->op == &kData || node->op == &kConstant) continue;
    find_export(node->op)->run(*this, *node);
  }
}

void PaddleEmitter::run() {
  check_operators(model, [](const Op* op) { return find_export(op) != nullptr; });
  const auto& inputs = model.graph().inputs;
  for (const std::string& name : model.spec().outputs) names_.insert(name);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ExportSpec::Input& input = model.spec().inputs[i];
    names_.insert(input.name);
    OutType type = type_of(inputs[i]);
    type.dims.assign(input.shape.begin(), input.shape.end());
    set(inputs[i], sink.input(input.name, type));
  }
  nodes(model.graph());
  for (size_t i = 0; i < model.graph().outputs.size(); ++i) {
    const Value* value = model.graph().outputs[i];
    sink.output(model.spec().outputs[i], get(value));
  }
}

void export_to(PaddleSink& sink, const ExportModel& model) { PaddleEmitter(sink, model).run(); }

}  // namespace trireme
