// The functions of trireme/math.h but einsum: operators, or a few of them.
#include "trireme/math.h"

#include <algorithm>
#include <cmath>

#include "ops/index.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "runtime/call.h"

namespace trireme {
namespace {

void check_rank(const Tensor& x, int rank, const char* what) {
  TRI_CHECK(x.ndim() == rank, std::string(what) + " expects rank " + std::to_string(rank) +
                                  ", got " + x.shape().str());
}

int64_t normal_axis(const Tensor& x, int64_t axis, const char* op) {
  TRI_CHECK(axis >= -x.ndim() && axis < x.ndim(),
            '[' + std::string(op) + "] axis expects a dimension of " + x.shape().str() + ", got " +
                std::to_string(axis));
  return axis < 0 ? axis + x.ndim() : axis;
}

double largest_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return 65504;
    case DType::kBFloat16: return 0x1.FEp127;
    case DType::kFloat64: return std::numeric_limits<double>::max();
    default: return std::numeric_limits<float>::max();
  }
}

// The mean of the middle elements (or the lower one) of the last dimension.
Tensor middle(const Tensor& x, const std::string& mode) {
  TRI_CHECK(mode == "avg" || mode == "min", "[median] mode expects avg or min, got " + mode);
  const int64_t n = x.size(-1);
  TRI_CHECK(n > 0, "[median] x expects elements, got " + x.shape().str());
  const Tensor sorted = call([](Value* v) { return ops::sort(v, -1, false); }, x)[0];
  const auto at = [&](int64_t i) { return slice(sorted, {-1}, {i}, {i + 1}); };
  Tensor y = at((n - 1) / 2);
  if (n % 2 == 0 && mode == "avg") y = (y + at(n / 2)) * 0.5;
  if (!is_floating(x.dtype())) return y;
  return where(any(isnan(x), {-1}, true), full_like(y, std::nan("")), y);
}

}  // namespace

// clang-format off
#define TRI_DEFINE(name) \
  Tensor name(const Tensor& x) { return call([](Value* v) { return ops::name(v); }, x); }
TRI_MORE_UNARY_FUNCTIONS(TRI_DEFINE)
#undef TRI_DEFINE
#define TRI_DEFINE(name) \
  Tensor name(const Tensor& x, const Tensor& y) { \
    return call([](Value* a, Value* b) { return ops::name(a, b); }, x, y); \
  }
TRI_MORE_BINARY_FUNCTIONS(TRI_DEFINE)
#undef TRI_DEFINE
// clang-format on

Tensor lerp(const Tensor& x, const Tensor& y, const Tensor& weight) { return x + weight * (y - x); }
Tensor lerp(const Tensor& x, const Tensor& y, double weight) { return x + (y - x) * weight; }

Tensor increment(Tensor x, double value) {
  TRI_CHECK(x.numel() == 1, "[increment] x expects one element, got " + x.shape().str());
  x.set_value(x.detach() + value);
  return x;
}

Tensor nan_to_num(const Tensor& x, double nan, double posinf, double neginf) {
  TRI_CHECK(is_floating(x.dtype()),
            "[nan_to_num] x expects a floating dtype, got " + std::string(name_of(x.dtype())));
  const double most = largest_of(x.dtype());
  const auto number = [&](double v) { return to_tensor(std::clamp(v, -most, most), x.dtype()); };
  const Tensor zero = to_tensor(0, x.dtype()), endless = isinf(x);
  Tensor y = where(isnan(x), number(nan), x);
  y = where(logical_and(endless, greater_than(x, zero)), number(posinf), y);
  return where(logical_and(endless, less_than(x, zero)), number(neginf), y);
}

// ---- comparisons

Tensor isclose(const Tensor& x, const Tensor& y, double rtol, double atol, bool equal_nan) {
  const Tensor near = less_equal(abs(x - y), scale(abs(y), rtol, atol));
  Tensor same = logical_or(equal(x, y), logical_and(near, isfinite(y)));
  if (equal_nan) same = logical_or(same, logical_and(isnan(x), isnan(y)));
  return same;
}
Tensor allclose(const Tensor& x, const Tensor& y, double rtol, double atol, bool equal_nan) {
  return all(isclose(x, y, rtol, atol, equal_nan));
}
Tensor equal_all(const Tensor& x, const Tensor& y) {
  if (!(x.shape() == y.shape())) return full({}, 0, DType::kBool);
  return all(equal(x, y));
}

