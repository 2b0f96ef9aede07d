// Writer of Paddle's legacy format: inference.pdmodel and inference.pdiparams.
#include <algorithm>
#include <filesystem>
#include <map>

#include "base/files.h"
#include "formats/foreign.h"
#include "formats/paddle_sink.h"
#include "formats/params.h"
#include "ops/elements.h"
#include "paddle_program.pb.h"

namespace trireme {
namespace {

using paddle::OpDesc;
using paddle::VarDesc;
using paddle::VarType;

class LegacySink : public PaddleSink {
 public:
  OutId input(const std::string& name, const OutType& type) override {
    const OutId id = add_named(type, name, true);
    OutOp feed{"feed", {}, {}, {}, {{"col", static_cast<int32_t>(inputs_.size())}}, {}, {}, {}};
    inputs_.push_back(id);
    write_op({std::move(feed), {id}});
    return id;
  }

  void output(const std::string& name, OutId value) override {
    OutId id = value;
    if (fixed_[static_cast<size_t>(value)]) {
      id = op({"assign", {}, {{"X", {value}}}, {{"Out", {type(value)}}}, {}, {}, {}, {}})[0];
    }
    names_[static_cast<size_t>(id)] = name;
    fixed_[static_cast<size_t>(id)] = true;
    outputs_.push_back(id);
  }

  OutId parameter(const std::string& name, const Array& array) override {
    params_.emplace(name, array);
    const OutId id =
        add_named({array.dtype(), {array.shape().begin(), array.shape().end()}}, name, true);
    home_[static_cast<size_t>(id)] = 0;
    return id;
  }

  // The value is a text besides, since the number is a float32.
  OutId full(const std::vector<int64_t>& shape, double value, DType dtype) override {
    char text[40];
    std::snprintf(text, sizeof(text), "%.17g", value);
    return op({"fill_constant",
               {},
               {},
               {{"Out", {{dtype, shape}}}},
               {{"shape", shape},
                {"value", static_cast<float>(value)},
                {"str_value", std::string(text)},
                {"dtype", dtype}},
               {},
               {},
               {}})[0];
  }

  std::vector<OutId> op(OutOp made) override {
    if (!made.shape.empty()) { made.inputs.push_back({made.legacy_shape_slot, made.shape, true}); }
    if (made.legacy == "reshape2" || made.legacy == "transpose2") {
      OutType x = type(made.inputs[0].values[0]);
      x.dims.insert(x.dims.begin(), 0);
      made.results.push_back({"XShape", {x}});
    }
    std::vector<OutId> ids;
    for (const OutResult& result : made.results)
      for (const OutType& t : result.types)
        ids.push_back(add_named(t, temporary_name(made.legacy, ids.size()), false));
    write_op({std::move(made), ids});
    return ids;
  }

  OutId dimension(OutId of, int axis) override {
    OutId& shape = shapes_[of];
    if (shape == 0) {
      const auto rank = static_cast<int64_t>(type(of).dims.size());
      shape = op({"shape",
                  {},
                  {{"Input", {of}}},
                  {{"Out", {{DType::kInt32, {rank}}}}},
                  {},
                  {},
                  {},
                  {}})[0];
    }
    return op({"slice",
               {},
               {{"Input", {shape}}},
               {{"Out", {{DType::kInt32, {1}}}}},
               {{"axes", std::vector<int32_t>{0}},
                {"starts", std::vector<int32_t>{axis}},
                {"ends", std::vector<int32_t>{axis + 1}},
                {"infer_flags", std::vector<int32_t>{1}},
                {"decrease_axis", std::vector<int32_t>{}}},
               {},
               {},
               {}})[0];
  }

  OutId number(int64_t value) override {
    return full({1}, static_cast<double>(value), DType::kInt32);
  }

