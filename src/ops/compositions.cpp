// Functions of Paddle's that are a few operators: moves, orders, statistics.
#include <cmath>

#include "ops/elements.h"
#include "ops/index.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace trireme::ops {
namespace {

std::vector<int64_t> dims_of(const Value* v) {
  return {v->type.shape.begin(), v->type.shape.end()};
}

int64_t size_along(const Value* v, int64_t axis) {
  return v->type.shape.rank() == 0 ? 1 : v->type.shape[static_cast<int>(axis)];
}

Value* number(const Value* like, double value) { return scalar(value, like->type.dtype); }

// Elements of the last two dimensions whose column is up to (or from) the diagonal's.
Value* triangle(std::string_view op, Value* x, int64_t diagonal, bool lower) {
  const int rank = x->type.shape.rank();
  TRI_CHECK(rank >= 2, message(op, "x expects rank 2 or more, got ", x->type.shape));
  const int64_t rows = x->type.shape[rank - 2], columns = x->type.shape[rank - 1];
  Value* row =
      arange(static_cast<double>(diagonal), static_cast<double>(rows + diagonal), 1, DType::kInt64);
  Value* column = arange(0, static_cast<double>(columns), 1, DType::kInt64);
  row = reshape(row, {rows, 1});
  Value* kept = lower ? less_equal(column, row) : greater_equal(column, row);
  return where(kept, x, number(x, 0));
}

}  // namespace

Value* tril(Value* x, int64_t diagonal) { return triangle("tril", x, diagonal, true); }
Value* triu(Value* x, int64_t diagonal) { return triangle("triu", x, diagonal, false); }

Value* roll(Value* x, std::vector<int64_t> shifts, std::vector<int64_t> axes) {
  if (axes.empty()) {
    TRI_CHECK(shifts.size() == 1,
              message("roll", "shifts expects one value without axes, got ", shifts.size()));
    return reshape(roll(reshape(x, {x->type.shape.numel()}), shifts, {0}), dims_of(x));
  }
  TRI_CHECK(shifts.size() == axes.size(), message("roll", "shifts expects ", axes.size(),
                                                  " values, one an axis, got ", shifts.size()));
  for (size_t k = 0; k < axes.size(); ++k) {
    const int64_t axis = normal_axis("roll", axes[k], x->type.shape.rank());
    const int64_t n = size_along(x, axis);
    if (n == 0) continue;
    const int64_t cut = ((-shifts[k]) % n + n) % n;
    if (cut == 0) continue;
    x = concat({slice(x, {axis}, {cut}, {n}), slice(x, {axis}, {0}, {cut})}, axis);
  }
  return x;
}

Value* diag(Value* x, int64_t offset, double padding_value) {
  const int rank = x->type.shape.rank();
  TRI_CHECK(rank == 1 || rank == 2, message("diag", "x expects rank 1 or 2, got ", x->type.shape));
  if (rank == 2) return diagonal(x, offset, 0, 1);
  Value* embedded = diag_embed(x, offset, 0, 1);
  if (padding_value == 0) return embedded;
  Value* ones = full(dims_of(x), 1, x->type.dtype);
  Value* there = diag_embed(ones, offset, 0, 1);
  return where(equal(there, number(x, 1)), embedded, number(x, padding_value));
}

Value* repeat_interleave(Value* x, int64_t repeats, int64_t axis) {
  axis = normal_axis("repeat_interleave", axis, x->type.shape.rank());
  TRI_CHECK(repeats >= 0, message("repeat_interleave", "repeats expects 0 or more, got ", repeats));
  const AxisSplit s = split_at(x->type.shape, axis);
  std::vector<int64_t> dims = dims_of(x);
  TRI_CHECK(!__builtin_mul_overflow(s.size, repeats, &dims[static_cast<size_t>(axis)]),
            message("repeat_interleave", "the result is too large"));
  Value* apart = reshape(x, {s.outer * s.size, 1, s.inner});
  return reshape(expand(apart, {s.outer * s.size, repeats, s.inner}), dims);
}

std::vector<Value*> unbind(Value* x, int64_t axis) {
  axis = normal_axis("unbind", axis, x->type.shape.rank());
  const std::vector<int64_t> ones(static_cast<size_t>(size_along(x, axis)), 1);
  std::vector<Value*> parts = split(x, ones, axis);
  for (Value*& v : parts) v = squeeze(v, {axis});
  return parts;
}

