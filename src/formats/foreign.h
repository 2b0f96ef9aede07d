// ForeignProgram: a program of one of Paddle's formats in memory, before it is recorded: values
// numbered, each defined once, operators and slots under the legacy format's names whatever the
// file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "trireme/types.h"

namespace trireme {

// Numbers keep the kind that the file gave them; Context converts to what an operator wants.
using ForeignAttr =
    std::variant<std::monostate, bool, int64_t, double, std::string, std::vector<int64_t>,
                 std::vector<double>, std::vector<std::string>>;

struct ForeignSlot {
  std::string name;
  std::vector<int> values;  // never empty: absent slots are left out; -1: an absent element
};

struct ForeignBlock;

struct ForeignOp {
  std::string type;
  std::string where;  // "op 17 'conv2d' (output conv2d_450.tmp_0) in inference.pdmodel"
  std::vector<ForeignSlot> inputs, outputs;
  std::vector<std::pair<std::string, ForeignAttr>> attrs;
  std::vector<ForeignBlock> blocks;  // "if": then, else; "while": the body
};

// A sequence of operators. It may use any value of the blocks around it.
struct ForeignBlock {
  std::vector<int> arguments;  // the loop's variables
  std::vector<int> results;    // what its yield hands back
  std::vector<ForeignOp> ops;
};

struct ForeignInput {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  int value = -1;
};

struct ForeignOutput {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;  // as declared; may be wrong or empty in old files
  int value = -1;
};

struct ForeignParameter {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  int value = -1;
};

struct ForeignProgram {
  std::string file;                 // for messages
  std::vector<std::string> values;  // names, may be empty; the index is the value's number
  std::vector<ForeignInput> inputs;
  std::vector<ForeignOutput> outputs;
  std::vector<ForeignParameter> parameters;  // sorted by name, the order of the parameters' file
  ForeignBlock body;
};

// The readers. `file` is only for messages. They throw kInvalidArgument for damage, with the place,
// and leave out operators that no output needs.
ForeignProgram read_legacy_program(std::string_view bytes, const std::string& file);
ForeignProgram read_pir_program(std::string_view bytes, const std::string& file);

// ---- for the readers ----

constexpr int kMaxBlockDepth = 32;

// Paddle's number of an element type; throws kUnimplemented for those the engine has not, naming
// `what`.
DType dtype_from_paddle(int64_t number, const std::string& what);
int paddle_dtype(DType dtype);  // the other way

// Dimensions as a file gives them, checked: rank, -1 or non-negative, a product that fits.
Shape checked_shape(const std::vector<int64_t>& dims, const std::string& what);

// Removes operators of the outermost block whose results nobody uses; sorts parameters by name.
void finish_program(ForeignProgram& program);

// Numbers that a block uses and does not define, in the order of first use.
std::vector<int> free_values(const ForeignBlock& block);

}  // namespace trireme
