// Operators that move or rename elements without computing.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct ShapeAttrs {
  std::vector<int64_t> shape{};
  static const Field fields[];
};
inline constexpr Field ShapeAttrs::fields[] = {TRI_FIELD(ShapeAttrs, shape)};

struct PermAttrs {
  std::vector<int64_t> perm{};
  static const Field fields[];
};
inline constexpr Field PermAttrs::fields[] = {TRI_FIELD(PermAttrs, perm)};

struct SliceAttrs {
  std::vector<int64_t> axes{}, starts{}, ends{},
      strides{};  // normalised by slice(): 0 <= start, stride != 0
  static const Field fields[];
};
inline constexpr Field SliceAttrs::fields[] = {
    TRI_FIELD(SliceAttrs, axes), TRI_FIELD(SliceAttrs, starts), TRI_FIELD(SliceAttrs, ends),
    TRI_FIELD(SliceAttrs, strides)};

struct AxisAttrs {
  int64_t axis = 0;
  static const Field fields[];
};
inline constexpr Field AxisAttrs::fields[] = {TRI_FIELD(AxisAttrs, axis)};

struct PadAttrs {
  std::vector<int64_t> paddings{};  // before, after of every dimension, outermost first
  std::string mode = "constant";    // or "reflect", "replicate", "circular"
  double value = 0;
  static const Field fields[];
};
inline constexpr Field PadAttrs::fields[] = {TRI_FIELD(PadAttrs, paddings),
                                             TRI_FIELD(PadAttrs, mode), TRI_FIELD(PadAttrs, value)};

struct DiagonalAttrs {
  int64_t offset = 0, axis1 = 0, axis2 = 1;
  std::vector<int64_t> shape{};  // diag_embed: of the result
  static const Field fields[];
};
inline constexpr Field DiagonalAttrs::fields[] = {
    TRI_FIELD(DiagonalAttrs, offset), TRI_FIELD(DiagonalAttrs, axis1),
    TRI_FIELD(DiagonalAttrs, axis2), TRI_FIELD(DiagonalAttrs, shape)};

namespace ops {
extern const Op reshape_op;     // (x): a view; attrs.shape is complete
extern const Op transpose_op;   // (x)
extern const Op slice_op;       // (x), strides too
extern const Op concat_op;      // (x...), along axis
extern const Op expand_op;      // (x): broadcast to attrs.shape
extern const Op tile_op;        // (x): attrs.shape is repeat_times, one a dimension
extern const Op pad_op;         // (x)
extern const Op diagonal_op;    // (x) -> [others..., length]
extern const Op diag_embed_op;  // (diagonals [others..., length]) -> attrs.shape, zeros around
extern const Op flip_op;        // (x): attrs.shape lists the axes
extern const Op
    reorder_op;  // (x): the same elements in attrs.axis == 1 channels-last, 0 row-major layout

// Paddle's conventions for each: negative axes, -1 and 0 in reshape, clamped slice bounds.
Value* reshape(Value* x, std::vector<int64_t> shape);
Value* transpose(Value* x, std::vector<int64_t> perm);
Value* squeeze(Value* x, std::vector<int64_t> axes);  // no axes: every dimension of 1
Value* unsqueeze(Value* x, std::vector<int64_t> axes);
Value* flatten(Value* x, int64_t start_axis, int64_t stop_axis);
Value* slice(Value* x, std::vector<int64_t> axes, std::vector<int64_t> starts,
             std::vector<int64_t> ends, std::vector<int64_t> strides = {});
std::vector<Value*> split(Value* x, const std::vector<int64_t>& sections, int64_t axis);
Value* concat(const std::vector<Value*>& xs, int64_t axis);
Value* stack(const std::vector<Value*>& xs, int64_t axis);
Value* expand(Value* x, std::vector<int64_t> shape);
Value* tile(Value* x, std::vector<int64_t> repeat_times);
Value* pad(Value* x, std::vector<int64_t> paddings, const std::string& mode, double value);
Value* flip(Value* x, std::vector<int64_t> axes);
Value* diagonal(Value* x, int64_t offset, int64_t axis1, int64_t axis2);
Value* diag_embed(Value* x, int64_t offset, int64_t axis1, int64_t axis2);  // square matrices
Value* diag(Value* x, int64_t offset = 0, double padding_value = 0);        // to and from a matrix
Value* tril(Value* x, int64_t diagonal = 0);
Value* triu(Value* x, int64_t diagonal = 0);
Value* roll(Value* x, std::vector<int64_t> shifts, std::vector<int64_t> axes);  // no axes: flat
Value* repeat_interleave(Value* x, int64_t repeats, int64_t axis);
std::vector<Value*> unbind(Value* x, int64_t axis);
std::vector<Value*> meshgrid(const std::vector<Value*>& xs);
Value* eye(int64_t rows, int64_t columns, DType dtype);
Value* linspace(double start, double stop, int64_t count, DType dtype);  // a constant
Value* full(const std::vector<int64_t>& shape, double value,
            DType dtype);  // a constant (expanded when large)
Value* arange(double start, double end, double step, DType dtype);  // a constant
Value* shape_of(Value* x, DType dtype);                             // a constant: shapes are known
Value* reorder(Value* x, Layout layout);
}  // namespace ops
}  // namespace trireme
