// Convolutions, products, normalisations, pools and recurrent networks into ONNX.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "formats/export_onnx.h"
#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pool.h"
#include "ops/rnn.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using E = OnnxEmitter;
using Name = E::Name;
using List = std::vector<int64_t>;

// Ours: top, bottom, left, right. ONNX's: the beginnings, then the ends.
List pads_of(const List& p) { return {p[0], p[2], p[1], p[3]}; }

template <bool kTransposed> void conv(E& e, const Node& node) {
  const auto& a = node.get<Conv2dAttrs>();
  e.same_attrs(node);
  const Shape& w = node.inputs[1]->type.shape;
  E::Attrs attrs = {{"kernel_shape", List{w[2], w[3]}},
                    {"strides", a.strides},
                    {"pads", pads_of(a.paddings)},
                    {"dilations", a.dilations},
                    {"group", a.groups}};
  if (kTransposed) attrs.emplace_back("output_padding", a.output_padding);
  e.set(node.out(), e.op(kTransposed ? "ConvTranspose" : "Conv",
                         {e.in(node, 0), e.in(node, 1), e.in(node, 2)}, attrs));
}

// The last two dimensions changed over, where there are two.
Name transposed(E& e, const Node& node, size_t i) {
  const int rank = node.inputs[i]->type.shape.rank();
  if (rank < 2) return e.in(node, i);
  List perm(static_cast<size_t>(rank));
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return e.op("Transpose", {e.in(node, i)}, {{"perm", perm}});
}

void matmul(E& e, const Node& node) {
  const auto& a = node.get<MatmulAttrs>();
  e.same_attrs(node);
  if (!a.perm_x.empty() || !a.perm_y.empty() || !a.perm_out.empty())
    refuse_export(node, "it has permutations of a later pass");
  Name y = e.op("MatMul", {a.transpose_x ? transposed(e, node, 0) : e.in(node, 0),
                           a.transpose_y ? transposed(e, node, 1) : e.in(node, 1)});
  if (const Name bias = e.in(node, 2); !bias.empty()) y = e.op("Add", {y, bias});
  e.set(node.out(), y);
}

// ---- normalisations

float epsilon_of(const Node& node) { return static_cast<float>(node.get<NormAttrs>().epsilon); }

void batch_norm(E& e, const Node& node) {
  std::vector<Name> in;
  for (size_t i = 0; i < 5; ++i) in.push_back(e.in(node, i));
  e.set(node.out(), e.op("BatchNormalization", in, {{"epsilon", epsilon_of(node)}}));
}

// Scale or bias in a shape; `otherwise` where there is none.
Name vector_of(E& e, const Node& node, size_t i, const List& shape, float otherwise) {
  const Value* v = i < node.inputs.size() ? node.inputs[i] : nullptr;
  if (v == nullptr) return e.filled(shape, otherwise);
  Dims to;
  for (const int64_t d : shape) to.push_back({d, d});
  return e.reshape(node, e.get(v), e.model.dims(v), to);
}

void layer_norm(E& e, const Node& node) {
  const auto& a = node.get<NormAttrs>();
  e.same_attrs(node);
  List shape;
  const Dims dims = e.model.dims(node.inputs[0]);
  for (size_t d = static_cast<size_t>(a.axis); d < dims.size(); ++d) {
    if (!dims[d].known()) refuse_export(node, "a normalised dimension is unknown");
    shape.push_back(dims[d].first);
  }
  e.set(node.out(),
        e.op("LayerNormalization",
             {e.in(node, 0), vector_of(e, node, 1, shape, 1), vector_of(e, node, 2, shape, 0)},
             {{"axis", a.axis}, {"epsilon", epsilon_of(node)}}));
}

void instance_norm(E& e, const Node& node) {
  const List shape{node.inputs[0]->type.shape[1]};
  e.set(node.out(),
        e.op("InstanceNormalization",
             {e.in(node, 0), vector_of(e, node, 1, shape, 1), vector_of(e, node, 2, shape, 0)},
             {{"epsilon", epsilon_of(node)}}));
}

