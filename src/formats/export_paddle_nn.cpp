// Convolutions, products, normalisations, pools and recurrent networks into Paddle's formats.
#include "formats/export_paddle.h"
#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pool.h"
#include "ops/rnn.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using E = PaddleEmitter;

// [C] as dimension 1 of an operand of this rank.
OutId along_channels(E& e, const Node& node, const Value* vector, int rank) {
  Dims to(static_cast<size_t>(rank), Dim{1, 1});
  to[1] = e.model.dims(vector)[0];
  return e.reshape(node, e.get(vector), e.model.dims(vector), to);
}

// Two numbers where both sides of each dimension agree, as Paddle's own programs have them.
std::vector<int32_t> paddings_of(const std::vector<int64_t>& p) {
  if (p[0] == p[1] && p[2] == p[3]) return list_as<int32_t>(std::vector<int64_t>{p[0], p[2]});
  return list_as<int32_t>(p);
}

template <bool kTransposed> void conv(E& e, const Node& node) {
  const auto& a = node.get<Conv2dAttrs>();
  e.same_attrs(node);
  const Shape& w = node.inputs[1]->type.shape;
  const int64_t channels = node.inputs[0]->type.shape[1];
  const bool depthwise = a.groups > 1 && a.groups == channels && w[1] == 1;
  OutType type = e.type_of(node.out());
  std::vector<OutAttr> attrs = {
      {"strides", list_as<int32_t>(a.strides)},       {"paddings", paddings_of(a.paddings)},
      {"padding_algorithm", std::string("EXPLICIT")}, {"groups", static_cast<int32_t>(a.groups)},
      {"dilations", list_as<int32_t>(a.dilations)},   {"data_format", std::string("NCHW")}};
  std::string_view name = depthwise ? "depthwise_conv2d" : "conv2d";
  if (kTransposed) {
    name = "conv2d_transpose";
    const bool extra = a.output_padding[0] != 0 || a.output_padding[1] != 0;
    attrs.push_back(
        {"output_padding", extra ? list_as<int32_t>(a.output_padding) : std::vector<int32_t>{}});
    attrs.push_back({"output_size", std::vector<int32_t>{}, "OutputSizeTensor"});
  }
  OutId y = e.op(name, {{"Input", {e.get(node.inputs[0])}}, {"Filter", {e.get(node.inputs[1])}}},
                 "Output", type, attrs);
  if (node.inputs.size() > 2 && node.inputs[2] != nullptr)
    y = e.binary("elementwise_add|add", y, along_channels(e, node, node.inputs[2], 4), type);
  e.set(node.out(), y);
}

void matmul(E& e, const Node& node) {
  const auto& a = node.get<MatmulAttrs>();
  e.same_attrs(node);
  if (!a.perm_x.empty() || !a.perm_y.empty() || !a.perm_out.empty())
    refuse_export(node, "it has permutations of a later pass");
  const OutType type = e.type_of(node.out());
  OutId y =
      e.op("matmul_v2|matmul", {{"X", {e.get(node.inputs[0])}}, {"Y", {e.get(node.inputs[1])}}},
           "Out", type, {{"trans_x", a.transpose_x}, {"trans_y", a.transpose_y}});
  if (node.inputs.size() > 2 && node.inputs[2] != nullptr)
    y = e.binary("elementwise_add|add", y, e.get(node.inputs[2]), type);
  e.set(node.out(), y);
}

// ---- normalisations

void batch_norm(E& e, const Node& node) {
  const auto id = [&](size_t i) { return e.get(node.inputs[i]); };
  const OutType channel = e.sink.type(id(1));
  OutOp op{"batch_norm", "batch_norm_", {}, {}, {}, {}, {}, {}};
  op.inputs = {{"X", {id(0)}},
               {"Scale", {id(1)}},
               {"Bias", {id(2)}},
               {"Mean", {id(3)}},
               {"Variance", {id(4)}}};
  op.results = {{"Y", {e.type_of(node.out())}}, {"MeanOut", {channel}},
                {"VarianceOut", {channel}},     {"SavedMean", {channel}},
                {"SavedVariance", {channel}},   {"ReserveSpace", {{DType::kUInt8, {-1}}}}};
  op.attrs = {{"is_test", true},
              {"momentum", 0.9f},
              {"epsilon", static_cast<float>(node.get<NormAttrs>().epsilon)},
              {"data_layout", std::string("NCHW")},
              {"use_global_stats", true},
              {"trainable_statistics", false}};
  e.set(node.out(), e.sink.op(std::move(op))[0]);
}

// A scale or bias of any shape as a list; 0 when absent.
OutId flat(E& e, const Node& node, size_t i) {
  if (i >= node.inputs.size() || node.inputs[i] == nullptr) return 0;
  const Value* v = node.inputs[i];
  const int64_t n = v->type.shape.numel();
  return e.reshape(node, e.get(v), e.model.dims(v), {Dim{n, n}});
}

