// Reader of Paddle's legacy programs (.pdmodel): variables that are written again and again become
// values.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "formats/foreign.h"
#include "paddle_program.pb.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using paddle::BlockDesc;
using paddle::OpDesc;
using paddle::ProgramDesc;
using paddle::VarDesc;
using paddle::VarType;

bool is_noise(const std::string& attr) {
  static constexpr std::array kNames = {"op_callstack",      "op_device",        "op_namescope",
                                        "op_role",           "op_role_var",      "with_quant_attr",
                                        "use_cudnn",         "use_mkldnn",       "use_onednn",
                                        "mkldnn_data_type",  "onednn_data_type", "use_quantizer",
                                        "workspace_size_MB", "exhaustive_search"};
  return std::ranges::find(kNames, attr) != kNames.end();
}

ForeignAttr convert_scalars(const OpDesc::Attr& attr) {
  std::vector<double> numbers;
  for (const auto& scalar : attr.scalars()) {
    numbers.push_back(scalar.type() == paddle::Scalar::FLOAT64   ? scalar.r()
                      : scalar.type() == paddle::Scalar::BOOLEAN ? scalar.b()
                                                                 : static_cast<double>(scalar.i()));
  }
  return numbers;
}

ForeignAttr convert(const OpDesc::Attr& attr) {
  const auto list = [](const auto& from) { return std::vector<int64_t>(from.begin(), from.end()); };
  switch (attr.type()) {
    case OpDesc::INT: return int64_t{attr.i()};
    case OpDesc::FLOAT: return double{attr.f()};
    case OpDesc::STRING: return attr.s();
    case OpDesc::INTS: return list(attr.ints());
    case OpDesc::FLOATS: return std::vector<double>(attr.floats().begin(), attr.floats().end());
    case OpDesc::STRINGS:
      return std::vector<std::string>(attr.strings().begin(), attr.strings().end());
    case OpDesc::BOOLEAN: return attr.b();
    case OpDesc::BOOLEANS: return list(attr.bools());
    case OpDesc::LONG: return int64_t{attr.l()};
    case OpDesc::LONGS: return list(attr.longs());
    case OpDesc::FLOAT64S:
      return std::vector<double>(attr.float64s().begin(), attr.float64s().end());
    case OpDesc::FLOAT64: return attr.float64();
    case OpDesc::SCALAR:
      if (attr.scalar().type() == paddle::Scalar::BOOLEAN) return attr.scalar().b();
      if (attr.scalar().type() == paddle::Scalar::LONG) return int64_t{attr.scalar().i()};
      return attr.scalar().r();
    case OpDesc::SCALARS: return convert_scalars(attr);
    default: return std::monostate{};
  }
}

// The names that are visible in a block, and the value each holds now.
struct Scope {
  std::unordered_map<std::string, int> values;
  Scope* parent = nullptr;

  int find(const std::string& name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent) {
      if (const auto it = scope->values.find(name); it != scope->values.end()) return it->second;
    }
    return -1;
  }
};

class Reader {
 public:
  Reader(const ProgramDesc& desc, const std::string& file) : desc_(desc) { out_.file = file; }

  ForeignProgram read() {
    check(desc_.blocks_size() > 0, "the program has no block");
    used_blocks_.insert(0);
    find_loops();
    read_variables();
    Scope scope;
    for (const ForeignParameter& parameter : out_.parameters) {
      scope.values[parameter.name] = parameter.value;
    }
    read_ops(0, scope, out_.body.ops, 0);
    std::ranges::stable_sort(outputs_, {}, &std::pair<int64_t, ForeignOutput>::first);
    std::ranges::stable_sort(inputs_, {}, &std::pair<int64_t, ForeignInput>::first);
    for (auto& [column, output] : outputs_) out_.outputs.push_back(std::move(output));
    for (auto& [column, input] : inputs_) out_.inputs.push_back(std::move(input));
    check(!out_.outputs.empty(), "the program has no output: no 'fetch' operator");
    finish_program(out_);
    return std::move(out_);
  }

 private:
  // Everything here is checked against the file, whose name stands behind the message.
  void check(bool ok, const std::string& message, const std::string& where = {}) const {
    if (!ok) fail(Code::kInvalidArgument, message, where.empty() ? out_.file : where);
  }

  int new_value(const std::string& name) {
    out_.values.push_back(name);
    return static_cast<int>(out_.values.size()) - 1;
  }

