// ExportModel: recording twice, and pairing the nodes.
#include "formats/export_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "formats/context.h"
#include "ops/control.h"
#include "ops/pool.h"
#include "ops/shape.h"
#include "trireme/error.h"

namespace trireme {
namespace {

// Sizes for unknown dimensions, by their place in the shape: unlike each other, so that each can be
// recognised; multiples of 32 behind the batch, which detectors want; large enough that nothing of
// that size is folded as shape arithmetic.
constexpr int64_t kSizes[2][4] = {{67, 96, 160, 224}, {71, 128, 192, 288}};
constexpr int64_t kFoldBelow = 65;

}  // namespace

void refuse_export(const Node& node, const std::string& why) {
  fail(Code::kUnimplemented, '[' + std::string(node.op->name) + "] cannot be exported: " + why,
       node.where);
}

std::unique_ptr<Graph> ExportModel::record_with(const Record& record, bool second) const {
  auto graph = std::make_unique<Graph>();
  graph->fold_below = kFoldBelow;
  graph->fold_named = false;
  std::vector<Value*> inputs;
  for (const ExportSpec::Input& input : spec_.inputs) {
    Shape shape = input.shape;
    for (int d = 0; d < shape.rank(); ++d)
      if (shape[d] == Shape::kUnknown) shape[d] = kSizes[second ? 1 : 0][std::min(d, 3)];
    inputs.push_back(graph->add_input({input.dtype, shape}, input.name));
  }
  const BuilderScope scope(*graph);
  graph->outputs = record(inputs);
  graph->drop_unused();
  if (spec_.merge_norms) merge_batch_norms(*graph);
  return graph;
}

ExportModel::ExportModel(ExportSpec spec, const Record& record) : spec_(std::move(spec)) {
  first_ = record_with(record, false);
  second_ = record_with(record, true);
  TRI_CHECK(spec_.outputs.size() == first_->outputs.size(),
            "[export] " + std::to_string(spec_.outputs.size()) + " names for " +
                std::to_string(first_->outputs.size()) + " outputs");
  pair_graphs(*first_, *second_);
}

void ExportModel::pair_graphs(const Graph& one, const Graph& two) {
  const size_t count = std::min(one.nodes.size(), two.nodes.size());
  std::unordered_map<const Value*, const Value*> values;
  for (size_t i = 0; i < count; ++i) {
    const Node &a = *one.nodes[i], &b = *two.nodes[i];
    bool same =
        a.op == b.op && a.inputs.size() == b.inputs.size() && a.outputs.size() == b.outputs.size();
    for (size_t k = 0; same && k < a.inputs.size(); ++k)
      same = (a.inputs[k] == nullptr) == (b.inputs[k] == nullptr) &&
             (a.inputs[k] == nullptr || values.at(a.inputs[k]) == b.inputs[k]);
    for (size_t k = 0; same && k < a.outputs.size(); ++k) {
      values[a.out(k)] = b.out(k);
      same = a.out(k)->type.dtype == b.out(k)->type.dtype &&
             a.out(k)->type.shape.rank() == b.out(k)->type.shape.rank();
    }
    if (!same) refuse_export(a, "what is computed depends on the size of the inputs");
    nodes_[&a] = &b;
    const auto inner = graphs_of(a), other = graphs_of(b);
    for (size_t k = 0; k < inner.size(); ++k) pair_graphs(*inner[k], *other[k]);
  }
  bool same = one.nodes.size() == two.nodes.size() && one.outputs.size() == two.outputs.size();
  for (size_t k = 0; same && k < one.outputs.size(); ++k)
    same = values.at(one.outputs[k]) == two.outputs[k];
  if (!same)
    fail(Code::kUnimplemented, "[export] what is computed depends on the size of the inputs");
}

std::vector<const Graph*> graphs_of(const Node& node) {
  if (node.op == &ops::if_op) {
    const auto& a = node.get<BranchAttrs>();
    return {a.then_graph.get(), a.else_graph.get()};
  }
  if (node.op == &ops::while_op) return {node.get<LoopAttrs>().body.get()};
  return {};
}

void check_operators(const ExportModel& model, const std::function<bool(const Op*)>& known) {
  std::string unknown;
  const std::function<void(const Graph&)> look = [&](const Graph& graph) {
    for (const auto& node : graph.nodes) {
      for (const Graph* inner : graphs_of(*node)) look(*inner);
      const std::string name = " '" + std::string(node->op->name) + "'";
      if (node->op == &kData || node->op == &kConstant || known(node->op) ||
          unknown.find(name) != std::string::npos)
        continue;
      unknown += name;
    }
  };
  look(model.graph());
  if (!unknown.empty())
    fail(Code::kUnimplemented, "[export] operators that this format has no form for:" + unknown);
}

Dims ExportModel::pair(const Node& node, const std::vector<int64_t>& a,
                       const std::vector<int64_t>& b, const char* what) const {
  if (a.size() != b.size())
    refuse_export(node, std::string(what) + " depends on the size of the inputs");
  Dims dims;
  for (size_t i = 0; i < a.size(); ++i) dims.push_back({a[i], b[i]});
  return dims;
}

Dims ExportModel::dims(const Value* value) const {
  const Shape &a = value->type.shape, &b = twin(value)->type.shape;
  Dims dims;
  for (int d = 0; d < a.rank(); ++d) dims.push_back({a[d], b[d]});
  return dims;
}

namespace {

bool is_uniform(const Array& array, double& value) {
  if (array.numel() == 0) return false;
  const char* data = static_cast<const char*>(array.data());
  const size_t size = size_of(array.dtype());
  if (array.numel() > 1 && std::memcmp(data, data + size, array.bytes() - size) != 0) return false;
  value = numbers_of(Array(array.dtype(), Shape{}, const_cast<char*>(data), array.owner()))[0];
  return true;
}

}  // namespace

ConstantForm constant_form(const ExportModel& model, const Value* value) {
  const Array& array = *constant_of(value);
  const Array& other = *constant_of(model.twin(value));
  ConstantForm form;
  form.uniform = is_uniform(array, form.number);
  form.sized = array.shape() != other.shape();
  double number = 0;
  const bool same = form.sized ? form.uniform && is_uniform(other, number) && number == form.number
                               : array.data() == other.data() ||
                                     std::memcmp(array.data(), other.data(), array.bytes()) == 0;
  if (!same) refuse_export(*value->node, "a constant depends on the size of the inputs");
  form.parameter =
      !form.sized && !value->name.empty() && is_floating(array.dtype()) && array.shape().rank() > 0;
  return form;
}

std::vector<int64_t> reshape_numbers(const Dims& from, const Dims& to, bool& computed) {
  std::vector<int64_t> shape;
  int unknown = 0;
  for (size_t i = 0; i < to.size(); ++i) {
    const bool kept = !to[i].known() && i < from.size() && from[i] == to[i];
    unknown += !kept && !to[i].known() ? 1 : 0;
    shape.push_back(kept ? 0 : to[i].known() ? to[i].first : -1);
  }
  computed = unknown > 1;
  return shape;
}

std::vector<int64_t> expand_numbers(const Dims& from, const Dims& to, bool& computed) {
  std::vector<int64_t> shape;
  const size_t lead = to.size() - from.size();
  computed = false;
  for (size_t i = 0; i < to.size(); ++i) {
    const bool kept = i >= lead && from[i - lead] == to[i];
    shape.push_back(kept || !to[i].known() ? -1 : to[i].first);
    computed = computed || (!kept && !to[i].known());
  }
  return shape;
}

std::vector<double> resize_factors(const ExportModel& model, const Node& node) {
  const auto& a = node.get<InterpAttrs>();
  const Dims in = model.dims(node.inputs[0]), out = model.dims(node.out());
  if (!(a.scale == model.twin(node).get<InterpAttrs>().scale))
    refuse_export(node, "its factors depend on the size of the inputs");
  if (!a.scale.empty()) return a.scale;
  if (out[2].known() && out[3].known()) return {};
  std::vector<double> factors;
  for (size_t i = 2; i < 4; ++i) {
    const double factor = static_cast<double>(out[i].first) / static_cast<double>(in[i].first);
    const double second = std::floor(static_cast<double>(in[i].second) * factor);
    if (second != static_cast<double>(out[i].second))
      refuse_export(node, "its size depends on the size of the inputs, by no fixed factor");
    factors.push_back(factor);
  }
  return factors;
}

void slice_bounds(const ExportModel& model, const Node& node, std::vector<int64_t>& starts,
                  std::vector<int64_t>& ends) {
  constexpr int64_t kEnd = std::numeric_limits<int32_t>::max();
  const auto &a = node.get<SliceAttrs>(), &b = model.twin(node).get<SliceAttrs>();
  if (a.axes != b.axes || a.strides != b.strides)
    refuse_export(node, "its axes depend on the size of the inputs");
  const Dims in = model.dims(node.inputs[0]);
  const auto bound = [&](const Dim& at, const Dim& size) {
    if (at.known()) return at.first;
    const int64_t back = size.first - at.first;
    if (back != size.second - at.second || back <= 0)
      refuse_export(node, "a bound depends on the size of the inputs");
    return -back;
  };
  for (size_t i = 0; i < a.axes.size(); ++i) {
    const Dim& size = in[static_cast<size_t>(a.axes[i])];
    starts.push_back(bound({a.starts[i], b.starts[i]}, size));
    const Dim end{a.ends[i], b.ends[i]};
    // -1 is "through element 0" here, the last element there.
    ends.push_back(end == size ? kEnd : end == Dim{-1, -1} ? -kEnd : bound(end, size));
  }
}

ExportModel export_of(const Program& program, const std::vector<Shape>& shapes) {
  ExportSpec spec;
  for (size_t i = 0; i < program.inputs().size(); ++i) {
    const ForeignInput& input = program.inputs()[i];
    spec.inputs.push_back({input.name, input.dtype, shapes.empty() ? input.shape : shapes.at(i)});
  }
  for (const ForeignOutput& output : program.outputs()) spec.outputs.push_back(output.name);
  return ExportModel(std::move(spec), [&](const auto& inputs) { return program.record(inputs); });
}

void write_model(const ExportModel& model, ExportFormat format, const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(Code::kInvalidArgument, "cannot create the folder: " + error.message(), folder);
  switch (format) {
    case ExportFormat::kPdmodel: return write_pdmodel(model, folder);
    case ExportFormat::kPir: return write_pir(model, folder);
    case ExportFormat::kOnnx: return write_onnx(model, folder);
  }
}

}  // namespace trireme
