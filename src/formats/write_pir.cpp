// Writer of Paddle 3's format: inference.json (PIR) and inference.pdiparams.
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "formats/paddle_sink.h"
#include "formats/params.h"
#include "formats/pir_names.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using Out = nlohmann::ordered_json;

std::string_view element_name(DType dtype) {
  static constexpr std::string_view kNames[] = {"0.t_bool", "0.t_ui8", "0.t_i8",  "0.t_i16",
                                                "0.t_i32",  "0.t_i64", "0.t_f16", "0.t_bf16",
                                                "0.t_f32",  "0.t_f64"};
  return kNames[static_cast<size_t>(dtype)];
}

Out tensor_type(const OutType& type) {
  return {
      {"#", "0.t_dtensor"},
      {"D", Out::array({{{"#", element_name(type.dtype)}}, type.dims, "NCHW", Out::array(), 0})}};
}

Out tagged(const char* tag, Out data) { return {{"#", tag}, {"D", std::move(data)}}; }

Out floating(const char* tag, double value) {
  if (std::isfinite(value)) return tagged(tag, value);
  return {{"#", tag}, {"VD", std::isnan(value) ? "NaN" : value > 0 ? "INF" : "-INF"}};
}

Out attribute(const OutNumber& number) {
  return std::visit(
      [](const auto& value) -> Out {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, bool>) return tagged("0.a_bool", value);
        else if constexpr (std::is_same_v<T, int32_t>) return tagged("0.a_i32", value);
        else if constexpr (std::is_same_v<T, int64_t>) return tagged("0.a_i64", value);
        else if constexpr (std::is_same_v<T, float>) return floating("0.a_f32", double{value});
        else if constexpr (std::is_same_v<T, double>) return floating("0.a_f64", value);
        else if constexpr (std::is_same_v<T, std::string>) return tagged("0.a_str", value);
        else if constexpr (std::is_same_v<T, DType>) return tagged("1.a_dtype", name_of(value));
        else {
          Out list = Out::array();
          for (const auto x : value) list.push_back(attribute(OutNumber(x)));
          return tagged("0.a_array", std::move(list));
        }
      },
      number);
}

Out named(const std::string& name, Out attr) { return {{"AT", std::move(attr)}, {"N", name}}; }

Out place() { return tagged("1.a_place", Out::array({1, 0, ""})); }

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0) out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// PIR's name of an attribute, from the table in the reader's direction ("perm=axis").
std::string pir_attr_name(const PirName& spelling, const std::string& legacy) {
  for (const std::string_view pair : words(spelling.renames)) {
    const size_t equals = pair.find('=');
    if (pair.substr(equals + 1) == legacy) return std::string(pair.substr(0, equals));
  }
  if (legacy == "data_layout") return "data_format";
  return legacy;
}

// What the legacy format has and PIR has not.
bool is_legacy_only(const std::string& op, const std::string& attr) {
  return attr == "in_dtype" || (attr == "reduce_all" && op != "reduce_prod") ||
         (attr == "axis" && (op.starts_with("elementwise_") || op == "equal")) ||
         (op == "strided_slice" && (attr == "infer_flags" || attr == "decrease_axis")) ||
         (op == "mish" && attr == "threshold") || (op == "swish" && attr == "beta");
}

class PirSink : public PaddleSink {
 public:
  OutId input(const std::string& name, const OutType& type) override {
    const OutId id = add(type);
    push("1.data", Out::array(), {id},
         {named("name", tagged("0.a_str", name)), named("shape", tagged("1.a_intarray", type.dims)),
          named("dtype", tagged("1.a_dtype", name_of(type.dtype))),
          named("place", tagged("1.a_place", Out::array({0, 0, ""})))});
    return id;
  }

  void output(const std::string&, OutId value) override {
    const OutId id = add(type(value));
    push("1.fetch", operands({value}), {id},
         {named("name", tagged("0.a_str", "fetch_name_" + std::to_string(outputs_))),
          named("col", tagged("0.a_i32", outputs_))});
    ops_.back()["OA"].insert(ops_.back()["OA"].begin(), named("persistable", flags(1, true)));
    ++outputs_;
  }

