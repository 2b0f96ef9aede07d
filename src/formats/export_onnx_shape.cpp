// Operators that move elements into ONNX.
#include <limits>

#include "formats/export_onnx.h"
#include "ops/shape.h"
#include "trireme/error.h"

namespace trireme {
namespace {

using E = OnnxEmitter;

void reshape(E& e, const Node& node) {
  e.set(node.out(), e.reshape(node, e.get(node.inputs[0]), e.model.dims(node.inputs[0]),
                              e.model.dims(node.out())));
}

void expand(E& e, const Node& node) {
  e.set(node.out(), e.expand(node, e.get(node.inputs[0]), e.model.dims(node.inputs[0]),
                             e.model.dims(node.out())));
}

void transpose(E& e, const Node& node) {
  e.set(node.out(),
        e.op("Transpose", {e.get(node.inputs[0])}, {{"perm", node.get<PermAttrs>().perm}}));
}

void slice(E& e, const Node& node) {
  std::vector<int64_t> starts, ends;
  slice_bounds(e.model, node, starts, ends);
  const auto& a = node.get<SliceAttrs>();
  e.set(node.out(), e.op("Slice", {e.get(node.inputs[0]), e.ints(starts), e.ints(ends),
                                   e.ints(a.axes), e.ints(a.strides)}));
}

void concat(E& e, const Node& node) {
  std::vector<E::Name> in;
  for (const Value* v : node.inputs)
    in.push_back(e.cast(e.get(v), v->type.dtype, node.out()->type.dtype));
  e.set(node.out(), e.op("Concat", in, {{"axis", node.get<AxisAttrs>().axis}}));
}

void tile(E& e, const Node& node) {
  e.same_attrs(node);
  e.set(node.out(), e.op("Tile", {e.get(node.inputs[0]), e.ints(node.get<ShapeAttrs>().shape)}));
}

void flip(E& e, const Node& node) {
  const auto& axes = node.get<ShapeAttrs>().shape;
  const std::vector<int64_t> back(axes.size(), -1);
  const std::vector<int64_t> end(axes.size(), std::numeric_limits<int32_t>::min());
  e.set(node.out(), e.op("Slice", {e.get(node.inputs[0]), e.ints(back), e.ints(end), e.ints(axes),
                                   e.ints(back)}));
}

void pad(E& e, const Node& node) {
  const auto& a = node.get<PadAttrs>();
  e.same_attrs(node);
  if (a.mode == "circular") refuse_export(node, "opset 17 has no mode 'circular'");
  std::vector<int64_t> pads;
  for (size_t side = 0; side < 2; ++side)
    for (size_t i = side; i < a.paddings.size(); i += 2) pads.push_back(a.paddings[i]);
  e.set(
      node.out(),
      e.op("Pad", {e.get(node.inputs[0]), e.ints(pads), e.number(a.value, node.out()->type.dtype)},
           {{"mode", std::string(a.mode == "replicate" ? "edge" : a.mode)}}));
}

constexpr OnnxExport kTable[] = {
    {&ops::reshape_op, reshape}, {&ops::transpose_op, transpose}, {&ops::slice_op, slice},
    {&ops::concat_op, concat},   {&ops::expand_op, expand},       {&ops::tile_op, tile},
    {&ops::pad_op, pad},         {&ops::flip_op, flip},
};

}  // namespace

std::span<const OnnxExport> onnx_shape_exports() { return kTable; }

}  // namespace trireme
