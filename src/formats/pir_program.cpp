// Reader of Paddle 3's programs (PIR, inference.json).
#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "formats/foreign.h"
#include "formats/pir_json.h"
#include "formats/pir_names.h"
#include "trireme/error.h"

namespace trireme {
namespace {

bool is_noise(const std::string& attr) {
  static constexpr std::array kNames = {"struct_name", "stop_gradient", "op_role",
                                        "place",       "op_dist_attr",  "op_callstack",
                                        "infer_flags", "persistable"};
  return std::ranges::find(kNames, attr) != kNames.end();
}

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0) out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

class Reader : private PirJson {
 public:
  Reader(const Json& root, const std::string& file) : PirJson(file), root_(root) {
    out_.file = file;
  }

  ForeignProgram read() {
    const Json& magic = member(member(root_, "base_code"), "magic");
    if (magic != "pir") damaged("base_code.magic is not \"pir\"");
    const Json& regions = list(member(root_, "program"), "regions");
    if (regions.size() != 1)
      damaged("the program has " + std::to_string(regions.size()) + " regions");
    read_block(only_block(regions[0]), out_.body, 0);
    place_ = out_.file;
    std::ranges::stable_sort(outputs_, {}, &std::pair<int64_t, ForeignOutput>::first);
    for (auto& [column, output] : outputs_) out_.outputs.push_back(std::move(output));
    if (out_.outputs.empty()) damaged("the program has no output: no 'fetch' operator");
    finish_program(out_);
    return std::move(out_);
  }

 private:
  const Json& only_block(const Json& region) const {
    const Json& blocks = list(region, "blocks");
    if (blocks.size() != 1) damaged("a region has " + std::to_string(blocks.size()) + " blocks");
    return blocks[0];
  }

  // ---- values ----

  int new_value(std::string name = {}) {
    out_.values.push_back(std::move(name));
    return static_cast<int>(out_.values.size()) - 1;
  }

  // Makes known what a result or block argument with this number is: one value, or several when its
  // type is a vector.
  const std::vector<int>& define(int64_t id, const Json& type, const std::string& name = {}) {
    std::vector<int> values;
    if (type.is_object() && type.contains("#") && type["#"] == "0.t_vec") {
      const Json& parts = list(type, "D");
      for (size_t i = 0; i < parts.size(); ++i) values.push_back(new_value());
    } else {
      values.push_back(new_value(name));
    }
    return alias(id, std::move(values));
  }

  const std::vector<int>& alias(int64_t id, std::vector<int> values) {
    const auto [it, fresh] = values_.emplace(id, std::move(values));
    if (!fresh) damaged("value %" + std::to_string(id) + " is defined twice");
    return it->second;
  }

  const std::vector<int>& lookup(int64_t id) const {
    const auto it = values_.find(id);
    if (it == values_.end()) {
      damaged("value %" + std::to_string(id) + " is used before it is defined");
    }
    return it->second;
  }

  static const Json* type_of(const Json& result) {
    static const Json kNone;
    const auto it = result.find("TT");
    return it == result.end() ? &kNone : &*it;
  }

  // ---- attributes ----

  static std::string renamed(const std::string& name, const PirName* spelling) {
    if (spelling == nullptr) return name;
    for (std::string_view pair : words(spelling->renames)) {
      const size_t equals = pair.find('=');
      if (pair.substr(0, equals) == name) return std::string(pair.substr(equals + 1));
    }
    return name;
  }

  void read_attributes(const Json& op, const PirName* spelling, ForeignOp& to) const {
    const auto attrs = op.find("A");
    if (attrs == op.end()) return;
    if (!attrs->is_array()) damaged("\"A\" is not a list");
    for (const Json& attr : *attrs) {
      const std::string& name = text(member(attr, "N"), "an attribute's name");
      if (is_noise(name)) continue;
      to.attrs.emplace_back(renamed(name, spelling), attribute(member(attr, "AT"), true));
    }
  }

