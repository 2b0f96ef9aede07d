// Operators that pick or place elements by index, sort, count.
#pragma once

#include "graph/graph.h"
#include "ops/shape.h"

namespace trireme {

struct TopkAttrs {
  int64_t k = 1, axis = -1;
  bool largest = true, sorted = true;
  static const Field fields[];
};
inline constexpr Field TopkAttrs::fields[] = {TRI_FIELD(TopkAttrs, k), TRI_FIELD(TopkAttrs, axis),
                                              TRI_FIELD(TopkAttrs, largest),
                                              TRI_FIELD(TopkAttrs, sorted)};

struct ArgAttrs {
  int64_t axis = 0;
  bool keepdim = false, flatten = false, min = false;
  DType dtype = DType::kInt64;
  static const Field fields[];
};
inline constexpr Field ArgAttrs::fields[] = {
    TRI_FIELD(ArgAttrs, axis), TRI_FIELD(ArgAttrs, keepdim), TRI_FIELD(ArgAttrs, flatten),
    TRI_FIELD(ArgAttrs, min), TRI_FIELD(ArgAttrs, dtype)};

struct CumsumAttrs {
  int64_t axis = 0;
  bool flatten = false, exclusive = false, reverse = false;
  static const Field fields[];
};
inline constexpr Field CumsumAttrs::fields[] = {
    TRI_FIELD(CumsumAttrs, axis), TRI_FIELD(CumsumAttrs, flatten),
    TRI_FIELD(CumsumAttrs, exclusive), TRI_FIELD(CumsumAttrs, reverse)};

struct OneHotAttrs {
  int64_t depth = 1;
  static const Field fields[];
};
inline constexpr Field OneHotAttrs::fields[] = {TRI_FIELD(OneHotAttrs, depth)};

struct PutAttrs {
  int64_t axis = 0;
  bool add = false;  // else assign
  static const Field fields[];
};
inline constexpr Field PutAttrs::fields[] = {TRI_FIELD(PutAttrs, axis), TRI_FIELD(PutAttrs, add)};

struct EmbeddingGradAttrs {
  int64_t rows = 0, padding_idx = -1;
  static const Field fields[];
};
inline constexpr Field EmbeddingGradAttrs::fields[] = {TRI_FIELD(EmbeddingGradAttrs, rows),
                                                       TRI_FIELD(EmbeddingGradAttrs, padding_idx)};

namespace ops {
extern const Op gather_op;     // (x, index int32/int64 of any rank): along attrs.axis
extern const Op gather_nd_op;  // (x, index [..., k])
extern const Op embedding_op;  // (weight [V, D], ids int32/int64) -> ids.shape + [D]; attrs.axis:
                               // padding_idx, -1 none
extern const Op one_hot_op;    // (x int) -> x.shape + [depth] float32
extern const Op topk_op;       // (x) -> values, int64 indices
extern const Op argmax_op;     // (x); attrs.min: arg min
extern const Op cumsum_op;     // (x)
extern const Op cumprod_op;    // (x)
extern const Op cumprod_grad_op;  // (x, dout)
// Values are added in the order of the indices, whatever the number of threads.
extern const Op index_add_op;        // (x, index [n], values): rows along attrs.axis
extern const Op scatter_op;          // (x, index [n], rows [n, ...]): replaced along dimension 0
extern const Op scatter_nd_add_op;   // (x, index [..., k], values)
extern const Op embedding_grad_op;   // (ids, dout [ids..., D]) -> [rows, D]; padding_idx stays zero
extern const Op take_along_axis_op;  // (x, index): shapes agree but along attrs.axis
extern const Op put_along_axis_op;   // (x, index, values of the index's shape)
extern const Op searchsorted_op;     // (sorted [n] or [..., n], values) -> int64
Value* gather(Value* x, Value* index, int64_t axis);  // Paddle's index_select too
Value* index_add(Value* x, Value* index, Value* values, int64_t axis);
Value* index_sample(Value* x, Value* index);
// Paddle's: without overwrite the rows named are zeroed, then added to.
Value* scatter(Value* x, Value* index, Value* values, bool overwrite = true);
Value* scatter_nd_add(Value* x, Value* index, Value* values);
Value* embedding_grad(Value* ids, Value* dout, int64_t rows, int64_t padding_idx);
Value* take_along_axis(Value* x, Value* index, int64_t axis);  // dimensions of 1 broadcast
Value* put_along_axis(Value* x, Value* index, Value* values, int64_t axis, bool add);
Value* searchsorted(Value* sorted, Value* values, bool right);
Value* masked_fill(Value* x, Value* mask, Value* value);
std::vector<Value*> sort(Value* x, int64_t axis, bool descending);  // values, int64 indices
Value* gather_nd(Value* x, Value* index);
Value* embedding(Value* weight, Value* ids, int64_t padding_idx = -1);
Value* one_hot(Value* x, int64_t depth);
std::vector<Value*> topk(Value* x, int64_t k, int64_t axis, bool largest, bool sorted);
Value* argmax(Value* x, int64_t axis, bool keepdim, bool flatten, DType dtype, bool min = false);
Value* cumprod(Value* x, int64_t axis, bool exclusive = false, bool reverse = false);
Value* cumsum(Value* x, int64_t axis, bool flatten, bool exclusive, bool reverse);
}  // namespace ops
}  // namespace trireme