// ---- statistics

Tensor var(const Tensor& x, const Ints& axis, bool unbiased, bool keepdim) {
  return call([&](Value* v) { return ops::variance(v, axis, unbiased, keepdim); }, x);
}
Tensor std(const Tensor& x, const Ints& axis, bool unbiased, bool keepdim) {
  return call([&](Value* v) { return ops::standard_deviation(v, axis, unbiased, keepdim); }, x);
}
Tensor logsumexp(const Tensor& x, const Ints& axis, bool keepdim) {
  return call([&](Value* v) { return ops::logsumexp(v, axis, keepdim); }, x);
}
Tensor count_nonzero(const Tensor& x, const Ints& axis, bool keepdim) {
  const Tensor there = x.dtype() == DType::kBool ? x : not_equal(x, to_tensor(0, x.dtype()));
  return sum(cast(there, DType::kInt64), axis, keepdim);
}
Tensor median(const Tensor& x, bool keepdim, const std::string& mode) {
  const Tensor y = middle(reshape(x, {-1}), mode);
  return reshape(y, keepdim ? Ints(static_cast<size_t>(x.ndim()), 1) : Ints{});
}
Tensor median(const Tensor& x, int64_t axis, bool keepdim, const std::string& mode) {
  axis = normal_axis(x, axis, "median");
  const auto swapped = [&](const Tensor& t) {
    Ints perm;
    for (int64_t i = 0; i < t.ndim(); ++i) perm.push_back(i);
    std::swap(perm[static_cast<size_t>(axis)], perm.back());
    return transpose(t, perm);
  };
  const Tensor y = swapped(middle(swapped(x), mode));
  return keepdim ? y : squeeze(y, {axis});
}
Tensor cumprod(const Tensor& x, int64_t dim) {
  return call([&](Value* v) { return ops::cumprod(v, dim); }, x);
}
Tensor bincount(const Tensor& x, const Tensor& weights, int64_t minlength) {
  check_rank(x, 1, "[bincount] x");
  TRI_CHECK(x.dtype() == DType::kInt64 || x.dtype() == DType::kInt32,
            "[bincount] x expects int32 or int64, got " + std::string(name_of(x.dtype())));
  int64_t length = minlength;
  if (x.numel() > 0) {
    TRI_CHECK(min(x).item() >= 0, "[bincount] x expects no negative numbers");
    length = std::max(length, static_cast<int64_t>(max(x).item()) + 1);
  }
  TRI_CHECK(length >= 0 && length < int64_t{1} << 31, "[bincount] the result is too large");
  const Tensor ones = weights.defined() ? weights : full({x.numel()}, 1, DType::kInt64);
  return call([](Value* z, Value* i, Value* v) { return ops::scatter_nd_add(z, i, v); },
              full({length}, 0, ones.dtype()), unsqueeze(x, {-1}), ones);
}

// ---- products

Tensor mm(const Tensor& x, const Tensor& y) { return matmul(x, y); }
Tensor bmm(const Tensor& x, const Tensor& y) {
  check_rank(x, 3, "[bmm] x");
  check_rank(y, 3, "[bmm] y");
  TRI_CHECK(x.size(0) == y.size(0),
            "[bmm] expects equal batches, got " + x.shape().str() + " and " + y.shape().str());
  return matmul(x, y);
}
Tensor mv(const Tensor& x, const Tensor& vec) {
  check_rank(x, 2, "[mv] x");
  check_rank(vec, 1, "[mv] vec");
  return matmul(x, vec);
}
Tensor dot(const Tensor& x, const Tensor& y) {
  TRI_CHECK(x.shape() == y.shape() && (x.ndim() == 1 || x.ndim() == 2),
            "[dot] expects two tensors of one shape and rank 1 or 2, got " + x.shape().str() +
                " and " + y.shape().str());
  return sum(x * y, {-1});
}
Tensor outer(const Tensor& x, const Tensor& y) { return reshape(x, {-1, 1}) * reshape(y, {1, -1}); }
Tensor inner(const Tensor& x, const Tensor& y) {
  if (x.ndim() == 0 || y.ndim() == 0) return x * y;
  return tensordot(x, y, {-1}, {-1});
}
Tensor addmm(const Tensor& input, const Tensor& x, const Tensor& y, double beta, double alpha) {
  check_rank(x, 2, "[addmm] x");
  check_rank(y, 2, "[addmm] y");
  return input * beta + matmul(x, y) * alpha;
}