  template <class T> const T* find_attr(const ForeignOp& op, std::string_view name) const {
    for (const auto& [key, value] : op.attrs) {
      if (key == name) return std::get_if<T>(&value);
    }
    return nullptr;
  }

  // ---- operators ----

  void read_block(const Json& block, ForeignBlock& to, int depth) {
    if (depth > kMaxBlockDepth) damaged("blocks are nested too deeply");
    if (const auto args = block.find("args"); args != block.end()) {
      for (const Json& arg : *args) {
        const auto& values = define(integer(member(arg, "#"), "a block argument"), *type_of(arg));
        to.arguments.insert(to.arguments.end(), values.begin(), values.end());
      }
    }
    const std::string outer = place_;
    int index = 0;
    for (const Json& op : list(block, "ops")) {
      place_ = "op " + std::to_string(index++) +
               (depth > 0 ? " of a block inside " + outer : " of " + out_.file);
      read_op(op, to, depth);
    }
    place_ = outer;
  }

  void read_op(const Json& op, ForeignBlock& to, int depth) {
    const std::string& full = text(member(op, "#"), "an operator's name");
    if (full == "p") return read_parameter(op);
    const size_t dot = full.find('.');
    const std::string name = dot == std::string::npos ? full : full.substr(dot + 1);
    place_.insert(place_.find(' ', 3), " '" + name + "'");
    if (full.starts_with("0.")) return read_builtin(name, op);
    if (full == "2.yield") {
      for (int64_t id : operands(op)) append(to.results, lookup(id));
      return;
    }
    const PirName* spelling = full.starts_with("1.") ? find_pir_name(name) : nullptr;
    ForeignOp made;
    made.where = place_;
    read_attributes(op, spelling, made);
    if (full == "1.data" || full == "1.feed") return read_input(op, made);
    if (full == "1.fetch") return read_output(op, made);
    if (full == "1.if" || full == "1.while") {
      read_regions(op, made, full == "1.if", depth);
    } else {
      // Without a spelling, a type that no translation has: it is reported with all others.
      made.type = spelling != nullptr ? std::string(spelling->legacy) : "pir:" + full;
      read_operands(op, spelling, made);
    }
    read_results(op, spelling, made);
    to.ops.push_back(std::move(made));
  }

  static void append(std::vector<int>& to, const std::vector<int>& from) {
    to.insert(to.end(), from.begin(), from.end());
  }

  std::vector<int64_t> operands(const Json& op) const {
    std::vector<int64_t> ids;
    const auto found = op.find("I");
    if (found == op.end()) return ids;
    if (!found->is_array()) damaged("\"I\" is not a list");
    for (const Json& operand : *found) ids.push_back(integer(member(operand, "%"), "an operand"));
    return ids;
  }

  // A list of values may be used many times: a small file must not become a large program by that.
  void count_listed(size_t values) {
    listed_ += values;
    if (listed_ > kMostListed)
      damaged("the operators use more than " + std::to_string(kMostListed) + " values");
  }