  OutId parameter(const std::string& name, const Array& array) override {
    params_.emplace(name, array);
    return add_parameter(name, {array.dtype(), {array.shape().begin(), array.shape().end()}}, true);
  }

  OutId full(const std::vector<int64_t>& shape, double value, DType dtype) override {
    const OutId id = add({dtype, shape});
    push("1.full", Out::array(), {id},
         {named("shape", tagged("1.a_intarray", shape)), named("value", floating("0.a_f64", value)),
          named("dtype", tagged("1.a_dtype", name_of(dtype))), named("place", place())});
    return id;
  }

  std::vector<OutId> op(OutOp made) override {
    const PirName* spelling = find_pir_name(made.pir);
    if (spelling == nullptr) fail(Code::kInternal, "[export] no spelling of '" + made.pir + "'");
    const auto slots = words(spelling->inputs);
    std::vector<OutId> in(slots.size(), 0);
    const auto put = [&](const std::string& slot, OutId id) {
      for (size_t i = 0; i < slots.size(); ++i)
        if (slots[i] == slot) return static_cast<void>(in[i] = id);
      fail(Code::kInternal, "[export] '" + made.pir + "' has no input '" + slot + "'");
    };
    for (const OutSlot& slot : made.inputs)
      put(slot.name, slot.list ? combine(slot.values) : slot.values[0]);
    std::vector<Out> attrs;
    for (const OutAttr& attr : made.attrs) {
      // The table has one row for sums, whose axes are an input, and for any, where they are not.
      if (attr.slot.empty() && !slots.empty() && slots.back() == attr.name) in.pop_back();
      if (!attr.slot.empty()) {
        if (made.shape.empty() || attr.slot != made.pir_shape_slot) put(attr.slot, literal(attr));
      } else if (!is_legacy_only(made.legacy, attr.name)) {
        attrs.push_back(named(pir_attr_name(*spelling, attr.name), pir_value(attr)));
      }
    }
    if (made.pir == "round") attrs.push_back(named("decimals", attribute(int32_t{0})));
    if (!made.shape.empty()) put(made.pir_shape_slot, stacked(made.shape));
    if (made.pir == "rnn") in.back() = dropout_state();
    return results(made, in, attrs);
  }

  OutId dimension(OutId of, int axis) override {
    OutId& shape = shapes_[of];
    if (shape == 0) {
      shape = add({DType::kInt64, {static_cast<int64_t>(type(of).dims.size())}});
      push("1.shape64", operands({of}), {shape}, {});
    }
    const OutId from = int_array({axis}), to = int_array({axis + 1});
    const OutId id = add({DType::kInt64, {}});
    const auto list = [](int64_t x) { return attribute(std::vector<int64_t>{x}); };
    push("1.slice", operands({shape, from, to}), {id},
         {named("axes", list(0)), named("infer_flags", list(1)), named("decrease_axis", list(0))});
    return id;
  }

  OutId number(int64_t value) override {
    return full({}, static_cast<double>(value), DType::kInt64);
  }

  std::vector<OutId> branch(OutId condition, const Body& yes, const Body& no,
                            const std::vector<OutType>& types) override {
    Out regions = Out::array();
    for (const Body* body : {&yes, &no}) regions.push_back(region({}, *body));
    std::vector<OutId> ids;
    for (const OutType& type : types) ids.push_back(add(type));
    push("1.if", operands({condition}), ids, {});
    ops_.back()["regions"] = std::move(regions);
    return ids;
  }

