// Reductions: sum, mean, max, min, prod, any, all over any set of dimensions.
#include "ops/reduce.h"

#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/index.h"
#include "ops/pointwise.h"
#include "ops/reduce_form.h"
#include "ops/reduce_kernel.h"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

bool is_logic(const Op& op) { return &op == &ops::any_op || &op == &ops::all_op; }

bool is_reduced(const ReduceAttrs& a, int d) {
  return std::binary_search(a.axis.begin(), a.axis.end(), d);
}

void infer(const Infer& i) {
  const Shape& x = i.shape(0);
  const auto& a = i.attrs<ReduceAttrs>();
  for (size_t k = 0; k < a.axis.size(); ++k) {
    TRI_CHECK(a.axis[k] >= 0 && a.axis[k] < x.rank() && (k == 0 || a.axis[k - 1] < a.axis[k]),
              message(i.op.name, "axis expects sorted dimensions of ", x, ", got ", a.axis[k]));
  }
  TRI_CHECK(&i.op != &ops::mean_op || is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(!is_logic(i.op) || i.dtype(0) == DType::kBool,
            message(i.op.name, "x expects bool, got ", i.dtype(0)));
  Shape out;
  for (int d = 0; d < x.rank(); ++d) {
    const bool reduced = is_reduced(a, d);
    TRI_CHECK(!reduced || x[d] > 0 || (&i.op != &ops::max_op && &i.op != &ops::min_op),
              message(i.op.name, "x of shape ", x, " has no elements along axis ", d));
    if (!reduced || a.keepdim) out.push_back(reduced ? 1 : x[d]);
  }
  i.out(&i.op == &ops::sum_op && !is_floating(i.dtype(0)) ? DType::kInt64 : i.dtype(0), out);
}

// The kept dimensions of x (larger than 1) in the order in which they lie in the result.
std::vector<int> kept_order(const Prepare& p) {
  const auto& a = p.attrs<ReduceAttrs>();
  const Shape &x = p.in().shape, &out = p.out().shape;
  std::vector<int> order(static_cast<size_t>(out.rank()), -1);
  for (int d = 0, o = 0; d < x.rank(); ++d) {
    if (is_reduced(a, d)) {
      o += a.keepdim;
    } else {
      order[static_cast<size_t>(physical_axis(p.out(), o++))] = d;
    }
  }
  std::erase_if(order, [&](int d) { return d < 0 || x[d] == 1; });
  return order;
}

}  // namespace

ReduceForm reduce_form(const Prepare& p) {
  const auto& a = p.attrs<ReduceAttrs>();
  const Shape& x = p.in().shape;
  const Shape memory = physical_shape(p.in());
  const std::vector<int64_t> strides = dense_strides({memory.begin(), memory.end()});
  std::vector<int> by_place(static_cast<size_t>(x.rank())), kept, reduced;
  for (int d = 0; d < x.rank(); ++d) by_place[static_cast<size_t>(physical_axis(p.in(), d))] = d;

  ReduceForm f;
  bool closed = false, direct = true;  // closed: a kept dimension follows the reduced ones
  for (const int d : by_place) {
    if (x[d] == 1) continue;
    if (is_reduced(a, d)) {
      reduced.push_back(d);
      direct &= !closed;
      f.split.size *= x[d];
    } else {
      kept.push_back(d);
      closed = !reduced.empty();
      (closed ? f.split.inner : f.split.outer) *= x[d];
    }
  }
  const std::vector<int> order = kept_order(p);
  if (direct && order == kept) return f;
  std::vector<int64_t> dims, src;
  std::vector<int> moved = order;
  moved.insert(moved.end(), reduced.begin(), reduced.end());
  for (const int d : moved) {
    dims.push_back(x[d]);
    src.push_back(strides[static_cast<size_t>(physical_axis(p.in(), d))]);
  }
  f.split = {f.split.outer * f.split.inner, f.split.size, 1};
  f.dims = dims;
  f.strides = src;
  return f;
}

namespace {

template <class R, class A, class T, class Out, class Finish>
Kernel make(const Prepare& p, Finish finish) {
  const ReduceForm form = reduce_form(p);
  std::vector<StridedCopy> copy;  // one or none
  if (!form.direct())
    copy.emplace_back(form.dims, form.strides, dense_strides(form.dims), size_of(p.in().dtype));
  const ReducePlan plan(form.split);
  const size_t partial = align_up(static_cast<size_t>(plan.partials()) * sizeof(A));
  const auto run = [=](const Launch& l) {
    const T* x = l.input<T>(0);
    if (!copy.empty()) {
      void* moved = static_cast<char*>(l.scratch) + partial;
      copy[0].run(x, moved);
      x = static_cast<const T*>(moved);
    }
    reduce_run<R, A>(plan, x, l.output<Out>(), static_cast<A*>(l.scratch), finish);
  };
  return {run, partial + (copy.empty() ? 0 : p.in().bytes())};
}

template <template <class> class R, class T> Kernel make_as(const Prepare& p) {
  using A = Compute<T>;
  if constexpr (std::is_same_v<R<A>, SumOf<A>> && std::is_integral_v<T>) {
    return make<R<A>, A, T, int64_t>(p, [](A v) { return v; });
  } else {
    return make<R<A>, A, T, T>(p, [](A v) { return T(v); });
  }
}

template <template <class> class R> Kernel make_number(const Prepare& p) {
  switch (p.in().dtype) {
    case DType::kBool: return make_as<R, uint8_t>(p);
    case DType::kInt32: return make_as<R, int32_t>(p);
    case DType::kInt64: return make_as<R, int64_t>(p);
    default:
      return with_floating(*p.node.op, p.in().dtype,
                           [&]<class T>(Tag<T>) { return make_as<R, T>(p); });
  }
}

Kernel make_mean(const Prepare& p) {
  const double n = static_cast<double>(reduce_form(p).split.size);
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    using A = Compute<T>;
    return make<SumOf<A>, A, T, T>(p, [f = static_cast<A>(1 / n)](A v) { return T(v * f); });
  });
}

