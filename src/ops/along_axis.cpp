// take_along_axis and put_along_axis: one index an element; searchsorted.
#include <cstring>

#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/index.h"
#include "ops/indices.h"
#include "ops/pointwise.h"

namespace trireme {
namespace {

void check_index_shape(const Infer& i, int64_t axis) {
  const Shape &x = i.shape(0), &index = i.shape(1);
  check_index_dtype(i, 1);
  TRI_CHECK(axis >= 0 && axis < x.rank(),
            message(i.op.name, "axis expects a dimension of ", x, ", got ", axis));
  bool fits = x.rank() == index.rank();
  for (int d = 0; fits && d < x.rank(); ++d) fits = d == axis || x[d] == index[d];
  TRI_CHECK(fits, message(i.op.name, "index expects the shape of x, ", x, ", but along axis ", axis,
                          ", got ", index));
}

void infer_take(const Infer& i) {
  check_index_shape(i, i.attrs<AxisAttrs>().axis);
  i.out(i.dtype(0), i.shape(1));
}

// f(x offset, index offset) for every element of the index, a line of x after the other.
struct Lines {
  AxisSplit x;
  int64_t count;  // indices a line

  Lines(const Prepare& p, int64_t axis)
      : x(split_at(p.in().shape, axis)), count(p.in(1).shape[static_cast<int>(axis)]) {}

  template <class F> void run(F f) const {
    parallel_for(x.outer * x.inner, grain_of(count), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t o = r / x.inner, c = r % x.inner;
        for (int64_t k = 0; k < count; ++k)
          f(o * x.size * x.inner + c, (o * count + k) * x.inner + c);
      }
    });
  }
};

// Checked before the work goes parallel.
void check_all(const Indices& indices, const Op& op, const Launch& l, int64_t n, int64_t size) {
  for (int64_t i = 0; i < n; ++i) indices.checked(op, l, i, size);
}

Kernel prepare_take(const Prepare& p) {
  const Lines lines(p, p.attrs<AxisAttrs>().axis);
  const Indices indices(p, 1);
  const int64_t n = p.in(1).shape.numel();
  return with_size(size_of(p.in().dtype), [&]<class T>(Tag<T>) -> Kernel {
    return {[=, op = p.node.op](const Launch& l) {
      check_all(indices, *op, l, n, lines.x.size);
      lines.run([&](int64_t x, int64_t i) {
        int64_t at = indices.get(l, i);
        at = at < 0 ? at + lines.x.size : at;
        l.output<T>()[i] = l.input<T>(0)[x + at * lines.x.inner];
      });
    }};
  });
}

void take_rule(Grad& g) {
  const Shape& x = g.in()->type.shape;
  Value* zeros = ops::full({x.begin(), x.end()}, 0, g.dout()->type.dtype);
  g.set(0, ops::put_along_axis(zeros, g.in(1), g.dout(), g.attrs<AxisAttrs>().axis, true));
}

void infer_put(const Infer& i) {
  check_index_shape(i, i.attrs<PutAttrs>().axis);
  TRI_CHECK(i.dtype(2) == i.dtype(0) && i.shape(2) == i.shape(1),
            message(i.op.name, "values expect ", i.dtype(0), i.shape(1), ", got ", i.dtype(2),
                    i.shape(2)));
  i.out(i.dtype(0), i.shape(0));
}

Kernel prepare_put(const Prepare& p) {
  const Lines lines(p, p.attrs<PutAttrs>().axis);
  const Indices indices(p, 1);
  const int64_t n = p.in(1).shape.numel();
  const bool add = p.attrs<PutAttrs>().add;
  return with_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[=, op = p.node.op, bytes = p.out().bytes()](const Launch& l) {
      check_all(indices, *op, l, n, lines.x.size);
      if (l.out[0] != l.in[0] && bytes > 0) std::memcpy(l.out[0], l.in[0], bytes);
      lines.run([&](int64_t x, int64_t i) {
        int64_t at = indices.get(l, i);
        at = at < 0 ? at + lines.x.size : at;
        T& y = l.output<T>()[x + at * lines.x.inner];
        const T v = l.input<T>(2)[i];
        y = add ? T(Compute<T>(y) + Compute<T>(v)) : v;
      });
    }};
  });
}

// Assigned places lose what they had. With equal indices the gradient is that of the last.
void put_rule(Grad& g) {
  const auto& a = g.attrs<PutAttrs>();
  if (g.wants(2)) g.set(2, ops::take_along_axis(g.dout(), g.in(1), a.axis));
  if (!g.wants(0)) return;
  if (a.add) return g.set(0, g.dout());
  const Shape& index = g.in(1)->type.shape;
  Value* zeros = ops::full({index.begin(), index.end()}, 0, g.dout()->type.dtype);
  g.set(0, ops::put_along_axis(g.dout(), g.in(1), zeros, a.axis, false));
}