Tensor kron(const Tensor& x, const Tensor& y) {
  const int rank = std::max(x.ndim(), y.ndim());
  TRI_CHECK(2 * rank <= Shape::kMaxRank, "[kron] expects a rank of 4 or less");
  Ints apart_x, apart_y, together;
  for (int i = 0; i < rank; ++i) {
    const auto dim = [&](const Tensor& t) {
      const int k = i - (rank - t.ndim());
      return k < 0 ? 1 : t.shape()[k];
    };
    apart_x.insert(apart_x.end(), {dim(x), 1});
    apart_y.insert(apart_y.end(), {1, dim(y)});
    together.push_back(dim(x) * dim(y));
  }
  return reshape(reshape(x, apart_x) * reshape(y, apart_y), together);
}

Tensor cross(const Tensor& x, const Tensor& y, int64_t axis) {
  TRI_CHECK(x.shape() == y.shape(), "[cross] expects tensors of one shape, got " + x.shape().str() +
                                        " and " + y.shape().str());
  if (axis == 9) {
    const auto* const three = std::find(x.shape().begin(), x.shape().end(), 3);
    TRI_CHECK(three != x.shape().end(), "[cross] expects a dimension of 3, got " + x.shape().str());
    axis = three - x.shape().begin();
  }
  axis = normal_axis(x, axis, "cross");
  TRI_CHECK(x.size(static_cast<int>(axis)) == 3,
            "[cross] expects 3 elements along the axis, got " + x.shape().str());
  const auto turned = [&](const Tensor& t, int64_t by) {
    return call([&](Value* v) { return ops::roll(v, {-by}, {axis}); }, t);
  };
  return turned(x, 1) * turned(y, 2) - turned(x, 2) * turned(y, 1);
}

Tensor trace(const Tensor& x, int64_t offset, int64_t axis1, int64_t axis2) {
  return sum(call([&](Value* v) { return ops::diagonal(v, offset, axis1, axis2); }, x), {-1});
}

Tensor tensordot(const Tensor& x, const Tensor& y, int64_t axes) {
  TRI_CHECK(axes >= 0 && axes <= x.ndim() && axes <= y.ndim(),
            "[tensordot] axes expects a number of dimensions of both tensors, got " +
                std::to_string(axes));
  Ints ax, ay;
  for (int64_t i = 0; i < axes; ++i) {
    ax.push_back(x.ndim() - axes + i);
    ay.push_back(i);
  }
  return tensordot(x, y, ax, ay);
}

Tensor tensordot(const Tensor& x, const Tensor& y, const Ints& axes_x, const Ints& axes_y) {
  TRI_CHECK(axes_x.size() == axes_y.size(), "[tensordot] expects as many axes of x as of y");
  Ints sizes;
  // The others, then the summed ones (x), or the other way about (y), as a matrix.
  const auto matrix = [&](const Tensor& t, Ints axes, bool first) {
    int64_t inside = 1;
    for (int64_t& a : axes) inside *= t.size(static_cast<int>(a = normal_axis(t, a, "tensordot")));
    Ints perm;
    for (int64_t i = 0; i < t.ndim(); ++i)
      if (std::count(axes.begin(), axes.end(), i) == 0) {
        perm.push_back(i);
        sizes.push_back(t.size(static_cast<int>(i)));
      }
    perm.insert(first ? perm.end() : perm.begin(), axes.begin(), axes.end());
    const int64_t outside = inside == 0 ? 0 : t.numel() / inside;
    return reshape(transpose(t, perm), first ? Ints{outside, inside} : Ints{inside, outside});
  };
  for (size_t i = 0; i < axes_x.size(); ++i)
    TRI_CHECK(x.size(static_cast<int>(axes_x[i])) == y.size(static_cast<int>(axes_y[i])),
              "[tensordot] expects equal sizes along the axes, got " + x.shape().str() + " and " +
                  y.shape().str());
  const Tensor a = matrix(x, axes_x, true), b = matrix(y, axes_y, false);
  return reshape(matmul(a, b), sizes);
}

Tensor linalg::norm(const Tensor& x, double p, const Ints& axis, bool keepdim) {
  return call([&](Value* v) { return ops::norm(v, p, axis, keepdim); }, x);
}

}  // namespace trireme
