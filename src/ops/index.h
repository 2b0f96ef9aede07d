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
Value* gather(Value* x, Value* index, int64_t axis);
Value* gather_nd(Value* x, Value* index);
Value* embedding(Value* weight, Value* ids, int64_t padding_idx = -1);
Value* one_hot(Value* x, int64_t depth);
std::vector<Value*> topk(Value* x, int64_t k, int64_t axis, bool largest, bool sorted);
Value* argmax(Value* x, int64_t axis, bool keepdim, bool flatten, DType dtype, bool min = false);
Value* cumprod(Value* x, int64_t axis, bool exclusive = false, bool reverse = false);
Value* cumsum(Value* x, int64_t axis, bool flatten, bool exclusive, bool reverse);
}  // namespace ops
}  // namespace trireme