// Opset 17 has none: groups become the channels of an instance norm.
void group_norm(E& e, const Node& node) {
  const auto& a = node.get<NormAttrs>();
  e.same_attrs(node);
  const Dims dims = e.model.dims(node.inputs[0]);
  const Name grouped = e.op("Reshape", {e.in(node, 0), e.ints({0, a.groups, -1})});
  const Name plain =
      e.op("InstanceNormalization", {grouped, e.filled({a.groups}, 1), e.filled({a.groups}, 0)},
           {{"epsilon", epsilon_of(node)}});
  Name y = e.op("Reshape", {plain, e.op("Shape", {e.in(node, 0)})});
  List shape(dims.size() - 1, 1);
  shape[0] = dims[1].first;
  if (node.inputs.size() > 1 && node.inputs[1] != nullptr)
    y = e.op("Mul", {y, vector_of(e, node, 1, shape, 1)});
  if (node.inputs.size() > 2 && node.inputs[2] != nullptr)
    y = e.op("Add", {y, vector_of(e, node, 2, shape, 0)});
  e.set(node.out(), y);
}

// ---- pools and resizing

void pool2d(E& e, const Node& node) {
  const auto& a = node.get<Pool2dAttrs>();
  e.same_attrs(node);
  const bool max = a.pooling_type == "max";
  if (a.adaptive && a.kernel == List{1, 1})
    return e.set(node.out(), e.op(max ? "GlobalMaxPool" : "GlobalAveragePool", {e.in(node, 0)}));
  List kernel = a.kernel, strides = a.strides;
  if (a.adaptive) {
    const Dims in = e.model.dims(node.inputs[0]);
    for (size_t i = 0; i < 2; ++i) {
      const Dim& size = in[i + 2];
      if (!size.known() || size.first % a.kernel[i] != 0)
        refuse_export(node, "adaptive windows that are not all of one size");
      kernel[i] = strides[i] = size.first / a.kernel[i];
    }
  }
  E::Attrs attrs = {{"kernel_shape", kernel},
                    {"strides", strides},
                    {"pads", a.adaptive ? List(4, 0) : pads_of(a.paddings)},
                    {"ceil_mode", int64_t{a.ceil_mode}}};
  if (!max) attrs.emplace_back("count_include_pad", int64_t{!a.exclusive});
  e.set(node.out(), e.op(max ? "MaxPool" : "AveragePool", {e.in(node, 0)}, attrs));
}

template <bool kLinear> void interp(E& e, const Node& node) {
  const auto& a = node.get<InterpAttrs>();
  const std::vector<double> factors = resize_factors(e.model, node);
  std::vector<Name> in{e.in(node, 0), ""};
  if (factors.empty()) {
    in.push_back("");
    in.push_back(e.shape_of(node, e.model.dims(node.out())));
  } else {
    const std::vector<float> scales{1, 1, static_cast<float>(factors[0]),
                                    static_cast<float>(factors[1])};
    in.push_back(e.initializer(Array::from<float>(Shape{4}, scales, DType::kFloat32), "scales"));
  }
  const std::string mode = a.align_corners                ? "align_corners"
                           : kLinear && a.align_mode == 0 ? "half_pixel"
                                                          : "asymmetric";
  E::Attrs attrs = {{"mode", std::string(kLinear ? "linear" : "nearest")},
                    {"coordinate_transformation_mode", mode}};
  if (!kLinear)
    attrs.emplace_back("nearest_mode",
                       std::string(a.align_corners ? "round_prefer_ceil" : "floor"));
  e.set(node.out(), e.op("Resize", in, attrs));
}

// ---- recurrent

// One (layer, direction)'s weights with the gates in ONNX's order, appended to `to`.
void append_gates(const Node& node, const Value* v, const List& order, std::vector<float>& to) {
  const Array* array = constant_of(v);
  if (array == nullptr || array->dtype() != DType::kFloat32)
    refuse_export(node, "weights that are no float32 constants");
  const int64_t gate = array->numel() / static_cast<int64_t>(order.size());
  for (const int64_t g : order)
    to.insert(to.end(), array->as<float>() + g * gate, array->as<float>() + (g + 1) * gate);
}

struct Cell {
  const char* type;
  List gates;  // ONNX's order, as indices of Paddle's
};

Cell cell_of(const std::string& mode) {
  if (mode == "LSTM") return {"LSTM", {0, 3, 1, 2}};  // i f g o -> i o f g
  if (mode == "GRU") return {"GRU", {1, 0, 2}};       // r z c -> z r c
  return {"RNN", {0}};
}

