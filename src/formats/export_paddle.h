// PaddleEmitter: what the translation of an operator into Paddle's formats sees.
#pragma once

#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "formats/paddle_sink.h"

namespace trireme {

class PaddleEmitter {
 public:
  PaddleEmitter(PaddleSink& to, const ExportModel& of) : sink(to), model(of) {}
  void run();

  // ---- values
  OutId get(const Value* value);  // a constant is written at its first use; null gives 0
  void set(const Value* value, OutId id);
  OutType type_of(const Value* value) const {
    return type_of(value->type.dtype, model.dims(value));
  }
  static OutType type_of(DType dtype, const Dims& dims);

  // ---- operators
  // Names "legacy" or "legacy|pir".
  OutId op(std::string_view names, std::vector<OutSlot> inputs, std::string_view result,
           const OutType& type, std::vector<OutAttr> attrs = {});
  OutId unary(std::string_view names, OutId x, std::vector<OutAttr> attrs = {});
  OutId binary(std::string_view names, OutId x, OutId y, const OutType& type);
  OutId cast(OutId x, DType dtype);
  OutId reshape(const Node& node, OutId x, const Dims& from, const Dims& to);
  OutId expand(const Node& node, OutId x, const Dims& from, const Dims& to);
  OutId transpose(OutId x, const std::vector<int32_t>& perm);
  // Input i of the node broadcast to its result.
  OutId broadcast(const Node& node, size_t i);
  // Both recordings must agree about the attributes of the node.
  void same_attrs(const Node& node) const;
  // A block of the program: the graph, whose inputs are these values; its outputs.
  std::vector<OutId> block(const Graph& graph, const std::vector<OutId>& inputs);

  PaddleSink& sink;
  const ExportModel& model;

 private:
  OutId constant(const Value* value);
  OutId parameter(const std::string& wish, const Array& array);
  void nodes(const Graph& graph);
  // A dimension that is known only when the program runs: some value written so far has it.
  OutId dimension(const Node& node, const Dim& dim);
  std::vector<OutId> runtime_shape(const Node& node, const Dims& dims);
  std::string fresh_name(const std::string& wish);

  std::unordered_map<const Value*, OutId> ids_;
  std::vector<std::pair<Dims, OutId>> written_;
  std::unordered_set<std::string> names_;
  std::map<std::pair<std::string, const void*>, OutId> parameters_;  // several blocks may use one
};

struct PaddleExport {
  const Op* op;
  void (*run)(PaddleEmitter&, const Node&);
};

// The tables, one a file. Pointwise operators of one and two inputs have one of their own.
std::span<const PaddleExport> paddle_math_exports();
std::span<const PaddleExport> paddle_nn_exports();
std::span<const PaddleExport> paddle_shape_exports();
std::span<const PaddleExport> paddle_control_exports();

template <class To, class From> std::vector<To> list_as(const From& from) {
  std::vector<To> to;
  for (const auto x : from) to.push_back(static_cast<To>(x));
  return to;
}

}  // namespace trireme