  std::vector<OutId> loop(OutId condition, const std::vector<OutId>& variables,
                          const LoopBody& body) override {
    std::vector<OutId> in{condition}, arguments, ids;
    in.insert(in.end(), variables.begin(), variables.end());
    for (const OutId id : variables) {
      arguments.push_back(add(type(id)));
      arguments_.emplace(arguments.back(), -1 - static_cast<int>(arguments_.size()));
    }
    Out regions = Out::array({region(arguments, [&] { return body(arguments); })});
    for (const OutId id : variables) ids.push_back(add(type(id)));
    push("1.while", operands(in), ids, {});
    ops_.back()["regions"] = std::move(regions);
    return ids;
  }

  void write(const std::string& folder) {
    const std::filesystem::path base = std::filesystem::path(folder) / "inference";
    const std::vector<NamedArray> params(params_.begin(), params_.end());
    // Paddle writes none for a program without parameters, and looks for none.
    if (!params.empty()) write_params(base.string() + ".pdiparams", params);
    Out ops = Out::array();
    for (Out& op : parameters_) ops.push_back(std::move(op));
    for (Out& op : ops_) ops.push_back(std::move(op));
    const Out block = {{"#", "block_0"}, {"args", Out::array()}, {"ops", std::move(ops)}};
    const Out region = {{"#", "region_0"}, {"blocks", Out::array({block})}};
    const Out root = {{"base_code", {{"magic", "pir"}, {"trainable", true}, {"version", 4}}},
                      {"program", {{"regions", Out::array({region})}}}};
    FileWriter out(base.string() + ".json");
    out.write(root.dump());
    out.commit();
  }

 private:
  static Out flags(size_t count, bool value) {
    Out list = Out::array();
    for (size_t i = 0; i < count; ++i) list.push_back(tagged("0.a_bool", value));
    return tagged("0.a_array", std::move(list));
  }

  // Arguments of blocks count from -1 down.
  int written_id(OutId id) const {
    const auto it = arguments_.find(id);
    return it == arguments_.end() ? id : it->second;
  }

  Out operands(const std::vector<OutId>& ids) const {
    Out list = Out::array();
    for (const OutId id : ids) list.push_back({{"%", written_id(id)}});
    return list;
  }

  // One block in a region, which hands its results back by a yield. What is known of values from
  // before it stays known; what it makes is forgotten.
  Out region(const std::vector<OutId>& arguments, const Body& body) {
    const int number = ++regions_;
    std::vector<Out> outer;
    outer.swap(ops_);
    const std::map<OutId, OutId> shapes = shapes_;
    const std::vector<OutId> results = body();
    ops_.push_back({{"#", "2.yield"},
                    {"A", Out::array()},
                    {"I", operands(results)},
                    {"O", Out::array()},
                    {"OA", Out::array()}});
    outer.swap(ops_);
    shapes_ = shapes;
    Out args = Out::array(), ops = Out::array();
    for (const OutId id : arguments)
      args.push_back({{"#", written_id(id)}, {"TT", tensor_type(type(id))}});
    for (Out& op : outer) ops.push_back(std::move(op));
    const std::string n = std::to_string(number);
    const Out block = {{"#", "block_" + n}, {"args", std::move(args)}, {"ops", std::move(ops)}};
    return {{"#", "region_" + n}, {"blocks", Out::array({block})}};
  }

  // `lists`: the results that are lists of values, whose types stand in the place of the id's own.
  void push(const std::string& name, Out in, const std::vector<OutId>& out, std::vector<Out> attrs,
            const std::map<OutId, Out>& lists = {}) {
    Out results_list = Out::array();
    for (const OutId id : out) {
      const auto list = lists.find(id);
      results_list.push_back(
          {{"%", id}, {"TT", list == lists.end() ? tensor_type(type(id)) : list->second}});
    }
    Out all = Out::array();
    for (Out& attr : attrs) all.push_back(std::move(attr));
    ops_.push_back({{"#", name},
                    {"A", std::move(all)},
                    {"I", std::move(in)},
                    {"O", std::move(results_list)},
                    {"OA", Out::array({named("stop_gradient", flags(out.size(), true))})}});
  }

