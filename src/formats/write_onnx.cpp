// Writer of ONNX: values, constants, shapes; the operators are in the tables.
#include <algorithm>
#include <filesystem>

#include "base/files.h"
#include "formats/export_onnx.h"
#include "trireme/error.h"

namespace trireme {
namespace {

constexpr int64_t kIrVersion = 8, kOpset = 17;

const OnnxExport* find_export(const Op* op) {
  static const auto table = [] {
    std::unordered_map<const Op*, const OnnxExport*> all;
    for (const auto part :
         {onnx_math_exports(), onnx_nn_exports(), onnx_shape_exports(), onnx_control_exports()})
      for (const OnnxExport& entry : part) all.emplace(entry.op, &entry);
    return all;
  }();
  const auto it = table.find(op);
  return it == table.end() ? nullptr : it->second;
}

void fill(onnx::AttributeProto& to, const OnnxEmitter::Attr& attr) {
  using onnx::AttributeProto;
  to.set_name(attr.first);
  if (const auto* i = std::get_if<int64_t>(&attr.second)) {
    to.set_type(AttributeProto::INT);
    to.set_i(*i);
  } else if (const auto* f = std::get_if<float>(&attr.second)) {
    to.set_type(AttributeProto::FLOAT);
    to.set_f(*f);
  } else if (const auto* s = std::get_if<std::string>(&attr.second)) {
    to.set_type(AttributeProto::STRING);
    to.set_s(*s);
  } else if (const auto* g = std::get_if<onnx::GraphProto>(&attr.second)) {
    to.set_type(AttributeProto::GRAPH);
    *to.mutable_g() = *g;
  } else {
    to.set_type(AttributeProto::INTS);
    for (const int64_t x : std::get<std::vector<int64_t>>(attr.second)) to.add_ints(x);
  }
}

}  // namespace

int onnx_dtype(DType dtype) {
  using onnx::TensorProto;
  static constexpr int kNumbers[] = {
      TensorProto::BOOL,  TensorProto::UINT8, TensorProto::INT8,    TensorProto::INT16,
      TensorProto::INT32, TensorProto::INT64, TensorProto::FLOAT16, TensorProto::BFLOAT16,
      TensorProto::FLOAT, TensorProto::DOUBLE};
  return kNumbers[static_cast<size_t>(dtype)];
}

// ---- values

OnnxEmitter::Name OnnxEmitter::fresh(const std::string& wish) {
  std::string name = wish;
  for (int i = 1; !used_.insert(name).second; ++i) name = wish + '_' + std::to_string(i);
  return name;
}

void OnnxEmitter::set(const Value* value, Name name) {
  names_[value] = name;
  written_.emplace_back(model.dims(value), std::move(name));
}

OnnxEmitter::Name OnnxEmitter::get(const Value* value) {
  if (value == nullptr) return {};
  if (const auto it = names_.find(value); it != names_.end()) return it->second;
  const Array& array = *constant_of(value);
  const ConstantForm form = constant_form(model, value);
  const Name name =
      form.sized ? expand(*value->node, number(form.number, array.dtype()), {}, model.dims(value))
                 : kept(array, value->name.empty() ? "constant" : value->name);
  return names_[value] = name;
}

// Several graphs may use one array.
OnnxEmitter::Name OnnxEmitter::kept(const Array& array, const std::string& wish) {
  Name& name = kept_[{wish, array.data()}];
  if (name.empty()) name = initializer(array, wish);
  return name;
}

OnnxEmitter::Name OnnxEmitter::initializer(const Array& array, const std::string& wish) {
  onnx::TensorProto& tensor = initializers_.emplace_back();
  const Name name = fresh(wish);
  tensor.set_name(name);
  tensor.set_data_type(onnx_dtype(array.dtype()));
  for (const int64_t dim : array.shape()) tensor.add_dims(dim);
  tensor.set_raw_data(array.data(), array.bytes());
  return name;
}

OnnxEmitter::Name OnnxEmitter::ints(const std::vector<int64_t>& values) {
  Name& name = lists_[values];
  if (name.empty())
    name = initializer(
        Array::from<int64_t>(Shape{static_cast<int64_t>(values.size())}, values, DType::kInt64),
        "shape");
  return name;
}

OnnxEmitter::Name OnnxEmitter::number(double value, DType dtype) {
  const std::vector<double> one{value};
  return initializer(Array::from<double>(Shape{}, one, DType::kFloat64).to(dtype), "number");
}

OnnxEmitter::Name OnnxEmitter::filled(const std::vector<int64_t>& shape, float value) {
  Array array(DType::kFloat32, Shape{std::span(shape)});
  std::fill_n(array.as<float>(), array.numel(), value);
  return initializer(array);
}

// ---- operators

std::vector<OnnxEmitter::Name> OnnxEmitter::ops(const char* type, std::vector<Name> inputs,
                                                size_t outputs, const Attrs& attrs) {
  while (!inputs.empty() && inputs.back().empty()) inputs.pop_back();
  onnx::NodeProto& node = *graph_.add_node();
  node.set_op_type(type);
  const Name base = fresh(std::string(type) + '_' + std::to_string(graph_.node_size()));
  node.set_name(base);
  for (const Name& in_name : inputs) node.add_input(in_name);
  std::vector<Name> names;
  for (size_t i = 0; i < outputs; ++i) {
    names.push_back(fresh(base + ".out"));
    node.add_output(names.back());
  }
  for (const Attr& attr : attrs) fill(*node.add_attribute(), attr);
  return names;
}

OnnxEmitter::Name OnnxEmitter::op(const char* type, std::vector<Name> inputs, const Attrs& attrs) {
  return ops(type, std::move(inputs), 1, attrs)[0];
}

OnnxEmitter::Name OnnxEmitter::cast(const Name& x, DType from, DType to) {
  return from == to ? x : op("Cast", {x}, {{"to", int64_t{onnx_dtype(to)}}});
}

OnnxEmitter::Name OnnxEmitter::shape_of(const Node& node, const Dims& dims) {
  std::vector<int64_t> known;
  for (const Dim& d : dims) known.push_back(d.first);
  if (std::ranges::all_of(dims, &Dim::known)) return ints(known);
  std::vector<Name> parts;
  for (const Dim& d : dims) {
    if (d.known()) {
      parts.push_back(ints({d.first}));
      continue;
    }
    Name found;
    for (const auto& [have, name] : written_) {
      const auto at = std::ranges::find(have, d);
      if (at == have.end()) continue;
      const Name shape = op("Shape", {name});
      found = op("Gather", {shape, ints({at - have.begin()})}, {{"axis", int64_t{0}}});
      break;
    }
    if (found.empty())
      refuse_export(node, "a size that no value has depends on the size of the inputs");
    parts.push_back(found);
  }
  return op("Concat", parts, {{"axis", int64_t{0}}});
}

OnnxEmitter::Name OnnxEmitter::reshape(const Node& node, const Name& x, const Dims& from,
                                       const Dims& to) {
  if (from == to) return x;
  bool computed = false;
  const std::vector<int64_t> numbers = reshape_numbers(from, to, computed);
  return op("Reshape", {x, computed ? shape_of(node, to) : ints(numbers)});
}

OnnxEmitter::Name OnnxEmitter::expand(const Node& node, const Name& x, const Dims& from,
                                      const Dims& to) {
  if (from == to) return x;
  bool computed = false;
  std::vector<int64_t> numbers = expand_numbers(from, to, computed);
  std::ranges::replace(numbers, int64_t{-1}, int64_t{1});
  return op("Expand", {x, computed ? shape_of(node, to) : ints(numbers)});
}

void OnnxEmitter::same_attrs(const Node& node) const {
  if (!(node.attrs == model.twin(node).attrs))
    refuse_export(node, "an attribute depends on the size of the inputs");
}

// ---- the program

void OnnxEmitter::declare(onnx::ValueInfoProto& to, const std::string& name, DType dtype,
                          const Dims& dims, const Shape* declared) const {
  to.set_name(name);
  onnx::TypeProto::Tensor& tensor = *to.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(onnx_dtype(dtype));
  onnx::TensorShapeProto& shape = *tensor.mutable_shape();
  for (size_t d = 0; d < dims.size(); ++d) {
    auto& dim = *shape.add_dim();
    const bool known =
        declared != nullptr ? (*declared)[static_cast<int>(d)] >= 0 : dims[d].known();
    if (known) {
      dim.set_dim_value(dims[d].first);
    } else if (declared == nullptr) {
      dim.set_dim_param(name + "_d" + std::to_string(d));
    } else {
      dim.set_dim_param(d == 0 ? "batch" : "size_" + std::to_string(d));
    }
  }
}

void OnnxEmitter::nodes(const Graph& graph) {
  for (const auto& node : graph.nodes)
    if (const OnnxExport* found = find_export(node->op)) found->run(*this, *node);
}

void OnnxEmitter::output(const Value* value, const Name& name) {
  const Name from = get(value);
  onnx::NodeProto& node = *graph_.add_node();
  node.set_op_type("Identity");
  node.set_name(fresh("output"));
  node.add_input(from);
  node.add_output(name);
  declare(*graph_.add_output(), name, value->type.dtype, model.dims(value), nullptr);
}

onnx::GraphProto OnnxEmitter::block(const Graph& graph, const std::vector<Before>& before,
                                    size_t arguments, const std::vector<Name>& captured) {
  const auto names = names_;
  const auto written = written_;
  onnx::GraphProto outer;
  outer.Swap(&graph_);
  graph_.set_name(fresh("block"));
  for (const Before& input : before)
    declare(*graph_.add_input(), fresh(input.wish), input.dtype, {}, nullptr);
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const Value* value = graph.inputs[i];
    if (i >= arguments) {
      set(value, captured[i - arguments]);
      continue;
    }
    const Name name = fresh("variable");
    declare(*graph_.add_input(), name, value->type.dtype, model.dims(value), nullptr);
    set(value, name);
  }
  nodes(graph);
  for (const Value* value : graph.outputs) output(value, fresh("result"));
  outer.Swap(&graph_);
  names_ = names;
  written_ = written;
  return outer;
}

