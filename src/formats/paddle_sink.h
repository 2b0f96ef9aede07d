// PaddleSink: what a writer of one of Paddle's formats is told, operator by operator, under both
// formats' names. The table of operators is in export_paddle*.cpp.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "formats/export_model.h"

namespace trireme {

using OutId = int;  // a value of the program being written; 0: absent

struct OutType {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> dims;  // -1: unknown
};

// The alternatives are PIR's kinds. A DType is an enumeration in both formats.
using OutNumber =
    std::variant<bool, int32_t, int64_t, float, double, std::string, std::vector<int32_t>,
                 std::vector<int64_t>, std::vector<double>, DType>;

// An attribute under the legacy name. With a slot, PIR takes it as an input there: a list becomes
// full_int_array, a number `full` of `dtype` and shape [1].
struct OutAttr {
  std::string name;
  OutNumber value;
  std::string slot = {};
  DType dtype = DType::kInt32;
};

struct OutSlot {
  std::string name;  // the legacy name
  std::vector<OutId> values;
  bool list = false;  // a list of values even when it has one
};

struct OutResult {
  std::string name;
  std::vector<OutType> types;
  bool list = false;
};

struct OutOp {
  std::string legacy, pir;
  std::vector<OutSlot> inputs;
  std::vector<OutResult> results;
  std::vector<OutAttr> attrs;
  // A shape that is known only when the program runs, in place of an attribute: one [1] (legacy) or
  // rank-0 (PIR) integer each, for these slots.
  std::vector<OutId> shape;
  std::string legacy_shape_slot, pir_shape_slot;
};

class PaddleSink {
 public:
  virtual ~PaddleSink() = default;
  virtual OutId input(const std::string& name, const OutType& type) = 0;
  // The output is a value of its own, under that name where the format keeps it.
  virtual void output(const std::string& name, OutId value) = 0;
  virtual OutId parameter(const std::string& name, const Array& array) = 0;
  virtual OutId full(const std::vector<int64_t>& shape, double value, DType dtype) = 0;
  // All results, of lists too, in order.
  virtual std::vector<OutId> op(OutOp op) = 0;
  // A dimension of a value as OutOp::shape wants it, and a number as the same.
  virtual OutId dimension(OutId of, int axis) = 0;
  virtual OutId number(int64_t value) = 0;

  // Control flow. `body` writes a block, which may use every value from before it, and gives the
  // block's results; values that are made in it are not to be used behind it.
  using Body = std::function<std::vector<OutId>()>;
  virtual std::vector<OutId> branch(OutId condition, const Body& yes, const Body& no,
                                    const std::vector<OutType>& results) = 0;
  // The body gets the variables as they are in its round and gives the condition, then the
  // variables.
  using LoopBody = std::function<std::vector<OutId>(const std::vector<OutId>& variables)>;
  virtual std::vector<OutId> loop(OutId condition, const std::vector<OutId>& variables,
                                  const LoopBody& body) = 0;

  const OutType& type(OutId id) const { return types_[static_cast<size_t>(id)]; }

 protected:
  OutId add(const OutType& type) {
    types_.push_back(type);
    return static_cast<OutId>(types_.size()) - 1;
  }
  std::vector<OutType> types_{OutType{}};
};

// Tells the sink the whole program.
void export_to(PaddleSink& sink, const ExportModel& model);

}  // namespace trireme