// ---- searchsorted

void infer_search(const Infer& i) {
  const Shape &sorted = i.shape(0), &values = i.shape(1);
  TRI_CHECK(sorted.rank() >= 1, message(i.op.name, "sorted expects at least one dimension"));
  bool fits = sorted.rank() == 1 || sorted.rank() == values.rank();
  for (int d = 0; fits && sorted.rank() > 1 && d + 1 < sorted.rank(); ++d)
    fits = sorted[d] == values[d];
  TRI_CHECK(fits,
            message(i.op.name, "sorted of shape ", sorted, " does not fit values of ", values));
  TRI_CHECK(i.dtype(0) == i.dtype(1),
            message(i.op.name, "values expect ", i.dtype(0), ", got ", i.dtype(1)));
  i.out(DType::kInt64, values);
}

Kernel prepare_search(const Prepare& p) {
  const Shape& sorted = p.in().shape;
  const int64_t n = sorted.back(), count = p.in(1).shape.numel();
  const int64_t line = sorted.rank() == 1 ? count : p.in(1).shape.back();
  const bool right = p.attrs<AxisAttrs>().axis == 1;
  return with_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) -> Kernel {
    return {[=](const Launch& l) {
      using A = Compute<T>;
      parallel_for(count, 1024, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const T* first = l.input<T>(0) + i / line * n;
          const A v = l.input<T>(1)[i];
          const T* at =
              right
                  ? std::upper_bound(first, first + n, v, [](A a, const T& b) { return a < A(b); })
                  : std::lower_bound(first, first + n, v, [](const T& a, A b) { return A(a) < b; });
          l.output<int64_t>()[i] = at - first;
        }
      });
    }};
  });
}

// Index and x made equal in all dimensions but `axis`, where either has ones.
void match(std::string_view op, Value*& x, Value*& index, int64_t axis) {
  const Shape sx = x->type.shape, si = index->type.shape;
  TRI_CHECK(sx.rank() == si.rank(),
            message(op, "index expects ", sx.rank(), " dimensions, got ", si));
  std::vector<int64_t> to_x(sx.begin(), sx.end()), to_i(si.begin(), si.end());
  for (int d = 0; d < sx.rank(); ++d) {
    const auto at = static_cast<size_t>(d);
    if (d == axis) continue;
    if (to_x[at] == 1) to_x[at] = to_i[at];
    if (to_i[at] == 1) to_i[at] = to_x[at];
  }
  if (Shape(std::span(to_x)) != sx) x = ops::expand(x, to_x);
  if (Shape(std::span(to_i)) != si) index = ops::expand(index, to_i);
}

}  // namespace

namespace ops {

constinit const Op take_along_axis_op{.name = "take_along_axis",
                                      .inputs = 2,
                                      .attrs = &attr_info<AxisAttrs>,
                                      .infer = infer_take,
                                      .grad = take_rule,
                                      .cpu = prepare_take,
                                      .cuda = TRI_CUDA(cuda_take_along_axis)};
constinit const Op put_along_axis_op{.name = "put_along_axis",
                                     .inputs = 3,
                                     .attrs = &attr_info<PutAttrs>,
                                     .infer = infer_put,
                                     .grad = put_rule,
                                     .cpu = prepare_put,
                                     .cuda = TRI_CUDA(cuda_put_along_axis),
                                     .in_place = 1};
constinit const Op searchsorted_op{.name = "searchsorted",
                                   .inputs = 2,
                                   .attrs = &attr_info<AxisAttrs>,
                                   .infer = infer_search,
                                   .cpu = prepare_search,
                                   .cuda = TRI_CUDA(cuda_searchsorted)};

Value* take_along_axis(Value* x, Value* index, int64_t axis) {
  axis = normal_axis("take_along_axis", axis, x->type.shape.rank());
  match("take_along_axis", x, index, axis);
  return record1(take_along_axis_op, {x, index}, AxisAttrs{axis});
}

Value* put_along_axis(Value* x, Value* index, Value* values, int64_t axis, bool add) {
  axis = normal_axis("put_along_axis", axis, x->type.shape.rank());
  Value* same = x;  // the index spreads over x, never x over the index
  match("put_along_axis", same, index, axis);
  const Shape& s = index->type.shape;
  if (values->type.shape != s) values = expand(values, {s.begin(), s.end()});
  return record1(put_along_axis_op, {x, index, values}, PutAttrs{axis, add});
}

Value* searchsorted(Value* sorted, Value* values, bool right) {
  return record1(searchsorted_op, {sorted, values}, AxisAttrs{right ? 1 : 0});
}

}  // namespace ops
}  // namespace trireme