  // Each branch is a conditional_block that gives values to variables from around it; which of
  // them were given is what select_input chooses by.
  std::vector<OutId> branch(OutId condition, const Body& yes, const Body& no,
                            const std::vector<OutType>& types) override {
    const OutType truth = type(condition);
    const OutId otherwise = one("logical_not", {{"X", {condition}}}, truth);
    const OutId mask = one("cast", {{"X", {condition}}}, {DType::kInt32, truth.dims},
                           {{"in_dtype", truth.dtype}, {"out_dtype", DType::kInt32}});
    const std::vector<OutId> first = conditional_block(condition, yes, types);
    const std::vector<OutId> second = conditional_block(otherwise, no, types);
    std::vector<OutId> ids;
    for (size_t i = 0; i < types.size(); ++i)
      ids.push_back(
          one("select_input", {{"X", {second[i], first[i]}, true}, {"Mask", {mask}}}, types[i]));
    return ids;
  }

  // The variables are overwritten each round, so they are copies.
  std::vector<OutId> loop(OutId condition, const std::vector<OutId>& variables,
                          const LoopBody& body) override {
    std::vector<OutId> state{one("assign", {{"X", {condition}}}, type(condition))};
    for (const OutId id : variables) state.push_back(one("assign", {{"X", {id}}}, type(id)));
    const std::vector<OutId> now(state.begin() + 1, state.end());
    const int block = open_block();
    std::vector<OutId> next = body(now);
    for (OutId& id : next)  // all change at once
      if (std::ranges::find(now, id) != now.end()) id = one("assign", {{"X", {id}}}, type(id));
    for (size_t i = 0; i < next.size(); ++i) assign(next[i], state[i]);
    close_block();
    OutOp made{"while", {}, {{"Condition", {state[0]}}}, {}, {{"is_test", true}}, {}, {}, {}};
    write_op({std::move(made), state, block, add_scopes()});
    return now;
  }

  void write(const std::string& folder) {
    const std::filesystem::path base = std::filesystem::path(folder) / "inference";
    const std::vector<NamedArray> params(params_.begin(), params_.end());
    write_params(base.string() + ".pdiparams", params);
    FileWriter out(base.string() + ".pdmodel");
    out.write(program().SerializeAsString());
    out.commit();
  }

 private:
  struct Written {
    OutOp op;
    std::vector<OutId> results;
    int block = 0;            // of control flow: its block
    std::string scopes = {};  // and the variable where Paddle keeps what runs in it
  };
  struct Block {
    int parent = -1;
    std::vector<Written> ops;
    std::vector<std::string> scopes;
  };

  void write_op(Written written) {
    ++written_;
    blocks_[static_cast<size_t>(block_)].ops.push_back(std::move(written));
  }

  OutId one(const char* name, std::vector<OutSlot> in, const OutType& type,
            std::vector<OutAttr> attrs = {}) {
    return op({name, {}, std::move(in), {{"Out", {type}}}, std::move(attrs), {}, {}, {}})[0];
  }

  // ---- blocks

  int open_block() {
    blocks_.push_back({block_, {}, {}});
    outer_shapes_.push_back(shapes_);
    return block_ = static_cast<int>(blocks_.size()) - 1;
  }

  void close_block() {
    block_ = blocks_[static_cast<size_t>(block_)].parent;
    shapes_ = outer_shapes_.back();
    outer_shapes_.pop_back();
  }

  std::string add_scopes() {
    std::vector<std::string>& scopes = blocks_[static_cast<size_t>(block_)].scopes;
    scopes.push_back("step_scopes." + std::to_string(written_));
    return scopes.back();
  }

  // Gives a variable from around the block its value.
  void assign(OutId from, OutId to) {
    OutOp made{"assign", {}, {{"X", {from}}}, {{"Out", {type(to)}}}, {}, {}, {}, {}};
    write_op({std::move(made), {to}});
  }

  std::vector<OutId> conditional_block(OutId condition, const Body& body,
                                       const std::vector<OutType>& types) {
    std::vector<OutId> results;
    for (const OutType& t : types)
      results.push_back(add_named(t, temporary_name("conditional_block", results.size()), false));
    const int block = open_block();
    const std::vector<OutId> made = body();
    for (size_t i = 0; i < made.size(); ++i) assign(made[i], results[i]);
    close_block();
    OutOp op{"conditional_block",
             {},
             {{"Cond", {condition}}},
             {},
             {{"is_scalar_condition", true}},
             {},
             {},
             {}};
    write_op({std::move(op), results, block, add_scopes()});
    return results;
  }

