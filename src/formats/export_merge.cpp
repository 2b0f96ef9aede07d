// Batch norms behind convolutions, merged into them before a program is written.
#include <cmath>

#include "formats/export_model.h"
#include "ops/conv.h"
#include "ops/norm.h"

namespace trireme {
namespace {

const float* floats_of(const Value* value) {
  const Array* array = value != nullptr ? constant_of(value) : nullptr;
  return array != nullptr && array->dtype() == DType::kFloat32 ? array->as<float>() : nullptr;
}

// The weights, each times the factor of the channel that it makes.
Array scaled(const Array& weight, const std::vector<double>& factor, bool transposed,
             int64_t groups) {
  Array out(DType::kFloat32, weight.shape());
  const Shape& s = weight.shape();
  const int64_t rest = weight.numel() / (s[0] * s[1]);
  for (int64_t i = 0; i < s[0]; ++i)
    for (int64_t j = 0; j < s[1]; ++j) {
      const int64_t channel = transposed ? i / (s[0] / groups) * s[1] + j : i;
      const int64_t at = (i * s[1] + j) * rest;
      for (int64_t k = at; k < at + rest; ++k)
        out.as<float>()[k] =
            static_cast<float>(weight.as<float>()[k] * factor[static_cast<size_t>(channel)]);
    }
  return out;
}

bool merge(Graph& graph, const Node& norm, Node& conv) {
  const bool transposed = conv.op == &ops::conv2d_transpose_op;
  if (!transposed && conv.op != &ops::conv2d_op) return false;
  const float* numbers[4];
  for (size_t i = 0; i < 4; ++i) {
    numbers[i] = floats_of(norm.inputs[i + 1]);
    if (numbers[i] == nullptr) return false;
  }
  Value* const before = conv.inputs.size() > 2 ? conv.inputs[2] : nullptr;
  const float* bias = floats_of(before);
  if (floats_of(conv.inputs[1]) == nullptr || (before != nullptr && bias == nullptr)) return false;
  const int64_t channels = norm.inputs[1]->type.shape.numel();
  std::vector<double> factor;
  Array added(DType::kFloat32, {channels});
  for (int64_t c = 0; c < channels; ++c) {
    factor.push_back(numbers[0][c] / std::sqrt(numbers[3][c] + norm.get<NormAttrs>().epsilon));
    added.as<float>()[c] = static_cast<float>(
        ((bias != nullptr ? bias[c] : 0.0) - numbers[2][c]) * factor.back() + numbers[1][c]);
  }
  const Value& weight = *conv.inputs[1];
  const Array merged =
      scaled(*constant_of(&weight), factor, transposed, conv.get<Conv2dAttrs>().groups);
  conv.inputs.resize(3, nullptr);
  conv.inputs[1] = graph.add_constant(merged, weight.name);
  conv.inputs[2] = graph.add_constant(added, (before != nullptr ? before : norm.inputs[2])->name);
  return true;
}

}  // namespace

void merge_batch_norms(Graph& graph) {
  const auto uses = graph.count_uses();
  bool changed = false;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {  // constants come behind them
    const Node& node = *graph.nodes[i];
    if (node.op != &ops::batch_norm_op || uses.at(node.inputs[0]) != 1) continue;
    if (!merge(graph, node, *node.inputs[0]->node)) continue;
    graph.replace_uses(node.out(), node.inputs[0]);
    changed = true;
  }
  if (!changed) return;
  graph.sort();
  graph.drop_unused();
}

}  // namespace trireme
