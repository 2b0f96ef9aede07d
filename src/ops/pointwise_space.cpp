// Strides of operands, and dimensions merged.
#include "ops/pointwise_space.h"

#include <algorithm>

namespace trireme {
namespace {

// Strides of a value, along its logical dimensions, in the layout it has.
std::vector<int64_t> logical_strides(const Type& type) {
  const int rank = type.shape.rank();
  std::vector<int64_t> strides(static_cast<size_t>(rank));
  std::vector<int> order;  // logical dimensions, innermost first
  const bool last = type.layout == Layout::kChannelsLast && rank >= 3;
  if (last) order.push_back(1);
  for (int i = rank - 1; i >= 0; --i)
    if (!(last && i == 1)) order.push_back(i);
  int64_t stride = 1;
  for (int d : order) {
    strides[static_cast<size_t>(d)] = stride;
    stride *= type.shape[d];
  }
  return strides;
}

// Strides of `v` along the physical dimensions of `space`, zero where it is broadcast.
std::vector<int64_t> strides_in(const Type& v, const Type& space) {
  const int rank = space.shape.rank(), shift = rank - v.shape.rank();
  const std::vector<int64_t> own = logical_strides(v);
  std::vector<int64_t> logical(static_cast<size_t>(rank), 0);
  for (int i = shift; i < rank; ++i)
    if (v.shape[i - shift] != 1)
      logical[static_cast<size_t>(i)] = own[static_cast<size_t>(i - shift)];
  if (space.layout == Layout::kChannelsLast && rank >= 3)
    std::rotate(logical.begin() + 1, logical.begin() + 2, logical.end());
  return logical;
}

// Merges neighbouring dimensions along which every operand runs on evenly.
void collapse(const Type& space, std::vector<std::vector<int64_t>>& strides,
              std::vector<int64_t>& dims) {
  const Shape physical = physical_shape(space);
  std::vector<std::vector<int64_t>> merged(strides.size());
  for (int d = 0; d < physical.rank(); ++d) {
    if (physical[d] == 1 && physical.rank() > 1) continue;
    const auto ud = static_cast<size_t>(d);
    bool join = !dims.empty();
    for (size_t i = 0; i < strides.size() && join; ++i)
      join = merged[i].back() == strides[i][ud] * physical[d];
    if (join) dims.back() *= physical[d];
    else dims.push_back(physical[d]);
    for (size_t i = 0; i < strides.size(); ++i) {
      if (join) merged[i].back() = strides[i][ud];
      else merged[i].push_back(strides[i][ud]);
    }
  }
  while (dims.size() < 2) {
    dims.insert(dims.begin(), 1);
    for (auto& s : merged) s.insert(s.begin(), 0);
  }
  strides = std::move(merged);
}

}  // namespace

PointwiseSpace::PointwiseSpace(const std::vector<const Value*>& inputs, const Type& result) {
  for (const Value* v : inputs) strides.push_back(strides_in(v->type, result));
  strides.push_back(strides_in(result, result));
  collapse(result, strides, dims);
}

}  // namespace trireme
