// Random numbers and dropout. A number is a pure function of the state (int64 [2]: seed, offset),
// of attrs.index, which tells the places of a program apart, and of the element's place: nothing is
// stored, and whoever moves the offset gets new numbers.
#pragma once

#include "graph/graph.h"

namespace trireme {

struct DropoutAttrs {
  double p = 0.5;                         // of being dropped
  std::string mode = "upscale_in_train";  // or "downscale_in_infer": what is left is not scaled
  std::vector<int64_t> axis{};  // dimensions along which the mask differs; none: all of them
  int64_t index = 0;
  static const Field fields[];
};
inline constexpr Field DropoutAttrs::fields[] = {
    TRI_FIELD(DropoutAttrs, p), TRI_FIELD(DropoutAttrs, mode), TRI_FIELD(DropoutAttrs, axis),
    TRI_FIELD(DropoutAttrs, index)};

struct RandomAttrs {
  std::vector<int64_t> shape{};
  DType dtype = DType::kFloat32;
  double min = 0, max = 1;    // uniform: [min, max); gaussian: mean and deviation
  int64_t low = 0, high = 1;  // randint: [low, high); randperm: high is n
  int64_t index = 0;
  static const Field fields[];
};
inline constexpr Field RandomAttrs::fields[] = {
    TRI_FIELD(RandomAttrs, shape), TRI_FIELD(RandomAttrs, dtype), TRI_FIELD(RandomAttrs, min),
    TRI_FIELD(RandomAttrs, max),   TRI_FIELD(RandomAttrs, low),   TRI_FIELD(RandomAttrs, high),
    TRI_FIELD(RandomAttrs, index)};

namespace ops {
// (x, state): what is dropped is 0. The gradient is the same operator on the result's gradient.
extern const Op dropout_op;
extern const Op uniform_op, gaussian_op, randint_op, randperm_op;  // (state)
extern const Op bernoulli_op;  // (probabilities, state) -> 0 or 1 of the same dtype
Value* dropout(Value* x, Value* state, const DropoutAttrs& attrs);
Value* uniform(Value* state, const RandomAttrs& attrs);
Value* gaussian(Value* state, const RandomAttrs& attrs);
Value* randint(Value* state, const RandomAttrs& attrs);
Value* randperm(Value* state, int64_t n, DType dtype, int64_t index);
Value* bernoulli(Value* x, Value* state, int64_t index);
}  // namespace ops
}  // namespace trireme