// X, Scale and Bias to Y and two statistics, whose names in the legacy format are given.
void norm(E& e, const Node& node, const std::string& name, const std::string& mean,
          const std::string& variance, const OutType& statistic, std::vector<OutAttr> attrs) {
  e.same_attrs(node);
  OutOp op{name, name, {}, {}, std::move(attrs), {}, {}, {}};
  op.inputs = {
      {"X", {e.get(node.inputs[0])}}, {"Scale", {flat(e, node, 1)}}, {"Bias", {flat(e, node, 2)}}};
  op.results = {{"Y", {e.type_of(node.out())}}, {mean, {statistic}}, {variance, {statistic}}};
  e.set(node.out(), e.sink.op(std::move(op))[0]);
}

void layer_norm(E& e, const Node& node) {
  const auto& a = node.get<NormAttrs>();
  OutType statistic = e.type_of(node.out());
  statistic.dims.resize(static_cast<size_t>(a.axis));
  norm(e, node, "layer_norm", "Mean", "Variance", statistic,
       {{"epsilon", static_cast<float>(a.epsilon)},
        {"begin_norm_axis", static_cast<int32_t>(a.axis)}});
}

void group_norm(E& e, const Node& node) {
  const auto& a = node.get<NormAttrs>();
  norm(e, node, "group_norm", "Mean", "Variance",
       {DType::kFloat32, {e.type_of(node.out()).dims[0], a.groups}},
       {{"epsilon", a.epsilon},
        {"groups", static_cast<int32_t>(a.groups)},
        {"data_layout", std::string("NCHW")}});
}

void instance_norm(E& e, const Node& node) {
  norm(e, node, "instance_norm", "SavedMean", "SavedVariance", {DType::kFloat32, {-1}},
       {{"epsilon", static_cast<float>(node.get<NormAttrs>().epsilon)}});
}

// ---- pools and resizing

void pool2d(E& e, const Node& node) {
  const auto& a = node.get<Pool2dAttrs>();
  e.same_attrs(node);
  std::vector<OutAttr> attrs = {{"ksize", list_as<int32_t>(a.kernel), "ksize"},
                                {"strides", a.strides},
                                {"paddings", list_as<int64_t>(paddings_of(a.paddings))},
                                {"ceil_mode", a.ceil_mode},
                                {"exclusive", a.exclusive},
                                {"data_format", std::string("NCHW")},
                                {"pooling_type", a.pooling_type},
                                {"global_pooling", false},
                                {"adaptive", a.adaptive},
                                {"padding_algorithm", std::string("EXPLICIT")}};
  e.set(node.out(),
        e.op("pool2d", {{"X", {e.get(node.inputs[0])}}}, "Out", e.type_of(node.out()), attrs));
}

template <bool kLinear> void interp(E& e, const Node& node) {
  const auto& a = node.get<InterpAttrs>();
  const std::vector<double> factors = resize_factors(e.model, node);
  const bool by_size = factors.empty();
  e.set(node.out(),
        e.op(kLinear ? "bilinear_interp_v2|bilinear_interp" : "nearest_interp_v2|nearest_interp",
             {{"X", {e.get(node.inputs[0])}}}, "Out", e.type_of(node.out()),
             {{"data_layout", std::string("NCHW")},
              {"out_d", int32_t{-1}},
              {"out_h", static_cast<int32_t>(by_size ? a.size[0] : -1)},
              {"out_w", static_cast<int32_t>(by_size ? a.size[1] : -1)},
              {"scale", factors},
              {"interp_method", std::string(kLinear ? "bilinear" : "nearest")},
              {"align_corners", a.align_corners},
              {"align_mode", static_cast<int32_t>(a.align_mode)}}));
}

// ---- recurrent

void rnn(E& e, const Node& node) {
  const auto& a = node.get<RnnAttrs>();
  e.same_attrs(node);
  const bool lstm = a.mode == "LSTM";
  std::vector<OutId> states{e.get(node.inputs[1])}, weights;
  if (lstm) states.push_back(e.get(node.inputs[2]));
  for (size_t i = 4; i < node.inputs.size(); ++i) weights.push_back(e.get(node.inputs[i]));
  const OutType state = e.type_of(node.out(1));
  OutOp op{"rnn", "rnn", {}, {}, {}, {}, {}, {}};
  op.inputs = {{"Input", {e.get(node.inputs[0])}},
               {"PreState", states, true},
               {"WeightList", weights, true},
               {"SequenceLength", {e.get(node.inputs[3])}}};
  op.results = {{"Out", {e.type_of(node.out(0))}},
                {"DropoutState", {{DType::kUInt8, {}}}},
                {"State", std::vector<OutType>(lstm ? 2 : 1, state), true},
                {"Reserve", {{DType::kUInt8, {}}}}};
  op.attrs = {{"dropout_prob", 0.0f},
              {"is_bidirec", a.is_bidirec},
              {"input_size", static_cast<int32_t>(node.inputs[0]->type.shape.back())},
              {"hidden_size", static_cast<int32_t>(a.hidden_size)},
              {"num_layers", static_cast<int32_t>(a.num_layers)},
              {"mode", a.mode},
              {"seed", int32_t{0}},
              {"is_test", true}};
  const auto ids = e.sink.op(std::move(op));
  e.set(node.out(0), ids[0]);
  e.set(node.out(1), ids[2]);
  e.set(node.out(2), ids[lstm ? 3 : 2]);
}

constexpr PaddleExport kTable[] = {
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

std::span<const PaddleExport> paddle_nn_exports() { return kTable; }

}  // namespace trireme
