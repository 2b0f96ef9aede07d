// Small models in both formats, made in the test itself: x -> x * w + b.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "paddle_program.pb.h"

namespace trireme::small {

inline void append(std::string& to, const void* data, size_t bytes) {
  to.append(static_cast<const char*>(data), bytes);
}

// One record of a .pdiparams file.
inline std::string record(int64_t paddle_type, const std::vector<int64_t>& dims,
                          const std::string& data) {
  std::string description{'\x08', static_cast<char>(paddle_type)};
  for (int64_t dim : dims) {
    description += '\x10';
    for (auto rest = static_cast<uint64_t>(dim);; rest >>= 7) {
      description += static_cast<char>((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
      if (rest <= 0x7f) break;
    }
  }
  std::string out(16, '\0');  // version, no LoD, version
  const auto length = static_cast<int32_t>(description.size());
  append(out, &length, 4);
  return out + description + data;
}

inline std::string floats(const std::vector<float>& values) {
  std::string out;
  append(out, values.data(), values.size() * sizeof(float));
  return out;
}

// b [1], w [2, 2]: in the order of their names.
inline std::string params() {
  return record(5, {1}, floats({0.5f})) + record(5, {2, 2}, floats({1, 2, 3, 4}));
}

class LegacyModel {
 public:
  LegacyModel() : block_(program_.add_blocks()) {
    block_->set_idx(0);
    block_->set_parent_idx(-1);
    var("feed", 9, {}).set_persistable(true);
    var("fetch", 10, {}).set_persistable(true);
    var("x", 7, {-1, 2});
    var("w", 7, {2, 2}).set_persistable(true);
    var("b", 7, {1}).set_persistable(true);
    auto& out = var("y", 7, {-1, 2});
    out.mutable_type()->mutable_lod_tensor()->mutable_tensor()->set_data_type(5);
    op("feed", {{"X", "feed"}}, {{"Out", "x"}});
    op("matmul_v2", {{"X", "x"}, {"Y", "w"}}, {{"Out", "y"}});
    op("elementwise_add", {{"X", "y"}, {"Y", "b"}}, {{"Out", "y"}});
    op("fetch", {{"X", "y"}}, {{"Out", "fetch"}});
  }

  using Slots = std::vector<std::pair<std::string, std::string>>;

  paddle::VarDesc& var(const std::string& name, int type, const std::vector<int64_t>& dims) {
    paddle::VarDesc& desc = *block_->add_vars();
    desc.set_name(name);
    desc.mutable_type()->set_type(type);
    if (type == 7) {
      auto& tensor = *desc.mutable_type()->mutable_lod_tensor()->mutable_tensor();
      tensor.set_data_type(5);
      for (int64_t dim : dims) tensor.add_dims(dim);
    }
    return desc;
  }

  paddle::OpDesc& op(const std::string& type, const Slots& inputs, const Slots& outputs) {
    paddle::OpDesc& desc = *block_->add_ops();
    desc.set_type(type);
    for (const auto& [slot, name] : inputs) fill(*desc.add_inputs(), slot, name);
    for (const auto& [slot, name] : outputs) fill(*desc.add_outputs(), slot, name);
    return desc;
  }

  // Puts an operator in front of the last one, the fetch.
  paddle::OpDesc& op_before_fetch(const std::string& type, const Slots& inputs,
                                  const Slots& outputs) {
    op(type, inputs, outputs);
    const int last = block_->ops_size() - 1;
    block_->mutable_ops()->SwapElements(last - 1, last);
    return *block_->mutable_ops(last - 1);
  }

  paddle::ProgramDesc& program() { return program_; }
  paddle::BlockDesc& block() { return *block_; }
  std::string bytes() const { return program_.SerializeAsString(); }

 private:
  static void fill(paddle::OpDesc::Var& slot, const std::string& name, const std::string& value) {
    slot.set_parameter(name);
    slot.add_arguments(value);
  }

  paddle::ProgramDesc program_;
  paddle::BlockDesc* block_;
};

inline std::string pir_tensor(const std::string& dims) {
  return R"({"#":"0.t_dtensor","D":[{"#":"0.t_f32"},)" + dims + R"(,"NCHW",[],0]})";
}

inline std::string pir_parameter(const std::string& name, int id, const std::string& dims) {
  return R"({"#":"p","A":[0,1,1,")" + name + R"("],"O":{"%":)" + std::to_string(id) + R"(,"TT":)" +
         pir_tensor(dims) + R"(},"OA":[1,0,1]})";
}

// The same model; `ops` come before the fetch and may change %5, its result.
inline std::string pir_model(const std::string& ops = {}, int fetched = 5) {
  return R"({"base_code":{"magic":"pir","trainable":true,"version":4},)"
         R"("program":{"regions":[{"#":"region_0",)"
         R"("blocks":[{"#":"block_0","args":[],"ops":[)" +
         pir_parameter("b", 1, "[1]") + "," + pir_parameter("w", 2, "[2,2]") +
         R"(,{"#":"1.data","A":[{"N":"name","AT":{"#":"0.a_str","D":"x"}}],"I":[],)"
         R"("O":[{"%":3,"TT":)" +
         pir_tensor("[-1,2]") +
         R"(}]},{"#":"1.matmul","A":[],"I":[{"%":3},{"%":2}],"O":[{"%":4,"TT":)" +
         pir_tensor("[-1,2]") +
         R"(}]},{"#":"1.add","A":[],"I":[{"%":4},{"%":1}],"O":[{"%":5,"TT":)" +
         pir_tensor("[-1,2]") + R"(}]},)" + ops +
         R"({"#":"1.fetch","A":[{"N":"name","AT":{"#":"0.a_str","D":"fetch_name_0"}},)"
         R"({"N":"col","AT":{"#":"0.a_i32","D":0}}],"I":[{"%":)" +
         std::to_string(fetched) + R"(}],"O":[{"%":900,"TT":)" + pir_tensor("[-1,2]") +
         R"(}]}]}]}]}})";
}

}  // namespace trireme::small