  void read_variables() {
    for (const VarDesc& var : desc_.blocks(0).vars()) {
      if (!variables_.emplace(var.name(), &var).second) {
        check(false, "two variables named '" + var.name() + "'");
      }
      if (!var.persistable()) continue;
      const int64_t kind = var.type().type();
      if (kind == VarType::FEED_MINIBATCH || kind == VarType::FETCH_LIST ||
          kind == VarType::READER || kind == VarType::RAW) {
        continue;
      }
      const std::string what = "parameter '" + var.name() + "' of " + out_.file;
      check(kind == VarType::LOD_TENSOR,
            what + ": variable type " + std::to_string(kind) + " is not a tensor");
      ForeignParameter parameter;
      parameter.name = var.name();
      describe(var, what, parameter.dtype, parameter.shape);
      check(parameter.shape.known(), what + ": unknown dimensions " + parameter.shape.str());
      parameter.value = new_value(parameter.name);
      out_.parameters.push_back(std::move(parameter));
    }
  }

  static void describe(const VarDesc& var, const std::string& what, DType& dtype, Shape& shape,
                       bool lenient = false) {
    const auto& tensor = var.type().lod_tensor().tensor();
    dtype = dtype_from_paddle(tensor.has_data_type() ? tensor.data_type() : -1, what);
    std::vector<int64_t> dims(tensor.dims().begin(), tensor.dims().end());
    // Paddle's own inference leaves numbers like -6 in shapes of outputs; they are not relied upon.
    if (lenient)
      std::ranges::replace_if(
          dims, [](int64_t dim) { return dim < -1; }, -1);
    shape = checked_shape(dims, what);
  }

  std::string place_of(int block, int index, const OpDesc& desc) const {
    std::string place = "op " + std::to_string(index);
    if (block != 0) place += " of block " + std::to_string(block);
    place += " '" + desc.type() + "'";
    for (const auto& slot : desc.outputs()) {
      if (slot.arguments_size() == 0) continue;
      place += " (output " + slot.arguments(0) + ")";
      break;
    }
    return place + " in " + out_.file;
  }

  void read_ops(int block, Scope& scope, std::vector<ForeignOp>& ops, int depth) {
    const BlockDesc& desc = desc_.blocks(block);
    for (int i = 0; i < desc.ops_size(); ++i) {
      const OpDesc& op = desc.ops(i);
      const std::string place = place_of(block, i, op);
      if (op.type() != "conditional_block") {
        read_op(op, place, scope, ops, depth);
        if (op.type() == "logical_not") note_negation(ops.back());
        continue;
      }
      const int other = other_branch(block, i, scope);
      for (int k = i + 1; k < other; ++k)
        read_op(desc.ops(k), place_of(block, k, desc.ops(k)), scope, ops, depth);
      if (other < 0) {
        read_conditional({&op, nullptr}, {}, place, scope, ops, depth);
        continue;
      }
      const OpDesc& no = desc.ops(other);
      read_conditional({&op, &no}, pairs_of(block, i, other), place, scope, ops, depth);
      i = other;
    }
  }

  void read_op(const OpDesc& desc, std::string place, Scope& scope, std::vector<ForeignOp>& ops,
               int depth) {
    const std::string& type = desc.type();
    if (type == "feed") return read_feed(desc, place, scope);
    if (type == "fetch") return read_fetch(desc, place, scope);
    if (type == "while") return read_while(desc, place, scope, ops, depth);
    ForeignOp op;
    op.type = type;
    op.where = std::move(place);
    for (const auto& slot : desc.inputs()) {
      if (slot.arguments_size() == 0) continue;
      ForeignSlot& in = op.inputs.emplace_back(ForeignSlot{slot.parameter(), {}});
      for (const std::string& name : slot.arguments())
        in.values.push_back(lookup(name, scope, op.where));
    }
    for (const auto& attr : desc.attrs()) {
      if (is_noise(attr.name())) continue;
      check(attr.type() != OpDesc::BLOCK || type == "while", "[" + type + "] holds a block",
            op.where);
      op.attrs.emplace_back(attr.name(), convert(attr));
    }
    for (const auto& slot : desc.outputs()) {
      if (slot.arguments_size() == 0) continue;
      ForeignSlot& out = op.outputs.emplace_back(ForeignSlot{slot.parameter(), {}});
      for (const std::string& name : slot.arguments()) {
        out.values.push_back(scope.values[name] = new_value(name));
      }
    }
    ops.push_back(std::move(op));
  }

  int lookup(const std::string& name, const Scope& scope, const std::string& place) const {
    const int value = scope.find(name);
    if (value < 0) {
      check(false, "variable '" + name + "' is used before an operator writes it", place);
    }
    return value;
  }