  void read_operands(const Json& op, const PirName* spelling, ForeignOp& to) {
    const std::vector<int64_t> ids = operands(op);
    const auto slots =
        spelling != nullptr ? words(spelling->inputs) : std::vector<std::string_view>{};
    if (spelling != nullptr && ids.size() > slots.size()) {
      damaged("the operator has " + std::to_string(ids.size()) + " inputs, " +
              std::to_string(slots.size()) + " are known");
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] == 0 || (spelling != nullptr && slots[i] == "-")) continue;
      const std::vector<int>& values = lookup(ids[i]);
      if (values.empty()) continue;
      count_listed(values.size());
      to.inputs.push_back(
          {spelling != nullptr ? std::string(slots[i]) : std::to_string(i), values});
    }
  }

  void read_results(const Json& op, const PirName* spelling, ForeignOp& to) {
    const auto slots = words(spelling != nullptr ? spelling->outputs : "Out");
    size_t i = 0;
    for (const Json& result : list(op, "O")) {
      const int64_t id = integer(member(result, "%"), "a result");
      const std::string slot(i < slots.size() ? slots[i] : "-");
      ++i;
      if (id == 0) continue;
      const std::vector<int>& values = define(id, *type_of(result));
      if (values.empty()) continue;
      // Every result of `if` and `while` belongs to the one slot.
      if (spelling == nullptr && !to.outputs.empty()) {
        append(to.outputs[0].values, values);
      } else {
        to.outputs.push_back({slot, values});
      }
    }
  }

  void read_regions(const Json& op, ForeignOp& to, bool is_if, int depth) {
    to.type = is_if ? "if" : "while";
    const std::vector<int64_t> ids = operands(op);
    if (ids.empty() || (is_if && ids.size() != 1)) damaged("operands do not fit");
    to.inputs.push_back({is_if ? "Cond" : "Condition", lookup(ids[0])});
    if (to.inputs[0].values.size() != 1) damaged("the condition is not one value");
    std::vector<int> variables;
    for (size_t i = 1; i < ids.size(); ++i) append(variables, lookup(ids[i]));
    count_listed(variables.size());
    if (!variables.empty()) to.inputs.push_back({"X", variables});
    const Json& regions = list(op, "regions");
    if (regions.size() != (is_if ? 2u : 1u)) damaged("the number of regions is wrong");
    for (const Json& region : regions)
      read_block(only_block(region), to.blocks.emplace_back(), depth + 1);
    size_t results = 0;
    for (const Json& result : list(op, "O")) {
      const Json& type = *type_of(result);
      results += type.is_object() && type.contains("#") && type["#"] == "0.t_vec"
                     ? list(type, "D").size()
                     : 1;
    }
    for (const ForeignBlock& block : to.blocks) {
      const size_t expected = is_if ? results : variables.size() + 1;
      if (block.results.size() != expected) {
        damaged("a block yields " + std::to_string(block.results.size()) + " values, " +
                std::to_string(expected) + " were expected");
      }
      if (!is_if && (block.arguments.size() != variables.size() || results != variables.size())) {
        damaged("the loop's variables, arguments and results differ in number");
      }
    }
  }

  // combine makes a list of values, split and slice take it apart: nothing remains of them here.
  void read_builtin(const std::string& name, const Json& op) {
    const std::vector<int64_t> ids = operands(op);
    const Json& results = list(op, "O");
    const auto result = [&](size_t i) { return integer(member(results[i], "%"), "a result"); };
    if (name == "combine" && results.size() == 1) {
      std::vector<int> values;
      for (int64_t id : ids) {
        if (id == 0) {
          values.push_back(-1);
        } else {
          append(values, lookup(id));
        }
      }
      count_listed(values.size());
      alias(result(0), std::move(values));
    } else if (name == "split" && ids.size() == 1) {
      const std::vector<int> values = lookup(ids[0]);
      if (values.size() != results.size()) damaged("the list and the results differ in number");
      for (size_t i = 0; i < values.size(); ++i) {
        if (result(i) != 0) alias(result(i), {values[i]});
      }
    } else if (name == "slice" && ids.size() == 1 && results.size() == 1) {
      const std::vector<int> values = lookup(ids[0]);
      ForeignOp made;
      read_attributes(op, nullptr, made);
      const auto* index = find_attr<int64_t>(made, "index");
      if (index == nullptr || *index < 0 || *index >= static_cast<int64_t>(values.size())) {
        damaged("the index is missing or out of range");
      }
      alias(result(0), {values[static_cast<size_t>(*index)]});
    } else {
      fail(Code::kUnimplemented, "builtin operator '" + name + "' is not supported", place_);
    }
  }

  void read_parameter(const Json& op) {
    const Json& attrs = list(op, "A");
    if (attrs.size() < 4) damaged("a parameter is incomplete");
    ForeignParameter parameter;
    parameter.name = text(attrs[3], "a parameter's name");
    const Json& result = member(op, "O");
    const Json& type = member(result, "TT");
    const int64_t id = integer(member(result, "%"), "a parameter's value");
    place_ = "parameter '" + parameter.name + "' of " + out_.file;
    parameter.value = define(id, type, parameter.name).at(0);
    const auto flags = op.find("OA");
    const bool stored = flags == op.end() || !flags->is_array() || flags->empty() ||
                        integer((*flags)[0], "persistable") != 0;
    if (!stored) return;  // a recurrent layer's dropout state: nowhere, and not needed
    tensor_type(type, parameter.dtype, parameter.shape);
    if (!parameter.shape.known()) damaged("unknown dimensions " + parameter.shape.str());
    if (!parameter_names_.insert(parameter.name).second) damaged("the name occurs twice");
    out_.parameters.push_back(std::move(parameter));
  }

  int only_result(const Json& op, const std::string& name) {
    const Json& results = list(op, "O");
    if (results.size() != 1) damaged("one result was expected");
    const auto& values =
        define(integer(member(results[0], "%"), "a result"), *type_of(results[0]), name);
    if (values.size() != 1) damaged("the result is not one tensor");
    return values[0];
  }

  void read_input(const Json& op, const ForeignOp& attrs) {
    const auto* name = find_attr<std::string>(attrs, "name");
    if (name == nullptr) damaged("the input has no name");
    ForeignInput input;
    input.name = *name;
    input.value = only_result(op, input.name);
    tensor_type(member(op["O"][0], "TT"), input.dtype, input.shape);
    out_.inputs.push_back(std::move(input));
  }

  void read_output(const Json& op, const ForeignOp& attrs) {
    const std::vector<int64_t> ids = operands(op);
    if (ids.size() != 1 || lookup(ids[0]).size() != 1)
      damaged("an output of one tensor was expected");
    ForeignOutput output;
    const auto* name = find_attr<std::string>(attrs, "name");
    const auto* column = find_attr<int64_t>(attrs, "col");
    output.name = name != nullptr ? *name : "fetch_name_" + std::to_string(outputs_.size());
    output.value = lookup(ids[0])[0];
    if (output.value < 0) damaged("the output is absent");
    const Json& results = list(op, "O");
    if (results.size() == 1)
      tensor_type(member(results[0], "TT"), output.dtype, output.shape, true);
    const auto order = column != nullptr ? *column : static_cast<int64_t>(outputs_.size());
    outputs_.emplace_back(order, std::move(output));
  }

  static constexpr size_t kMostListed = size_t{1} << 22;

  const Json& root_;
  size_t listed_ = 0;
  ForeignProgram out_;
  std::unordered_map<int64_t, std::vector<int>> values_;
  std::unordered_set<std::string> parameter_names_;
  std::vector<std::pair<int64_t, ForeignOutput>> outputs_;
};

// nlohmann's parser keeps its own stack on the heap; a limit keeps a hostile file from growing it.
Json parse(std::string_view bytes, const std::string& file) {
  constexpr int kMostDepth = 400;
  const auto check_depth = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMostDepth) fail(Code::kInvalidArgument, "JSON nested too deeply", file);
    return true;
  };
  try {
    return Json::parse(bytes.begin(), bytes.end(), check_depth);
  } catch (const Json::exception& error) {
    std::string why =
        error.what();  // "[json.exception.parse_error.101] parse error at line 1, column 7: ..."
    if (const size_t end = why.find("] "); end != std::string::npos) why = why.substr(end + 2);
    for (char& c : why) c = static_cast<unsigned char>(c) < 32 ? ' ' : c;
    fail(Code::kInvalidArgument, "not JSON: " + why.substr(0, 300), file);
  }
}

}  // namespace

ForeignProgram read_pir_program(std::string_view bytes, const std::string& file) {
  const Json root = parse(bytes, file);
  return Reader(root, file).read();
}

}  // namespace trireme
