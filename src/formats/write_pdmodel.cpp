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
    ops_.push_back({std::move(feed), {id}});
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
    return add_named({array.dtype(), {array.shape().begin(), array.shape().end()}}, name, true);
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
    ops_.push_back({std::move(made), ids});
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
  };

  // Unlike Paddle's own names, which outputs and parameters keep.
  std::string temporary_name(const std::string& op_type, size_t result) const {
    return op_type + '.' + std::to_string(ops_.size()) + '.' + std::to_string(result);
  }

  OutId add_named(const OutType& type, const std::string& name, bool fixed) {
    const OutId id = add(type);
    names_.resize(types_.size());
    fixed_.resize(types_.size());
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

  paddle::ProgramDesc program() const {
    paddle::ProgramDesc program;
    paddle::BlockDesc& block = *program.add_blocks();
    block.set_idx(0);
    block.set_parent_idx(-1);
    block.set_forward_block_idx(-1);
    variable(block, "feed", VarType::FEED_MINIBATCH, true);
    variable(block, "fetch", VarType::FETCH_LIST, true);
    for (size_t id = 1; id < types_.size(); ++id) {
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
    for (const Written& written : ops_) fill(*block.add_ops(), written);
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
  std::vector<OutId> inputs_, outputs_;
  std::map<OutId, OutId> shapes_;
  std::map<std::string, Array> params_;  // sorted, as the file wants them
  std::vector<Written> ops_;
};

}  // namespace

void write_pdmodel(const ExportModel& model, const std::string& folder) {
  LegacySink sink;
  export_to(sink, model);
  sink.write(folder);
}

}  // namespace trireme
