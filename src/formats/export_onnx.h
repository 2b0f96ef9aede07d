// OnnxEmitter: what the translation of an operator into ONNX (opset 17) sees.
#pragma once

#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "formats/export_model.h"
#include "onnx_model.pb.h"

namespace trireme {

// Values are named; the empty name is an absent input.
class OnnxEmitter {
 public:
  using Attr =
      std::pair<const char*,
                std::variant<int64_t, float, std::string, std::vector<int64_t>, onnx::GraphProto>>;
  using Attrs = std::vector<Attr>;
  using Name = std::string;

  explicit OnnxEmitter(const ExportModel& of) : model(of) {}
  onnx::ModelProto run();

  // ---- values
  Name get(const Value* value);  // a constant is written at its first use; null gives ""
  Name in(const Node& node, size_t i) {
    return i < node.inputs.size() ? get(node.inputs[i]) : Name();
  }
  void set(const Value* value, Name name);
  Name initializer(const Array& array, const std::string& wish = "constant");
  Name ints(const std::vector<int64_t>& values);                // a list
  Name number(double value, DType dtype);                       // of rank 0
  Name filled(const std::vector<int64_t>& shape, float value);  // float32

  // ---- operators
  Name op(const char* type, std::vector<Name> inputs, const Attrs& attrs = {});
  std::vector<Name> ops(const char* type, std::vector<Name> inputs, size_t outputs,
                        const Attrs& attrs);
  Name cast(const Name& x, DType from, DType to);
  Name reshape(const Node& node, const Name& x, const Dims& from, const Dims& to);
  Name expand(const Node& node, const Name& x, const Dims& from, const Dims& to);
  Name shape_of(const Node& node, const Dims& dims);  // a list, computed where it must be
  void same_attrs(const Node& node) const;

  // ---- control flow
  // The graph as an attribute: its first inputs are inputs of the written graph, behind `before` of
  // these names and types; the others are the values with the names `captured`, from around it.
  struct Before {
    const char* wish;
    DType dtype;
  };
  onnx::GraphProto block(const Graph& graph, const std::vector<Before>& before, size_t arguments,
                         const std::vector<Name>& captured);

  const ExportModel& model;

 private:
  Name fresh(const std::string& wish);
  void declare(onnx::ValueInfoProto& to, const std::string& name, DType dtype, const Dims& dims,
               const Shape* declared) const;
  Name kept(const Array& array, const std::string& wish);
  void nodes(const Graph& graph);
  void output(const Value* value, const Name& name);

  onnx::GraphProto graph_;                       // the one being written
  std::vector<onnx::TensorProto> initializers_;  // of the outermost graph, whoever uses them
  std::map<std::pair<std::string, const void*>, Name> kept_;
  std::unordered_map<const Value*, Name> names_;
  std::vector<std::pair<Dims, Name>> written_;
  std::unordered_set<std::string> used_;
  std::map<std::vector<int64_t>, Name> lists_;
};

struct OnnxExport {
  const Op* op;
  void (*run)(OnnxEmitter&, const Node&);
};

std::span<const OnnxExport> onnx_math_exports();
std::span<const OnnxExport> onnx_nn_exports();
std::span<const OnnxExport> onnx_shape_exports();
std::span<const OnnxExport> onnx_control_exports();

int onnx_dtype(DType dtype);

}  // namespace trireme
