// Operators that move elements into Paddle's formats.
#include <limits>

#include "formats/export_paddle.h"
#include "ops/shape.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using E = PaddleEmitter;

void reshape(E& e, const Node& node) {
  e.set(node.out(), e.reshape(node, e.get(node.inputs[0]), e.model.dims(node.inputs[0]),
                              e.model.dims(node.out())));
}

void expand(E& e, const Node& node) { e.set(node.out(), e.broadcast(node, 0)); }

void transpose(E& e, const Node& node) {
  e.set(node.out(),
        e.transpose(e.get(node.inputs[0]), list_as<int32_t>(node.get<PermAttrs>().perm)));
}

void slice(E& e, const Node& node) {
  std::vector<int64_t> starts, ends;
  const auto& a = node.get<SliceAttrs>();
  slice_bounds(e.model, node, starts, ends);
  bool steps = false;
  for (const int64_t s : a.strides) steps = steps || s != 1;
  std::vector<OutAttr> attrs = {{"starts", starts, "StartsTensor"}, {"ends", ends, "EndsTensor"}};
  // PIR's slice has lists of int64, its strided_slice of int32.
  if (steps) {
    attrs.push_back({"strides", a.strides, "StridesTensor"});
    attrs.push_back({"axes", list_as<int32_t>(a.axes)});
  } else {
    attrs.push_back({"axes", a.axes});
  }
  attrs.push_back({"infer_flags", std::vector<int64_t>(a.axes.size(), 1)});
  attrs.push_back({"decrease_axis", std::vector<int64_t>{}});
  e.set(node.out(), e.op(steps ? "strided_slice" : "slice", {{"Input", {e.get(node.inputs[0])}}},
                         "Out", e.type_of(node.out()), attrs));
}

void concat(E& e, const Node& node) {
  const DType dtype = node.out()->type.dtype;
  OutSlot xs{"X", {}, true};
  for (const Value* v : node.inputs) xs.values.push_back(e.cast(e.get(v), dtype));
  e.set(node.out(),
        e.op("concat", {xs}, "Out", e.type_of(node.out()),
             {{"axis", static_cast<int32_t>(node.get<AxisAttrs>().axis), "AxisTensor"}}));
}

void tile(E& e, const Node& node) {
  e.same_attrs(node);
  e.set(node.out(),
        e.op("tile", {{"X", {e.get(node.inputs[0])}}}, "Out", e.type_of(node.out()),
             {{"repeat_times", list_as<int32_t>(node.get<ShapeAttrs>().shape), "RepeatTimes"}}));
}

void flip(E& e, const Node& node) {
  e.set(node.out(), e.unary("flip", e.get(node.inputs[0]),
                            {{"axis", list_as<int32_t>(node.get<ShapeAttrs>().shape)}}));
}

// Any dimension by zeros or a value; by other modes the spatial ones alone, through rank 5.
void pad(E& e, const Node& node) {
  const auto& a = node.get<PadAttrs>();
  e.same_attrs(node);
  const OutId x = e.get(node.inputs[0]);
  const OutType type = e.type_of(node.out());
  if (a.mode == "constant") {
    return e.set(node.out(),
                 e.op("pad", {{"X", {x}}}, "Out", type,
                      {{"paddings", list_as<int32_t>(a.paddings)},
                       {"pad_value", static_cast<float>(a.value), "pad_value", DType::kFloat32}}));
  }
  const int rank = node.inputs[0]->type.shape.rank();
  if (rank < 3 || rank > 5 || a.paddings[0] + a.paddings[1] + a.paddings[2] + a.paddings[3] != 0)
    refuse_export(node, "mode '" + a.mode + "' pads more than the spatial dimensions");
  const auto to_five = [&](Dims dims) {
    dims.insert(dims.begin() + 2, static_cast<size_t>(5 - rank), Dim{1, 1});
    return dims;
  };
  std::vector<int32_t> paddings;
  for (int d = rank - 1; d >= 2; --d)
    for (int side = 0; side < 2; ++side)
      paddings.push_back(static_cast<int32_t>(a.paddings[static_cast<size_t>(2 * d + side)]));
  paddings.resize(6, 0);
  const Dims in = e.model.dims(node.inputs[0]), out = e.model.dims(node.out());
  const OutId y = e.op("pad3d", {{"X", {e.reshape(node, x, in, to_five(in))}}}, "Out",
                       E::type_of(type.dtype, to_five(out)),
                       {{"paddings", paddings, "Paddings"},
                        {"mode", a.mode},
                        {"value", a.value},
                        {"data_format", std::string("NCDHW")}});
  e.set(node.out(), e.reshape(node, y, to_five(out), out));
}

constexpr PaddleExport kTable[] = {
    {&ops::reshape_op, reshape}, {&ops::transpose_op, transpose}, {&ops::slice_op, slice},
    {&ops::concat_op, concat},   {&ops::expand_op, expand},       {&ops::tile_op, tile},
    {&ops::pad_op, pad},         {&ops::flip_op, flip},
};

}  // namespace

std::span<const PaddleExport> paddle_shape_exports() { return kTable; }

}  // namespace trireme