// W, R and B of one layer.
std::vector<Name> layer_weights(E& e, const Node& node, const Cell& cell, int64_t layer,
                                int64_t directions, int64_t layers, int64_t hidden) {
  std::vector<float> w, r, b;
  const auto weight = [&](int64_t i) { return node.inputs[static_cast<size_t>(4 + i)]; };
  for (int64_t d = 0; d < directions; ++d) {
    const int64_t at = 2 * (layer * directions + d);
    append_gates(node, weight(at), cell.gates, w);
    append_gates(node, weight(at + 1), cell.gates, r);
    for (int64_t k = 0; k < 2; ++k)
      append_gates(node, weight(2 * layers * directions + at + k), cell.gates, b);
  }
  const auto rows = static_cast<int64_t>(cell.gates.size()) * hidden;
  const std::string name = weight(2 * layer * directions)->name;
  const auto put = [&](const std::vector<float>& data, int64_t columns, const char* suffix) {
    const Shape shape =
        columns == 0 ? Shape{directions, 2 * rows} : Shape{directions, rows, columns};
    return e.initializer(Array::from<float>(shape, data, DType::kFloat32), name + suffix);
  };
  return {put(w, static_cast<int64_t>(w.size()) / (directions * rows), ".W"), put(r, hidden, ".R"),
          put(b, 0, ".B")};
}

void rnn(E& e, const Node& node) {
  const auto& a = node.get<RnnAttrs>();
  e.same_attrs(node);
  const Cell cell = cell_of(a.mode);
  const bool lstm = a.mode == "LSTM";
  const int64_t directions = a.is_bidirec ? 2 : 1;
  E::Attrs attrs = {{"hidden_size", a.hidden_size},
                    {"direction", std::string(a.is_bidirec ? "bidirectional" : "forward")}};
  if (a.mode == "GRU") attrs.emplace_back("linear_before_reset", int64_t{1});
  if (a.mode == "RNN_RELU") refuse_export(node, "mode RNN_RELU");
  Name x = e.in(node, 0), lengths = e.in(node, 3);
  if (!lengths.empty()) lengths = e.cast(lengths, node.inputs[3]->type.dtype, DType::kInt32);
  const auto part = [&](size_t i, int64_t layer) {
    if (a.num_layers == 1) return e.in(node, i);
    return e.op("Slice", {e.in(node, i), e.ints({layer * directions}),
                          e.ints({(layer + 1) * directions}), e.ints({0})});
  };
  std::vector<Name> h, c;
  for (int64_t layer = 0; layer < a.num_layers; ++layer) {
    std::vector<Name> in{x};
    for (Name& w : layer_weights(e, node, cell, layer, directions, a.num_layers, a.hidden_size))
      in.push_back(std::move(w));
    in.push_back(lengths);
    in.push_back(part(1, layer));
    if (lstm) in.push_back(part(2, layer));
    const auto out = e.ops(cell.type, in, lstm ? 3 : 2, attrs);
    // [T, D, B, H] -> [T, B, D H]
    x = e.op("Reshape",
             {e.op("Transpose", {out[0]}, {{"perm", List{0, 2, 1, 3}}}), e.ints({0, 0, -1})});
    h.push_back(out[1]);
    if (lstm) c.push_back(out[2]);
  }
  const auto joined = [&](const std::vector<Name>& parts) {
    return parts.size() == 1 ? parts[0] : e.op("Concat", parts, {{"axis", int64_t{0}}});
  };
  e.set(node.out(0), x);
  e.set(node.out(1), joined(h));
  e.set(node.out(2), joined(lstm ? c : h));
}

constexpr OnnxExport kTable[] = {
    {&ops::conv2d_op, conv<false>},
    {&ops::conv2d_transpose_op, conv<true>},
    {&ops::matmul_op, matmul},
    {&ops::batch_norm_op, batch_norm},
    {&ops::layer_norm_op, layer_norm},
    {&ops::group_norm_op, group_norm},
    {&ops::instance_norm_op, instance_norm},
    {&ops::pool2d_op, pool2d},
    {&ops::nearest_interp_op, interp<false>},
    {&ops::bilinear_interp_op, interp<true>},
    {&ops::rnn_op, rnn},
};

}  // namespace

std::span<const OnnxExport> onnx_nn_exports() { return kTable; }

}  // namespace trireme
