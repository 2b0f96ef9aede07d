// Context: what the translation of one foreign operator sees, and the tables of translations.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/foreign.h"
#include "graph/graph.h"

namespace trireme {

class ProgramRecording;

using Names = std::initializer_list<std::string_view>;

// Inputs and attributes by the legacy format's names. An attribute is converted to the kind that is
// asked for, since versions of the format disagree about it; where an input of the attribute's name
// (or of one of `slots`) is there, it wins, and must be known while recording.
class Context {
 public:
  Context(ProgramRecording& recording, const ForeignOp& op) : recording_(recording), op_(op) {}

  // ---- inputs
  bool has(std::string_view slot) const;
  Value* in(std::string_view slot) const;     // throws when absent
  Value* maybe(std::string_view slot) const;  // null when absent
  std::vector<Value*> all(
      std::string_view slot) const;  // of a variadic slot; null for absent elements

  // ---- attributes
  bool known(std::string_view name, Names slots = {}) const;  // is there as input or attribute
  bool flag(std::string_view name, bool otherwise) const;
  int64_t integer(std::string_view name, int64_t otherwise, Names slots = {}) const;
  double number(std::string_view name, double otherwise, Names slots = {}) const;
  std::string text(std::string_view name, std::string otherwise) const;
  std::vector<int64_t> ints(std::string_view name, Names slots = {}) const;    // empty when absent
  std::vector<double> numbers(std::string_view name, Names slots = {}) const;  // empty when absent
  DType dtype(std::string_view name, DType otherwise) const;  // otherwise: also for "undefined"

  // ---- results
  void out(Value* value) const { out(std::vector<Value*>{value}); }  // the operator's first output
  void out(const std::vector<Value*>& values) const;    // the elements of its first output
  void out(std::string_view slot, Value* value) const;  // nothing when the slot is absent
  void out(std::string_view slot, const std::vector<Value*>& values) const;
  size_t count_out(std::string_view slot) const;

  const ForeignOp& op() const { return op_; }
  ProgramRecording& recording() const { return recording_; }
  [[noreturn]] void refuse(const std::string& why) const;   // kUnimplemented, with the attributes
  [[noreturn]] void damaged(const std::string& why) const;  // kInvalidArgument

 private:
  const ForeignSlot* slot(std::string_view name) const;
  const ForeignAttr* attr(std::string_view name) const;
  std::optional<std::vector<double>> from_inputs(std::string_view name, Names slots) const;

  ProgramRecording& recording_;
  const ForeignOp& op_;
};

// One program being recorded through the current Builder: what each of its values is there.
class ProgramRecording {
 public:
  ProgramRecording(const ForeignProgram& program, std::span<const Array> parameters);

  Value* get(int id,
             const ForeignOp* user = nullptr);  // a parameter becomes a constant at its first use
  void set(int id, Value* value);
  bool is_parameter(int id) const { return parameter_of_[static_cast<size_t>(id)] >= 0; }
  void run(const ForeignBlock& block);

  // Numbers from around these blocks that a graph of their own must take as inputs: used there, and
  // no constants here.
  std::vector<int> captured(std::span<const ForeignBlock> blocks);
  // The block as a graph: inputs are the block's arguments, of these types, then the captured
  // values.
  std::shared_ptr<Graph> record_block(const ForeignBlock& block, const std::vector<Type>& arguments,
                                      const std::vector<int>& captured);

 private:
  const ForeignProgram& program_;
  std::span<const Array> parameters_;
  std::vector<int> parameter_of_;
  std::vector<Value*> values_;
};

struct Translation {
  std::string_view op;
  void (*run)(Context&);
};

// The translation of an operator, by its legacy name (or PIR's, of those that only PIR has); null
// when there is none.
const Translation* find_translation(std::string_view op);

// The tables, one for each family's file.
std::span<const Translation> math_translations();
std::span<const Translation> reduce_translations();
std::span<const Translation> nn_translations();
std::span<const Translation> pool_translations();
std::span<const Translation> shape_translations();
std::span<const Translation> create_translations();
std::span<const Translation> index_translations();
std::span<const Translation> control_translations();

// ---- shared by translations ----

// Numbers of a constant tensor, of any element type.
std::vector<double> numbers_of(const Array& tensor);
// A rank-0 constant of the type of x, so that arithmetic with it keeps x's type.
Value* scalar_like(const Value* x, double value);
// -1 is the last of `rank`; throws when out of range.
int64_t normal_axis(const Context& c, int64_t axis, int64_t rank);
std::vector<int64_t> dims_of(const Value* x);

}  // namespace trireme