  // What a block and those in it take from around it.
  void collect_captured(int block, std::vector<OutId>& ids) const {
    for (const Written& written : blocks_[static_cast<size_t>(block)].ops) {
      for (const OutSlot& in : written.op.inputs)
        for (const OutId id : in.values)
          if (id != 0 && std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
      if (written.block != 0) collect_captured(written.block, ids);
    }
    std::erase_if(ids, [&](OutId id) { return home_[static_cast<size_t>(id)] == block; });
  }

  // Unlike Paddle's own names, which outputs and parameters keep.
  std::string temporary_name(const std::string& op_type, size_t result) const {
    return op_type + '.' + std::to_string(written_) + '.' + std::to_string(result);
  }

  OutId add_named(const OutType& type, const std::string& name, bool fixed) {
    const OutId id = add(type);
    names_.resize(types_.size());
    fixed_.resize(types_.size());
    home_.resize(types_.size());
    home_[static_cast<size_t>(id)] = block_;
    names_[static_cast<size_t>(id)] = name;
    fixed_[static_cast<size_t>(id)] = fixed;
    return id;
  }

  const std::string& name(OutId id) const { return names_[static_cast<size_t>(id)]; }

  static void fill(OpDesc::Attr& to, const OutAttr& attr) {
    to.set_name(attr.name);
    const auto kind = [&](OpDesc::AttrType type) { to.set_type(type); };
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, bool>) {
            kind(OpDesc::BOOLEAN), to.set_b(value);
          } else if constexpr (std::is_same_v<T, int32_t>) {
            kind(OpDesc::INT), to.set_i(value);
          } else if constexpr (std::is_same_v<T, int64_t>) {
            kind(OpDesc::LONG), to.set_l(value);
          } else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
            kind(OpDesc::FLOAT), to.set_f(static_cast<float>(value));
          } else if constexpr (std::is_same_v<T, std::string>) {
            kind(OpDesc::STRING), to.set_s(value);
          } else if constexpr (std::is_same_v<T, DType>) {
            kind(OpDesc::INT), to.set_i(paddle_dtype(value));
          } else if constexpr (std::is_same_v<T, std::vector<double>>) {
            kind(OpDesc::FLOATS);
            for (const double x : value) to.add_floats(static_cast<float>(x));
          } else if (attr.name == "shape" && std::is_same_v<T, std::vector<int64_t>>) {
            kind(OpDesc::LONGS);
            for (const auto x : value) to.add_longs(x);
          } else {
            kind(OpDesc::INTS);
            for (const auto x : value) to.add_ints(static_cast<int32_t>(x));
          }
        },
        attr.value);
  }

  void fill(OpDesc& to, const Written& written) const {
    to.set_type(written.op.legacy);
    const auto slot = [](OpDesc::Var& var, const std::string& parameter) -> OpDesc::Var& {
      var.set_parameter(parameter);
      return var;
    };
    if (written.op.legacy == "feed") {
      slot(*to.add_inputs(), "X").add_arguments("feed");
      slot(*to.add_outputs(), "Out").add_arguments(name(written.results[0]));
    }
    for (const OutSlot& in : written.op.inputs) {
      OpDesc::Var& var = slot(*to.add_inputs(), in.name);
      for (const OutId id : in.values)
        if (id != 0) var.add_arguments(name(id));
    }
    size_t at = 0;
    for (const OutResult& result : written.op.results) {
      OpDesc::Var& var = slot(*to.add_outputs(), result.name);
      for (size_t i = 0; i < result.types.size(); ++i)
        var.add_arguments(result_name(written, result, at++));
    }
    for (const OutAttr& attr : written.op.attrs) fill(*to.add_attrs(), attr);
    if (written.block == 0) return;
    const bool is_loop = written.op.legacy == "while";
    std::vector<OutId> captured;
    collect_captured(written.block, captured);
    OpDesc::Var& in = slot(*to.add_inputs(), is_loop ? "X" : "Input");
    for (const OutId id : captured) in.add_arguments(name(id));
    OpDesc::Var& out = slot(*to.add_outputs(), "Out");
    for (const OutId id : written.results) out.add_arguments(name(id));
    slot(*to.add_outputs(), is_loop ? "StepScopes" : "Scope").add_arguments(written.scopes);
    OpDesc::Attr& block = *to.add_attrs();
    block.set_name("sub_block");
    block.set_type(OpDesc::BLOCK);
    block.set_block_idx(written.block);
  }

  // Frozen statistics are their own new values.
  std::string result_name(const Written& written, const OutResult& result, size_t at) const {
    if (written.op.legacy == "batch_norm" && result.name == "MeanOut")
      return name(written.op.inputs[3].values[0]);
    if (written.op.legacy == "batch_norm" && result.name == "VarianceOut")
      return name(written.op.inputs[4].values[0]);
    return name(written.results[at]);
  }

  static VarDesc& variable(paddle::BlockDesc& block, const std::string& name, int type,
                           bool persistable) {
    VarDesc& var = *block.add_vars();
    var.set_name(name);
    var.mutable_type()->set_type(type);
    var.set_persistable(persistable);
    return var;
  }

  // The variables that the block makes and its operators.
  void fill(paddle::BlockDesc& block, int index) const {
    const Block& from = blocks_[static_cast<size_t>(index)];
    block.set_idx(index);
    block.set_parent_idx(from.parent);
    block.set_forward_block_idx(-1);
    for (size_t id = 1; id < types_.size(); ++id) {
      if (home_[id] != index) continue;
      const bool persistable = params_.contains(names_[id]);
      VarDesc& var = variable(block, names_[id], VarType::LOD_TENSOR, persistable);
      if (std::ranges::find(inputs_, static_cast<OutId>(id)) != inputs_.end())
        var.set_need_check_feed(true);
      if (persistable) var.set_is_parameter(true);
      var.set_stop_gradient(true);
      paddle::TensorDesc& tensor = *var.mutable_type()->mutable_lod_tensor()->mutable_tensor();
      tensor.set_data_type(paddle_dtype(types_[id].dtype));
      for (const int64_t dim : types_[id].dims) tensor.add_dims(dim);
    }
    for (const std::string& scopes : from.scopes)
      variable(block, scopes, VarType::STEP_SCOPES, false);
    for (const Written& written : from.ops) fill(*block.add_ops(), written);
  }

  paddle::ProgramDesc program() const {
    paddle::ProgramDesc program;
    for (size_t i = 0; i < blocks_.size(); ++i) fill(*program.add_blocks(), static_cast<int>(i));
    paddle::BlockDesc& block = *program.mutable_blocks(0);
    variable(block, "feed", VarType::FEED_MINIBATCH, true);
    variable(block, "fetch", VarType::FETCH_LIST, true);
    for (size_t i = 0; i < outputs_.size(); ++i) {
      OpDesc& fetch = *block.add_ops();
      fetch.set_type("fetch");
      fetch.add_inputs()->set_parameter("X");
      fetch.mutable_inputs(0)->add_arguments(name(outputs_[i]));
      fetch.add_outputs()->set_parameter("Out");
      fetch.mutable_outputs(0)->add_arguments("fetch");
      fill(*fetch.add_attrs(), {"col", static_cast<int32_t>(i)});
    }
    constexpr int64_t kVersion = 2004002;
    program.mutable_version()->set_version(kVersion);
    return program;
  }

  std::vector<std::string> names_{std::string()};
  std::vector<bool> fixed_{true};  // names that must stay
  std::vector<int> home_{0};       // the block that makes it
  std::vector<OutId> inputs_, outputs_;
  std::map<OutId, OutId> shapes_;
  std::vector<std::map<OutId, OutId>> outer_shapes_;
  std::map<std::string, Array> params_;  // sorted, as the file wants them
  std::vector<Block> blocks_{Block{}};
  int block_ = 0;
  size_t written_ = 0;
};

}  // namespace

void write_pdmodel(const ExportModel& model, const std::string& folder) {
  LegacySink sink;
  export_to(sink, model);
  sink.write(folder);
}

}  // namespace trireme