  static const OpDesc::Var* slot_of(const google::protobuf::RepeatedPtrField<OpDesc::Var>& slots,
                                    std::string_view name) {
    for (const auto& slot : slots) {
      if (slot.parameter() == name) return &slot;
    }
    return nullptr;
  }

  static int64_t column_of(const OpDesc& desc) {
    for (const auto& attr : desc.attrs()) {
      if (attr.name() == "col") return attr.i();
    }
    return 0;
  }

  void read_feed(const OpDesc& desc, const std::string& place, Scope& scope) {
    const auto* slot = slot_of(desc.outputs(), "Out");
    check(slot != nullptr && slot->arguments_size() == 1, "'feed' has no output", place);
    const std::string& name = slot->arguments(0);
    const auto var = variables_.find(name);
    check(var != variables_.end(), "input '" + name + "' is not declared", place);
    ForeignInput input;
    input.name = name;
    describe(*var->second, "input '" + name + "' of " + out_.file, input.dtype, input.shape);
    input.value = scope.values[name] = new_value(name);
    inputs_.emplace_back(column_of(desc), std::move(input));
  }

  void read_fetch(const OpDesc& desc, const std::string& place, const Scope& scope) {
    const auto* slot = slot_of(desc.inputs(), "X");
    check(slot != nullptr && slot->arguments_size() == 1, "'fetch' has no input", place);
    ForeignOutput output;
    output.name = slot->arguments(0);
    output.value = lookup(output.name, scope, place);
    if (const auto var = variables_.find(output.name); var != variables_.end()) {
      describe(*var->second, "output '" + output.name + "' of " + out_.file, output.dtype,
               output.shape, true);
    }
    outputs_.emplace_back(column_of(desc), std::move(output));
  }

  // ---- control flow ----

  int sub_block(const OpDesc& desc, const std::string& place, int depth) {
    for (const auto& attr : desc.attrs()) {
      if (attr.name() != "sub_block") continue;
      const int block = attr.block_idx();
      check(block > 0 && block < desc_.blocks_size(),
            "block " + std::to_string(block) + " is out of range, there are " +
                std::to_string(desc_.blocks_size()),
            place);
      check(used_blocks_.insert(block).second,
            "block " + std::to_string(block) + " is used twice or inside itself", place);
      check(depth < kMaxBlockDepth, "blocks are nested too deeply", place);
      return block;
    }
    check(false, "the operator has no sub_block", place);
    return 0;
  }

  // Names that a block or a block inside it writes, in order.
  void written_names(int block, std::vector<std::string>& names,
                     std::unordered_set<std::string>& seen, int depth) const {
    if (depth > kMaxBlockDepth) return;
    for (const OpDesc& op : desc_.blocks(block).ops()) {
      for (const auto& slot : op.outputs()) {
        for (const std::string& name : slot.arguments()) {
          if (seen.insert(name).second) names.push_back(name);
        }
      }
      for (const auto& attr : op.attrs()) {
        const int inner = attr.block_idx();
        if (attr.name() == "sub_block" && inner > block && inner < desc_.blocks_size()) {
          written_names(inner, names, seen, depth + 1);
        }
      }
    }
  }

  // A loop's variables are what its block writes and the blocks around it already hold.
  void read_while(const OpDesc& desc, const std::string& place, Scope& scope,
                  std::vector<ForeignOp>& ops, int depth) {
    const auto* slot = slot_of(desc.inputs(), "Condition");
    check(slot != nullptr && slot->arguments_size() == 1, "'while' has no condition", place);
    const std::string condition = slot->arguments(0);
    const int block = sub_block(desc, place, depth);
    std::vector<std::string> names;
    std::unordered_set<std::string> seen;
    written_names(block, names, seen, depth);
    std::erase_if(names, [&](const std::string& name) { return scope.find(name) < 0; });
    check(std::ranges::find(names, condition) != names.end(),
          "the loop never writes its condition '" + condition + "'", place);
    ForeignOp op;
    op.type = "while";
    op.where = place;
    op.inputs.push_back({"Condition", {lookup(condition, scope, place)}});
    ForeignSlot& in = op.inputs.emplace_back(ForeignSlot{"X", {}});
    ForeignBlock& body = op.blocks.emplace_back();
    Scope inner;
    inner.parent = &scope;
    for (const std::string& name : names) {
      in.values.push_back(lookup(name, scope, place));
      body.arguments.push_back(inner.values[name] = new_value(name));
    }
    read_ops(block, inner, body.ops, depth + 1);
    body.results.push_back(inner.find(condition));
    ForeignSlot& out = op.outputs.emplace_back(ForeignSlot{"Out", {}});
    for (const std::string& name : names) {
      body.results.push_back(inner.find(name));
      out.values.push_back(scope.values[name] = new_value(name));
    }
    ops.push_back(std::move(op));
  }