std::vector<Value*> meshgrid(const std::vector<Value*>& xs) {
  std::vector<int64_t> dims;
  for (const Value* v : xs) {
    TRI_CHECK(v->type.shape.rank() <= 1,
              message("meshgrid", "inputs expect one dimension, got ", v->type.shape));
    dims.push_back(v->type.shape.numel());
  }
  std::vector<Value*> grids;
  for (size_t k = 0; k < xs.size(); ++k) {
    std::vector<int64_t> own(dims.size(), 1);
    own[k] = dims[k];
    grids.push_back(expand(reshape(xs[k], own), dims));
  }
  return grids;
}

Value* eye(int64_t rows, int64_t columns, DType dtype) {
  TRI_CHECK(rows >= 0 && columns >= 0,
            message("eye", "sizes expect 0 or more, got ", rows, " and ", columns));
  return record1(diag_embed_op, {full({std::min(rows, columns)}, 1, dtype)},
                 DiagonalAttrs{0, 0, 1, {rows, columns}});
}

Value* linspace(double start, double stop, int64_t count, DType dtype) {
  TRI_CHECK(count >= 1 && count < (int64_t{1} << 31),
            message("linspace", "num expects a positive number, got ", count));
  Array t(DType::kFloat64, Shape{count});
  const double step = count > 1 ? (stop - start) / static_cast<double>(count - 1) : 0;
  for (int64_t i = 0; i < count; ++i)  // from both ends, so that the last is `stop`
    t.as<double>()[i] = 2 * i < count ? start + step * static_cast<double>(i)
                                      : stop - step * static_cast<double>(count - 1 - i);
  return constant(t.to(dtype));
}

// ---- by index

Value* index_sample(Value* x, Value* index) { return take_along_axis(x, index, 1); }

Value* masked_fill(Value* x, Value* mask, Value* value) {
  return where(mask, cast(value, x->type.dtype), x);
}

std::vector<Value*> sort(Value* x, int64_t axis, bool descending) {
  axis = normal_axis("sort", axis, std::max(1, x->type.shape.rank()));
  if (x->type.shape.rank() == 0) {
    const std::vector<Value*> one = sort(reshape(x, {1}), 0, descending);
    return {reshape(one[0], {}), reshape(one[1], {})};
  }
  if (x->type.shape.numel() == 0) return {x, full(dims_of(x), 0, DType::kInt64)};
  return topk(x, size_along(x, axis), axis, descending, true);
}

// ---- statistics

Value* variance(Value* x, const std::vector<int64_t>& axis, bool unbiased, bool keepdim) {
  Value* centred = subtract(x, reduce(mean_op, x, axis, true));
  Value* sum = reduce(sum_op, square(centred), axis, keepdim);
  const double n = static_cast<double>(x->type.shape.numel()) /
                   static_cast<double>(std::max<int64_t>(1, sum->type.shape.numel()));
  return affine(sum, 1 / std::max(unbiased ? n - 1 : n, 0.0), 0);
}

Value* standard_deviation(Value* x, const std::vector<int64_t>& axis, bool unbiased, bool keepdim) {
  return sqrt(variance(x, axis, unbiased, keepdim));
}

Value* logsumexp(Value* x, const std::vector<int64_t>& axis, bool keepdim) {
  Value* most = reduce(max_op, x, axis, true);
  Value* sum = reduce(sum_op, exp(subtract(x, most)), axis, keepdim);
  if (!keepdim) most = reshape(most, dims_of(sum));
  return add(log(sum), most);
}

Value* norm(Value* x, double p, const std::vector<int64_t>& axis, bool keepdim) {
  if (p == 0) return reduce(sum_op, cast(not_equal(x, number(x, 0)), x->type.dtype), axis, keepdim);
  Value* size = abs(x);
  if (std::isinf(p)) return reduce(p > 0 ? max_op : min_op, size, axis, keepdim);
  if (p == 1) return reduce(sum_op, size, axis, keepdim);
  Value* sum = reduce(sum_op, p == 2 ? square(x) : pow(size, p), axis, keepdim);
  Value* none = equal(sum, number(sum, 0));  // whose root has no slope, and gets none
  Value* safe = where(none, number(sum, 1), sum);
  return where(none, number(sum, 0), p == 2 ? sqrt(safe) : pow(safe, 1 / p));
}

}  // namespace trireme::ops