template <class R> Kernel make_logic(const Prepare& p) {
  return make<R, uint8_t, uint8_t, uint8_t>(p, [](uint8_t v) { return v; });
}

// ---- gradients

std::vector<int64_t> dims_of(const Value* v) {
  return {v->type.shape.begin(), v->type.shape.end()};
}

// A result with its reduced dimensions as ones, so that it broadcasts against x.
Value* kept(const Grad& g, Value* v) {
  std::vector<int64_t> dims = dims_of(g.in());
  for (const int64_t axis : g.attrs<ReduceAttrs>().axis) dims[static_cast<size_t>(axis)] = 1;
  return v->type.shape == Shape(std::span(dims)) ? v : ops::reshape(v, dims);
}

void sum_rule(Grad& g) { g.set(0, ops::expand(kept(g, g.dout()), dims_of(g.in()))); }

void mean_rule(Grad& g) {
  const int64_t n = g.in()->type.shape.numel(), m = g.out()->type.shape.numel();
  if (n == 0) return;
  Value* part = ops::affine(g.dout(), static_cast<double>(m) / static_cast<double>(n), 0);
  g.set(0, ops::expand(kept(g, part), dims_of(g.in())));
}

// Equal elements share the gradient.
void extremum_rule(Grad& g) {
  Value* dout = kept(g, g.dout());
  Value* equal = ops::equal(g.in(), kept(g, g.out()));
  Value* ones = ops::cast(equal, dout->type.dtype);
  Value* count = ops::reduce(ops::sum_op, ones, g.attrs<ReduceAttrs>().axis, true);
  dout = ops::divide(dout, count);
  g.set(0, ops::where(equal, dout, scalar(0, dout->type.dtype)));
}

// The product of all others, from both sides: right for zeros too.
void prod_rule(Grad& g) {
  const auto& axis = g.attrs<ReduceAttrs>().axis;
  const Shape& x = g.in()->type.shape;
  std::vector<int64_t> perm, back(static_cast<size_t>(x.rank()));
  int64_t n = 1;
  for (int d = 0; d < x.rank(); ++d)
    if (!is_reduced(g.attrs<ReduceAttrs>(), d)) perm.push_back(d);
  for (const int64_t d : axis) perm.push_back(d), n *= x[static_cast<int>(d)];
  if (x.numel() == 0) return;
  for (size_t d = 0; d < perm.size(); ++d)
    back[static_cast<size_t>(perm[d])] = static_cast<int64_t>(d);
  Value* moved = ops::transpose(g.in(), perm);
  Value* flat = ops::reshape(moved, {x.numel() / n, n});
  Value* others =
      ops::multiply(ops::cumprod(flat, 1, true, false), ops::cumprod(flat, 1, true, true));
  others = ops::transpose(ops::reshape(others, dims_of(moved)), back);
  g.set(0, ops::multiply(others, kept(g, g.dout())));
}

constexpr Op reduction(std::string_view name, Kernel (*cpu)(const Prepare&), void (*rule)(Grad&),
                       Amp amp = Amp::kFollow) {
  return {.name = name,
          .attrs = &attr_info<ReduceAttrs>,
          .infer = infer,
          .grad = rule,
          .cpu = cpu,
          .cuda = TRI_CUDA(cuda_reduce),
          .amp = amp,
          .layouts = Layouts::kFollow};
}

}  // namespace

namespace ops {

constinit const Op sum_op = reduction("sum", make_number<SumOf>, sum_rule, Amp::kFloatInO1);
constinit const Op mean_op = reduction("mean", make_mean, mean_rule, Amp::kFloatInO1);
constinit const Op max_op = reduction("max", make_number<MaxOf>, extremum_rule);
constinit const Op min_op = reduction("min", make_number<MinOf>, extremum_rule);
constinit const Op prod_op = reduction("prod", make_number<ProductOf>, prod_rule, Amp::kFloatInO1);
constinit const Op any_op = reduction("any", make_logic<AnyOf>, nullptr);
constinit const Op all_op = reduction("all", make_logic<AllOf>, nullptr);

Value* reduce(const Op& op, Value* x, std::vector<int64_t> axis, bool keepdim) {
  const int rank = x->type.shape.rank();
  for (int64_t& a : axis) a = normal_axis(op.name, a, rank);
  if (axis.empty())
    for (int d = 0; d < rank; ++d) axis.push_back(d);
  std::sort(axis.begin(), axis.end());
  axis.erase(std::unique(axis.begin(), axis.end()), axis.end());
  if (is_logic(op)) x = cast(x, DType::kBool);
  return record1(op, {x}, ReduceAttrs{std::move(axis), keepdim});
}

}  // namespace ops
}  // namespace trireme
