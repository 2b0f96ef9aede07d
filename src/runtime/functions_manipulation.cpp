// The functions of trireme/manipulation.h: operators, or a few of them.
#include "trireme/manipulation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/index.h"
#include "ops/pointwise.h"
#include "ops/shape.h"
#include "runtime/call.h"

namespace trireme {
namespace {

Ints dims_of(const Tensor& x) { return {x.shape().begin(), x.shape().end()}; }

Tensor ints(const Ints& values, const Shape& shape) {
  return Array::from<int64_t>(shape, values, DType::kInt64);
}

// Places in the flattened tensor whose element is not zero.
Ints places_of(const Tensor& x) {
  const Array there = x.numpy().to(DType::kBool);
  Ints places;
  for (int64_t i = 0; i < there.numel(); ++i)
    if (there.as<uint8_t>()[i] != 0) places.push_back(i);
  return places;
}

// One list for each dimension, from places in the flattened tensor.
std::vector<Ints> coordinates(const Ints& places, const Shape& shape) {
  std::vector<Ints> result(static_cast<size_t>(shape.rank()));
  for (int64_t p : places)
    for (int d = shape.rank(); d-- > 0; p /= shape[d])
      result[static_cast<size_t>(d)].push_back(p % shape[d]);
  return result;
}

struct Runs {
  Ints first, inverse, counts;
};

// The order of the values is total: NaNs last.
template <class T> Runs runs_of(const T* x, int64_t n) {
  const auto less = [&](int64_t a, int64_t b) {
    const T u = x[a], v = x[b];
    return u != v && (u < v || (v != v && u == u));  // NOLINT: NaN is not itself
  };
  Ints order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), less);
  Runs r;
  r.inverse.resize(static_cast<size_t>(n));
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || less(order[i - 1], order[i])) {
      r.first.push_back(order[i]);
      r.counts.push_back(0);
    }
    ++r.counts.back();
    r.inverse[static_cast<size_t>(order[i])] = static_cast<int64_t>(r.first.size()) - 1;
  }
  return r;
}

}  // namespace

// ---- making

Tensor eye(int64_t rows, int64_t columns, DType dtype) {
  return call([&] { return ops::eye(rows, columns < 0 ? rows : columns, dtype); });
}
Tensor linspace(double start, double stop, int64_t num, DType dtype) {
  return call([&] { return ops::linspace(start, stop, num, dtype); });
}
Tensor empty(const Ints& shape, DType dtype) { return zeros(shape, dtype); }
Tensor empty_like(const Tensor& x) { return zeros_like(x); }
Tensor diag(const Tensor& x, int64_t offset, double padding_value) {
  return call([&](Value* v) { return ops::diag(v, offset, padding_value); }, x);
}
Tensor diagonal(const Tensor& x, int64_t offset, int64_t axis1, int64_t axis2) {
  return call([&](Value* v) { return ops::diagonal(v, offset, axis1, axis2); }, x);
}
Tensor diag_embed(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  return call([&](Value* v) { return ops::diag_embed(v, offset, dim1, dim2); }, x);
}
Tensor tril(const Tensor& x, int64_t diagonal) {
  return call([&](Value* v) { return ops::tril(v, diagonal); }, x);
}
Tensor triu(const Tensor& x, int64_t diagonal) {
  return call([&](Value* v) { return ops::triu(v, diagonal); }, x);
}
std::vector<Tensor> meshgrid(const std::vector<Tensor>& tensors) {
  return call_list([](const std::vector<Value*>& v) { return ops::meshgrid(v); }, tensors);
}

// ---- moving

Tensor roll(const Tensor& x, const Ints& shifts, const Ints& axis) {
  return call([&](Value* v) { return ops::roll(v, shifts, axis); }, x);
}

Tensor moveaxis(const Tensor& x, const Ints& source, const Ints& destination) {
  TRI_CHECK(source.size() == destination.size(),
            "[moveaxis] expects as many destinations as sources");
  const auto rank = static_cast<size_t>(x.ndim());
  std::vector<int64_t> perm(rank, -1);
  std::vector<bool> moved(rank);
  const auto place = [&](int64_t axis) {
    TRI_CHECK(
        axis >= -x.ndim() && axis < x.ndim(),
        "[moveaxis] expects dimensions of " + x.shape().str() + ", got " + std::to_string(axis));
    return static_cast<size_t>(axis < 0 ? axis + x.ndim() : axis);
  };
  for (size_t i = 0; i < source.size(); ++i) {
    const size_t from = place(source[i]), to = place(destination[i]);
    TRI_CHECK(!moved[from] && perm[to] < 0, "[moveaxis] expects each dimension once");
    moved[from] = true;
    perm[to] = static_cast<int64_t>(from);
  }
  size_t next = 0;
  for (int64_t& p : perm) {
    if (p >= 0) continue;
    while (moved[next]) ++next;
    p = static_cast<int64_t>(next++);
  }
  return transpose(x, perm);
}