  // ---- conditional blocks: one, or two with opposite conditions, become one operator that runs
  // the block that is taken

  static std::string argument(const google::protobuf::RepeatedPtrField<OpDesc::Var>& slots,
                              std::string_view name) {
    const auto* slot = slot_of(slots, name);
    return slot != nullptr && slot->arguments_size() == 1 ? slot->arguments(0) : std::string();
  }

  void note_negation(const ForeignOp& op) {
    if (op.inputs.size() == 1 && op.outputs.size() == 1)
      negations_[op.outputs[0].values[0]] = op.inputs[0].values[0];
  }

  int block_of(const OpDesc& op) const {
    for (const auto& attr : op.attrs()) {
      const int inner = attr.block_idx();
      if (attr.name() == "sub_block") return inner > 0 && inner < desc_.blocks_size() ? inner : -1;
    }
    return -1;
  }

  // For each block whether a loop is in it, or in those that it holds.
  void find_loops() {
    loops_.assign(static_cast<size_t>(desc_.blocks_size()), false);
    for (int block = desc_.blocks_size() - 1; block >= 0; --block)
      loops_[static_cast<size_t>(block)] =
          std::ranges::any_of(desc_.blocks(block).ops(), [&](const OpDesc& op) {
            const int inner = block_of(op);
            return op.type() == "while" || (inner > block && loops_[static_cast<size_t>(inner)]);
          });
  }

  bool has_loop(const OpDesc& op) const {
    const int block = block_of(op);
    return block > 0 && loops_[static_cast<size_t>(block)];
  }

  // The conditional_block with the opposite condition that follows the one at `first`; -1: none.
  // Between them only the condition is turned and cast.
  int other_branch(int block, int first, const Scope& scope) const {
    const BlockDesc& desc = desc_.blocks(block);
    const std::string condition = argument(desc.ops(first).inputs(), "Cond");
    std::unordered_set<std::string> opposites, written;  // between the two
    for (int i = first + 1; i < desc.ops_size(); ++i) {
      const OpDesc& op = desc.ops(i);
      const std::string& type = op.type();
      if (type == "logical_not" || type == "cast") {
        written.insert(argument(op.outputs(), "Out"));
        if (type == "logical_not" && argument(op.inputs(), "X") == condition)
          opposites.insert(argument(op.outputs(), "Out"));
        continue;
      }
      if (type != "conditional_block" || written.contains(condition)) return -1;
      const std::string other = argument(op.inputs(), "Cond");
      const auto before = negations_.find(scope.find(other));
      const bool opposite =
          opposites.contains(other) || (!written.contains(other) && before != negations_.end() &&
                                        before->second == scope.find(condition));
      return opposite ? i : -1;
    }
    return -1;
  }