onnx::ModelProto OnnxEmitter::run() {
  check_operators(model, [](const Op* op) { return find_export(op) != nullptr; });
  const auto& inputs = model.graph().inputs;
  for (const std::string& name : model.spec().outputs) used_.insert(name);
  for (const ExportSpec::Input& input : model.spec().inputs) used_.insert(input.name);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ExportSpec::Input& input = model.spec().inputs[i];
    declare(*graph_.add_input(), input.name, input.dtype, model.dims(inputs[i]), &input.shape);
    set(inputs[i], input.name);
  }
  nodes(model.graph());
  for (size_t i = 0; i < model.graph().outputs.size(); ++i)
    output(model.graph().outputs[i], model.spec().outputs[i]);
  for (onnx::TensorProto& tensor : initializers_) graph_.add_initializer()->Swap(&tensor);
  onnx::ModelProto out;
  out.set_ir_version(kIrVersion);
  out.set_producer_name("trireme");
  out.set_producer_version(TRIREME_VERSION);
  auto& opset = *out.add_opset_import();
  opset.set_domain("");
  opset.set_version(kOpset);
  graph_.set_name("inference");
  out.mutable_graph()->Swap(&graph_);
  return out;
}

void write_onnx(const ExportModel& model, const std::string& folder) {
  const onnx::ModelProto made = OnnxEmitter(model).run();
  // Protobuf's own limit; larger models would need their data in files beside.
  if (made.ByteSizeLong() > (size_t{1} << 31) - 1)
    fail(Code::kUnimplemented, "[export] an ONNX file cannot hold more than 2 GiB");
  FileWriter out((std::filesystem::path(folder) / "model.onnx").string());
  out.write(made.SerializeAsString());
  out.commit();
}

}  // namespace trireme