Tensor broadcast_to(const Tensor& x, const Ints& shape) { return expand(x, shape); }
Tensor expand_as(const Tensor& x, const Tensor& y) { return expand(x, dims_of(y)); }
std::vector<Tensor> broadcast_tensors(const std::vector<Tensor>& tensors) {
  Shape shape;
  for (const Tensor& t : tensors) shape = broadcast_shapes("broadcast_tensors", shape, t.shape());
  std::vector<Tensor> result;
  for (const Tensor& t : tensors) result.push_back(expand(t, {shape.begin(), shape.end()}));
  return result;
}
Tensor atleast_1d(const Tensor& x) { return x.ndim() == 0 ? reshape(x, {1}) : x; }
std::vector<Tensor> unbind(const Tensor& x, int64_t axis) {
  return call([&](Value* v) { return ops::unbind(v, axis); }, x);
}
std::vector<Tensor> unstack(const Tensor& x, int64_t axis) { return unbind(x, axis); }
Tensor repeat_interleave(const Tensor& x, int64_t repeats) {
  return repeat_interleave(reshape(x, {-1}), repeats, 0);
}
Tensor repeat_interleave(const Tensor& x, int64_t repeats, int64_t axis) {
  return call([&](Value* v) { return ops::repeat_interleave(v, repeats, axis); }, x);
}
Tensor repeat_interleave(const Tensor& x, const Tensor& repeats, int64_t axis) {
  const Array times = repeats.numpy().to(DType::kInt64);
  TRI_CHECK(times.numel() == x.size(static_cast<int>(axis)),
            "[repeat_interleave] repeats expects a number for each of " +
                std::to_string(x.size(static_cast<int>(axis))) + " places, got " +
                std::to_string(times.numel()));
  Ints index;
  for (int64_t i = 0; i < times.numel(); ++i) {
    const int64_t n = times.as<int64_t>()[i];
    TRI_CHECK(
        n >= 0 && n < (int64_t{1} << 31) - static_cast<int64_t>(index.size()),
        "[repeat_interleave] repeats expects small numbers from 0 on, got " + std::to_string(n));
    index.insert(index.end(), static_cast<size_t>(n), i);
  }
  return index_select(x, ints(index, {static_cast<int64_t>(index.size())}), axis);
}

// ---- picking

Tensor index_select(const Tensor& x, const Tensor& index, int64_t axis) {
  TRI_CHECK(index.ndim() == 1, "[index_select] index expects rank 1, got " + index.shape().str());
  return gather(x, index, axis);
}
Tensor index_sample(const Tensor& x, const Tensor& index) {
  TRI_CHECK(x.ndim() == 2 && index.ndim() == 2, "[index_sample] expects two tensors of rank 2");
  return take_along_axis(x, index, 1);
}
Tensor take_along_axis(const Tensor& arr, const Tensor& indices, int64_t axis) {
  return call([&](Value* v, Value* i) { return ops::take_along_axis(v, i, axis); }, arr, indices);
}
Tensor masked_select(const Tensor& x, const Tensor& mask) {
  TRI_CHECK(mask.dtype() == DType::kBool,
            "[masked_select] mask expects bool, got " + std::string(name_of(mask.dtype())));
  const std::vector<Tensor> both = broadcast_tensors({x, mask});
  const Ints places = places_of(both[1]);
  return gather(reshape(both[0], {-1}), ints(places, {static_cast<int64_t>(places.size())}));
}
Tensor nonzero(const Tensor& x) {
  const Ints places = places_of(x);
  const std::vector<Ints> columns = coordinates(places, x.shape());
  Ints rows;
  for (size_t i = 0; i < places.size(); ++i)
    for (const Ints& c : columns) rows.push_back(c[i]);
  return ints(rows, {static_cast<int64_t>(places.size()), x.ndim()});
}

