// Weights of a released inference model into a network, by the order of use.
#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <unordered_map>

#include "formats/program.h"
#include "trireme/models_ocr.h"

namespace trireme::models {
namespace {

struct Released {
  std::vector<std::pair<std::string, Array>> parameters, statistics;
};

// A norm's scale stands before its bias in a layer, whatever the file's order.
int rank_of(const std::string& slot) {
  return slot == "Bias" ? 1 : slot == "Mean" ? 2 : slot == "Variance" ? 3 : 0;
}

Released in_order_of_use(const Program& program) {
  const ForeignProgram& foreign = program.foreign();
  Released all;
  std::set<int> seen;
  for (const ForeignOp& op : foreign.body.ops) {
    std::vector<std::pair<int, int>> used;  // rank of the slot, value
    for (const ForeignSlot& slot : op.inputs)
      for (const int value : slot.values) used.emplace_back(rank_of(slot.name), value);
    std::stable_sort(used.begin(), used.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [rank, value] : used)
      for (size_t i = 0; i < foreign.parameters.size(); ++i) {
        const ForeignParameter& p = foreign.parameters[i];
        if (p.value != value || p.dtype != DType::kFloat32 || p.shape.rank() == 0) continue;
        if (!seen.insert(value).second) continue;
        (rank >= 2 ? all.statistics : all.parameters).emplace_back(p.name, program.tensors()[i]);
      }
  }
  return all;
}

void fill(const nn::StateDict& own, const std::vector<std::pair<std::string, Array>>& values,
          nn::StateDict& state) {
  size_t next = 0;
  for (const auto& [name, tensor] : own) {
    if (next == values.size()) {
      TRI_CHECK(name.starts_with("head.thresh"),
                "[load_released] the model has nothing for " + name + "; is this its network?");
      continue;
    }
    const auto& [from, array] = values[next++];
    TRI_CHECK(array.shape() == tensor.shape(),
              "[load_released] " + name + " " + tensor.shape().str() + " met " + from + " " +
                  array.shape().str() + "; is this the network's deploy form?");
    state.emplace_back(name, Tensor(array));
  }
  TRI_CHECK(next == values.size(), "[load_released] the model has " +
                                       std::to_string(values.size() - next) +
                                       " values more than the network");
}

// One convolution and its bias, as sums over branches.
struct Merged {
  Array weight, bias;  // float32
  int64_t inner = 0, kernel = 0;

  explicit Merged(const Shape& shape)
      : weight(DType::kFloat32, shape),
        bias(DType::kFloat32, Shape{shape[0]}),
        inner(shape[1]),
        kernel(shape[2]) {
    std::fill_n(weight.as<float>(), weight.numel(), 0.F);
    std::fill_n(bias.as<float>(), bias.numel(), 0.F);
  }
  // A batch norm behind a kernel of side k (null: the identity).
  void add(const std::function<Array(const char*)>& norm, const float* w, int64_t k) {
    constexpr double kEpsilon = 1e-5;
    const Array scale = norm("weight"), shift = norm("bias"), mean = norm("_mean"),
                variance = norm("_variance");
    const int64_t edge = (kernel - k) / 2, field = kernel * kernel;
    for (int64_t o = 0; o < bias.numel(); ++o) {
      const double f =
          scale.as<float>()[o] / std::sqrt(static_cast<double>(variance.as<float>()[o]) + kEpsilon);
      bias.as<float>()[o] += static_cast<float>(shift.as<float>()[o] - mean.as<float>()[o] * f);
      float* to = weight.as<float>() + o * inner * field;
      if (w == nullptr) {  // each output's own input
        to[(inner == 1 ? 0 : o) * field + field / 2] += static_cast<float>(f);
        continue;
      }
      for (int64_t i = 0; i < inner * k * k; ++i) {
        const int64_t y = i / k % k + edge, x = i % k + edge;
        to[i / (k * k) * field + y * kernel + x] +=
            static_cast<float>(f * w[o * inner * k * k + i]);
      }
    }
  }
};

}  // namespace

nn::StateDict merged_branches(const nn::Layer& trained) {
  const nn::StateDict state = trained.state_dict();
  std::unordered_map<std::string, Tensor> by_name(state.begin(), state.end());
  const auto array = [&](const std::string& name) { return by_name.at(name).numpy(); };
  const auto norm = [&](const std::string& prefix) {
    return [=](const char* what) { return array(prefix + what); };
  };
  const auto merged = [&](const std::string& prefix) {
    Merged m(array(prefix + "conv_kxk.0.0.weight").shape());
    const auto branch = [&](const std::string& name) {
      if (!by_name.contains(name + "0.weight")) return false;
      const Array w = array(name + "0.weight");
      m.add(norm(name + "1."), w.as<float>(), w.shape()[2]);
      return true;
    };
    for (int i = 0; branch(prefix + "conv_kxk." + std::to_string(i) + '.'); ++i) {}
    (void)branch(prefix + "conv_1x1.");
    if (by_name.contains(prefix + "identity.weight")) m.add(norm(prefix + "identity."), nullptr, 1);
    return m;
  };
  nn::StateDict result;
  for (const auto& [name, tensor] : state) {
    const size_t at = name.find("conv_kxk.");
    if (at != std::string::npos) {
      if (name.substr(at) != "conv_kxk.0.0.weight") continue;
      const std::string prefix = name.substr(0, at);
      const Merged m = merged(prefix);
      result.emplace_back(prefix + "reparam_conv.0.weight", Tensor(m.weight));
      result.emplace_back(prefix + "reparam_conv.0.bias", Tensor(m.bias));
    } else if (name.find("conv_1x1.") == std::string::npos &&
               name.find("identity.") == std::string::npos) {
      result.emplace_back(name, tensor);
    }
  }
  return result;
}

void load_released(nn::Layer& network, const std::string& model, const std::string& params) {
  const std::shared_ptr<const Program> program = load_program(model, params);
  const Released released = in_order_of_use(*program);
  nn::StateDict state;
  fill(network.named_parameters(), released.parameters, state);
  fill(network.named_buffers(), released.statistics, state);
  (void)network.set_state_dict(state, false);
}

}  // namespace trireme::models