  // Results of both branches that a select_input chooses from: the first one's, the other's.
  std::vector<std::pair<std::string, std::string>> pairs_of(int block, int first, int other) const {
    const auto outputs = [&](int i) {
      const auto* slot = slot_of(desc_.blocks(block).ops(i).outputs(), "Out");
      std::unordered_set<std::string> names;
      if (slot != nullptr) names.insert(slot->arguments().begin(), slot->arguments().end());
      return names;
    };
    const auto yes = outputs(first), no = outputs(other);
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const OpDesc& op : desc_.blocks(block).ops()) {
      const auto* x = op.type() == "select_input" ? slot_of(op.inputs(), "X") : nullptr;
      if (x == nullptr || x->arguments_size() != 2) continue;
      if (no.contains(x->arguments(0)) && yes.contains(x->arguments(1)))
        pairs.emplace_back(x->arguments(1), x->arguments(0));
    }
    return pairs;
  }

  // A variable that conditional blocks write, under the names that it has in either, and its values
  // behind them; -1: it has none there, and nobody may read it.
  struct Result {
    std::string yes, no;
    int values[2];
  };
  using Branches = std::array<const OpDesc*, 2>;  // the second may be null

  static std::vector<Result> results_of(
      const Branches& branches, const std::vector<std::pair<std::string, std::string>>& pairs,
      const Scope& scope, const std::array<Scope, 2>& inner) {
    std::vector<Result> results;
    std::unordered_set<std::string> seen;
    const auto value_of = [&](int side, const std::string& name) {
      const auto it = inner[static_cast<size_t>(side)].values.find(name);
      return it == inner[static_cast<size_t>(side)].values.end() ? scope.find(name) : it->second;
    };
    for (const auto& [yes, no] : pairs) {
      results.push_back({yes, no, {value_of(0, yes), value_of(1, no)}});
      seen.insert({yes, no});
    }
    for (const OpDesc* op : branches) {
      const auto* slot = op != nullptr ? slot_of(op->outputs(), "Out") : nullptr;
      if (slot == nullptr) continue;
      for (const std::string& name : slot->arguments()) {
        const bool written = inner[0].values.contains(name) || inner[1].values.contains(name);
        if (written && seen.insert(name).second)
          results.push_back({name, name, {value_of(0, name), value_of(1, name)}});
      }
    }
    return results;
  }

  void read_conditional(const Branches& branches,
                        const std::vector<std::pair<std::string, std::string>>& pairs,
                        const std::string& place, Scope& scope, std::vector<ForeignOp>& ops,
                        int depth) {
    const std::string name = argument(branches[0]->inputs(), "Cond");
    check(!name.empty(), "'conditional_block' has no condition", place);
    ForeignOp op;
    op.type = "conditional_block";
    op.where = place;
    op.inputs.push_back({"Cond", {lookup(name, scope, place)}});
    op.blocks.resize(2);
    std::array<Scope, 2> inner;
    bool loops = false;
    for (size_t side = 0; side < 2; ++side) {
      inner[side].parent = &scope;
      if (branches[side] == nullptr) continue;
      read_ops(sub_block(*branches[side], place, depth), inner[side], op.blocks[side].ops,
               depth + 1);
      loops = loops || has_loop(*branches[side]);
    }
    std::vector<Result> results = results_of(branches, pairs, scope, inner);
    const auto half = [](const Result& r) { return r.values[0] < 0 || r.values[1] < 0; };
    if (loops) std::erase_if(results, half);
    else if (std::ranges::any_of(results, half))
      return run_both(std::move(op), results, scope, ops);
    if (results.empty()) return;
    ForeignSlot out{"Out", {}};
    for (const Result& r : results) {
      op.blocks[0].results.push_back(r.values[0]);
      op.blocks[1].results.push_back(r.values[1]);
      out.values.push_back(new_value(r.yes));
      // a select_input finds one value twice
      scope.values[r.yes] = scope.values[r.no] = out.values.back();
    }
    op.outputs.push_back(std::move(out));
    ops.push_back(std::move(op));
  }

  // What only one of the branches gives has no value when the other is taken. Operators have no
  // side effects: both run, and a select_input chooses.
  void run_both(ForeignOp&& both, const std::vector<Result>& results, Scope& scope,
                std::vector<ForeignOp>& ops) {
    for (ForeignBlock& block : both.blocks) std::ranges::move(block.ops, std::back_inserter(ops));
    for (const Result& r : results) {
      int value = std::max(r.values[0], r.values[1]);
      if (std::min(r.values[0], r.values[1]) >= 0) {
        ForeignOp op;
        op.type = "where";
        op.where = both.where;
        op.inputs = {both.inputs[0], {"X", {r.values[0]}}, {"Y", {r.values[1]}}};
        op.inputs[0].name = "Condition";
        value = new_value(r.yes);
        op.outputs = {{"Out", {value}}};
        ops.push_back(std::move(op));
      }
      scope.values[r.yes] = scope.values[r.no] = value;
    }
  }

  const ProgramDesc& desc_;
  ForeignProgram out_;
  std::unordered_map<std::string, const VarDesc*> variables_;
  std::unordered_set<int> used_blocks_;
  std::vector<bool> loops_;
  std::unordered_map<int, int> negations_;  // values that are another one's not
  std::vector<std::pair<int64_t, ForeignInput>> inputs_;
  std::vector<std::pair<int64_t, ForeignOutput>> outputs_;
};

}  // namespace

ForeignProgram read_legacy_program(std::string_view bytes, const std::string& file) {
  TRI_CHECK(bytes.size() < (size_t{1} << 30), file + ": over 1 GiB");
  ProgramDesc desc;
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  const bool parsed = desc.ParseFromCodedStream(&in) && in.ConsumedEntireMessage();
  if (!parsed || in.CurrentPosition() != static_cast<int>(bytes.size())) {
    fail(Code::kInvalidArgument, "not a whole ProgramDesc message: damaged or another format",
         file + ", byte " + std::to_string(in.CurrentPosition()));
  }
  const auto& unknown = desc.GetReflection()->GetUnknownFields(desc);
  if (unknown.field_count() > 0) {
    fail(Code::kInvalidArgument,
         "the program holds an unknown field " + std::to_string(unknown.field(0).number()) +
             ": bytes behind its end, or another format",
         file);
  }
  return Reader(desc, file).read();
}

}  // namespace trireme