std::vector<Tensor> unique(const Tensor& x, bool return_index, bool return_inverse,
                           bool return_counts) {
  const Tensor flat = reshape(x, {-1});
  const bool floating = is_floating(x.dtype());
  const Array a = flat.numpy().to(floating ? DType::kFloat64 : DType::kInt64);
  const Runs runs =
      floating ? runs_of(a.as<double>(), a.numel()) : runs_of(a.as<int64_t>(), a.numel());
  const Shape n{static_cast<int64_t>(runs.first.size())};
  std::vector<Tensor> result = {gather(flat.detach(), ints(runs.first, n))};
  if (return_index) result.push_back(ints(runs.first, n));
  if (return_inverse) result.push_back(ints(runs.inverse, {a.numel()}));
  if (return_counts) result.push_back(ints(runs.counts, n));
  return result;
}

// ---- placing

Tensor scatter(const Tensor& x, const Tensor& index, const Tensor& updates, bool overwrite) {
  return call([&](Value* v, Value* i, Value* u) { return ops::scatter(v, i, u, overwrite); }, x,
              index, updates);
}
Tensor scatter_nd_add(const Tensor& x, const Tensor& index, const Tensor& updates) {
  return call([](Value* v, Value* i, Value* u) { return ops::scatter_nd_add(v, i, u); }, x, index,
              updates);
}
Tensor scatter_nd(const Tensor& index, const Tensor& updates, const Ints& shape) {
  return scatter_nd_add(full(shape, 0, updates.dtype()), index, updates);
}
Tensor index_add(const Tensor& x, const Tensor& index, int64_t axis, const Tensor& value) {
  return call([&](Value* v, Value* i, Value* u) { return ops::index_add(v, i, u, axis); }, x, index,
              value);
}

Tensor index_put(const Tensor& x, const std::vector<Tensor>& given, const Tensor& value,
                 bool accumulate) {
  std::vector<Tensor> indices;
  for (const Tensor& index : given) {
    if (index.dtype() != DType::kBool) {
      indices.push_back(index.astype(DType::kInt64));
      continue;
    }
    for (const Ints& c : coordinates(places_of(index), index.shape()))
      indices.push_back(ints(c, {static_cast<int64_t>(c.size())}));
  }
  TRI_CHECK(!indices.empty() && indices.size() <= static_cast<size_t>(x.ndim()),
            "[index_put] indices expects 1 to " + std::to_string(x.ndim()) + " dimensions, got " +
                std::to_string(indices.size()));
  indices = broadcast_tensors(indices);
  Tensor place;  // among the rows of the first dimensions
  int64_t rows = 1;
  for (size_t i = 0; i < indices.size(); ++i) {
    const int64_t size = x.size(static_cast<int>(i));
    const Tensor length = full({}, static_cast<double>(size), DType::kInt64);
    const Tensor zero = full({}, 0, DType::kInt64);
    const Tensor at = where(less_than(indices[i], zero), indices[i] + length, indices[i]);
    place = i == 0 ? at : place * length + at;
    rows *= size;
  }
  Ints rest(x.shape().begin() + indices.size(), x.shape().end());
  Ints shape(place.shape().begin(), place.shape().end());
  shape.insert(shape.end(), rest.begin(), rest.end());
  Ints row_shape = rest, value_shape = rest;
  row_shape.insert(row_shape.begin(), rows);
  value_shape.insert(value_shape.begin(), place.numel());
  const Tensor updates = reshape(expand(value, shape), value_shape);
  const Tensor flat = reshape(x, row_shape), index = reshape(place, {place.numel()});
  return reshape(accumulate ? index_add(flat, index, 0, updates) : scatter(flat, index, updates),
                 dims_of(x));
}

Tensor put_along_axis(const Tensor& arr, const Tensor& indices, const Tensor& values, int64_t axis,
                      const std::string& reduce) {
  TRI_CHECK(reduce == "assign" || reduce == "add",
            "[put_along_axis] reduce expects assign or add, got " + reduce);
  return call([&](Value* v, Value* i,
                  Value* u) { return ops::put_along_axis(v, i, u, axis, reduce == "add"); },
              arr, indices, expand_as(values, indices));
}
Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  return masked_fill(x, mask, to_tensor(value, x.dtype()));
}
Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value) {
  return call([](Value* v, Value* m, Value* u) { return ops::masked_fill(v, m, u); }, x, mask,
              value);
}

// ---- sorting

Tensor sort(const Tensor& x, int64_t axis, bool descending) {
  return call([&](Value* v) { return ops::sort(v, axis, descending); }, x)[0];
}
Tensor argsort(const Tensor& x, int64_t axis, bool descending) {
  return call([&](Value* v) { return ops::sort(v, axis, descending); }, x)[1];
}
Tensor searchsorted(const Tensor& sorted_sequence, const Tensor& values, bool right) {
  return call([&](Value* s, Value* v) { return ops::searchsorted(s, v, right); }, sorted_sequence,
              values);
}

}  // namespace trireme