  OutId add_parameter(const std::string& name, const OutType& type, bool persistable) {
    const OutId id = add(type);
    parameters_.push_back({{"#", "p"},
                           {"A", Out::array({0, 1, 1, name})},
                           {"DA", Out::array()},
                           {"O", {{"%", id}, {"TT", tensor_type(type)}}},
                           {"OA", Out::array({persistable ? 1 : 0, 1, persistable ? 1 : 0})},
                           {"QA", Out::array()}});
    return id;
  }

  OutId dropout_state() {
    return add_parameter("rnn_" + std::to_string(states_++) + ".dropout_state__non_persistable",
                         {DType::kUInt8, {}}, false);
  }

  Out list_type(const std::vector<OutType>& types) const {
    Out list = Out::array();
    for (const OutType& t : types) list.push_back(tensor_type(t));
    return tagged("0.t_vec", std::move(list));
  }

  OutId combine(const std::vector<OutId>& ids) {
    std::vector<OutType> types;
    for (const OutId id : ids) types.push_back(type(id));
    const OutId made = add(types[0]);
    push("0.combine", operands(ids), {made}, {}, {{made, list_type(types)}});
    return made;
  }

  OutId stacked(const std::vector<OutId>& ids) {
    const OutId list = combine(ids);
    const OutId made = add({DType::kInt64, {static_cast<int64_t>(ids.size())}});
    push("1.stack", operands({list}), {made}, {named("axis", attribute(int32_t{0}))});
    return made;
  }

  OutId int_array(const std::vector<int64_t>& values) {
    const OutId made = add({DType::kInt64, {static_cast<int64_t>(values.size())}});
    push("1.full_int_array", Out::array(), {made},
         {named("value", attribute(values)), named("dtype", tagged("1.a_dtype", "int64")),
          named("place", place())});
    return made;
  }

  // An attribute that is an input here.
  OutId literal(const OutAttr& attr) {
    return std::visit(
        [&](const auto& value) -> OutId {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, std::vector<int32_t>> ||
                        std::is_same_v<T, std::vector<int64_t>>) {
            return int_array({value.begin(), value.end()});
          } else if constexpr (std::is_arithmetic_v<T>) {
            return full({1}, static_cast<double>(value), attr.dtype);
          } else {
            fail(Code::kInternal, "[export] no literal for '" + attr.name + "'");
          }
        },
        attr.value);
  }

  // -1: the dtype that follows from the input.
  static Out pir_value(const OutAttr& attr) {
    if (attr.name == "out_dtype" && std::holds_alternative<int32_t>(attr.value))
      return tagged("1.a_dtype", "Undefined(ALL_DTYPE)");
    return attribute(attr.value);
  }

  std::vector<OutId> results(const OutOp& made, const std::vector<OutId>& in,
                             std::vector<Out> attrs) {
    std::vector<OutId> direct, ids;
    std::map<OutId, Out> lists;
    std::vector<std::pair<OutId, std::vector<OutId>>> apart;
    for (const OutResult& result : made.results) {
      direct.push_back(add(result.types[0]));
      if (!result.list) {
        ids.push_back(direct.back());
        continue;
      }
      lists[direct.back()] = list_type(result.types);
      std::vector<OutId> parts;
      for (const OutType& t : result.types) parts.push_back(add(t));
      ids.insert(ids.end(), parts.begin(), parts.end());
      apart.emplace_back(direct.back(), parts);
    }
    push("1." + made.pir, operands(in), direct, std::move(attrs), lists);
    for (const auto& [list, parts] : apart) push("0.split", operands({list}), parts, {});
    return ids;
  }

  std::vector<Out> parameters_, ops_;
  std::map<std::string, Array> params_;  // sorted, as the file wants them
  std::map<OutId, OutId> shapes_;
  std::map<OutId, int> arguments_;
  int outputs_ = 0, states_ = 0, regions_ = 0;
};

}  // namespace

void write_pir(const ExportModel& model, const std::string& folder) {
  PirSink sink;
  export_to(sink, model);
  sink.write(folder);
}

}  // namespace trireme
