// ExportModel: an inference program to be written, as two recordings that differ in the sizes of
// the unknown dimensions of its inputs. What differs between them tells where these sizes enter.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "formats/program.h"
#include "graph/graph.h"

namespace trireme {

// One dimension as it is in both recordings; equal when it is known.
struct Dim {
  int64_t first = 0, second = 0;
  bool known() const { return first == second; }
  friend bool operator==(const Dim&, const Dim&) = default;
};
using Dims = std::vector<Dim>;

struct ExportSpec {
  struct Input {
    std::string name;
    DType dtype = DType::kFloat32;
    Shape shape;  // may hold Shape::kUnknown
  };
  std::vector<Input> inputs;
  std::vector<std::string> outputs;  // their names
  bool merge_norms = false;          // merge_batch_norms()
};

// A batch norm with constant statistics behind a convolution goes into its weights and bias, which
// keep the convolution's names.
void merge_batch_norms(Graph& graph);

class ExportModel {
 public:
  // Records the program, in plain layout and before any pass, for inputs of these concrete shapes;
  // its parameters are constants that carry their names. The current Builder is a graph with those
  // inputs; returns the outputs.
  using Record = std::function<std::vector<Value*>(const std::vector<Value*>& inputs)>;

  // Throws what `record` throws, and kUnimplemented where the two recordings differ in more than
  // sizes.
  ExportModel(ExportSpec spec, const Record& record);

  const ExportSpec& spec() const { return spec_; }
  const Graph& graph() const { return *first_; }
  // The node (value) of the second recording.
  const Node& twin(const Node& node) const { return *nodes_.at(&node); }
  const Value* twin(const Value* value) const {
    return twin(*value->node).out(static_cast<size_t>(value->index));
  }

  Dims dims(const Value* value) const;
  // Both recordings' lists, which must be of one length; throws naming the node and `what`.
  Dims pair(const Node& node, const std::vector<int64_t>& a, const std::vector<int64_t>& b,
            const char* what) const;

 private:
  std::unique_ptr<Graph> record_with(const Record& record, bool second) const;
  void pair_graphs(const Graph& a, const Graph& b);

  ExportSpec spec_;
  std::unique_ptr<Graph> first_, second_;
  std::unordered_map<const Node*, const Node*> nodes_;  // those of graphs in nodes, too
};

[[noreturn]] void refuse_export(const Node& node, const std::string& why);

// The graphs that a node of control flow holds; none: any other node.
std::vector<const Graph*> graphs_of(const Node& node);

// Throws kUnimplemented with the names of all operators, in graphs of nodes too, for which `known`
// says no.
void check_operators(const ExportModel& model, const std::function<bool(const Op*)>& known);

// What a constant is for a writer. Throws when it depends on the size of the inputs by more than
// its shape.
struct ConstantForm {
  bool parameter = false;  // a named array, to be kept as one
  bool uniform = false;    // every element is `number`
  bool sized = false;      // and its shape depends on the size of the inputs
  double number = 0;
};
ConstantForm constant_form(const ExportModel& model, const Value* value);

// The numbers of a reshape: 0 keeps a dimension, -1 follows from the others. More than one -1: they
// must be computed when the program runs.
std::vector<int64_t> reshape_numbers(const Dims& from, const Dims& to, bool& computed);
// Of an expand: -1 keeps a dimension.
std::vector<int64_t> expand_numbers(const Dims& from, const Dims& to, bool& computed);

// The bounds of a slice node as every format has them: where they follow the size of the inputs,
// they count from the end.
void slice_bounds(const ExportModel& model, const Node& node, std::vector<int64_t>& starts,
                  std::vector<int64_t>& ends);

// The model of a program that was read; `shapes` (optional, one an input) replace what it declares.
ExportModel export_of(const Program& program, const std::vector<Shape>& shapes = {});

// The factors of a resize node, where its size follows from the input's by them; empty: the size
// is fixed.
std::vector<double> resize_factors(const ExportModel& model, const Node& node);

enum class ExportFormat { kPdmodel, kPir, kOnnx };

// Writes folder/inference.pdmodel or inference.json with inference.pdiparams, or model.onnx; makes
// the folder. Throws kUnimplemented for an operator or a form that the format cannot express, with
// its name.
void write_model(const ExportModel& model, ExportFormat format, const std::string& folder);

// ---- the writers

void write_pdmodel(const ExportModel& model, const std::string& folder);
void write_pir(const ExportModel& model, const std::string& folder);
void write_onnx(const ExportModel& model, const std::string& folder);

}  // namespace trireme
