// More of Paddle's tensor functions: making, moving, picking, placing, sorting. The rules of
// trireme/ops.h hold. Functions whose result's size depends on values (nonzero, masked_select,
// unique, boolean indices) read these values at the call.
#pragma once

#include "trireme/ops.h"

namespace trireme {

// ---- making
Tensor eye(int64_t num_rows, int64_t num_columns = -1, DType dtype = DType::kFloat32);
Tensor linspace(double start, double stop, int64_t num, DType dtype = DType::kFloat32);
Tensor empty(const Ints& shape, DType dtype = DType::kFloat32);  // zeros, as a rule without reason
Tensor empty_like(const Tensor& x);
Tensor diag(const Tensor& x, int64_t offset = 0, double padding_value = 0);  // to, from a matrix
Tensor diagonal(const Tensor& x, int64_t offset = 0, int64_t axis1 = 0, int64_t axis2 = 1);
Tensor diag_embed(const Tensor& x, int64_t offset = 0, int64_t dim1 = -2, int64_t dim2 = -1);
Tensor tril(const Tensor& x, int64_t diagonal = 0);
Tensor triu(const Tensor& x, int64_t diagonal = 0);
std::vector<Tensor> meshgrid(const std::vector<Tensor>& tensors);  // indexing "ij"

// ---- moving
Tensor roll(const Tensor& x, const Ints& shifts, const Ints& axis = {});  // no axes: flattened
Tensor moveaxis(const Tensor& x, const Ints& source, const Ints& destination);
Tensor broadcast_to(const Tensor& x, const Ints& shape);
Tensor expand_as(const Tensor& x, const Tensor& y);
std::vector<Tensor> broadcast_tensors(const std::vector<Tensor>& tensors);
Tensor atleast_1d(const Tensor& x);
std::vector<Tensor> unbind(const Tensor& x, int64_t axis = 0);
std::vector<Tensor> unstack(const Tensor& x, int64_t axis = 0);
Tensor repeat_interleave(const Tensor& x, int64_t repeats);  // of the flattened tensor
Tensor repeat_interleave(const Tensor& x, int64_t repeats, int64_t axis);
Tensor repeat_interleave(const Tensor& x, const Tensor& repeats, int64_t axis);  // reads repeats

// ---- picking
Tensor index_select(const Tensor& x, const Tensor& index, int64_t axis = 0);
Tensor index_sample(const Tensor& x, const Tensor& index);  // x [N, C], index [N, K]: row by row
Tensor take_along_axis(const Tensor& arr, const Tensor& indices, int64_t axis);
Tensor masked_select(const Tensor& x, const Tensor& mask);  // rank 1
Tensor nonzero(const Tensor& x);                            // int64 [count, rank]
// Sorted values; and what else is asked for: the first place of each, the place of each element
// among them, how often each occurs (int64). Of the flattened tensor.
std::vector<Tensor> unique(const Tensor& x, bool return_index = false, bool return_inverse = false,
                           bool return_counts = false);

// ---- placing; the result is a new tensor
Tensor scatter(const Tensor& x, const Tensor& index, const Tensor& updates, bool overwrite = true);
Tensor scatter_nd(const Tensor& index, const Tensor& updates, const Ints& shape);
Tensor scatter_nd_add(const Tensor& x, const Tensor& index, const Tensor& updates);
Tensor index_add(const Tensor& x, const Tensor& index, int64_t axis, const Tensor& value);
// x[indices[0], indices[1] ...] = value (or += with accumulate); one bool mask stands for as many
// indices as it has dimensions.
Tensor index_put(const Tensor& x, const std::vector<Tensor>& indices, const Tensor& value,
                 bool accumulate = false);
// reduce: "assign" or "add".
Tensor put_along_axis(const Tensor& arr, const Tensor& indices, const Tensor& values, int64_t axis,
                      const std::string& reduce = "assign");
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value);
Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value);

// ---- sorting
Tensor sort(const Tensor& x, int64_t axis = -1, bool descending = false);
Tensor argsort(const Tensor& x, int64_t axis = -1, bool descending = false);
// Where each value would stand in the sorted sequence [n] or [..., n]; int64.
Tensor searchsorted(const Tensor& sorted_sequence, const Tensor& values, bool right = false);

}  // namespace trireme
