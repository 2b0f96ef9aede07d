// The functions of trireme/ops.h: each one call of an operator on values.
#include "trireme/ops.h"

#include "ops/index.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "runtime/call.h"

namespace trireme {
namespace {

Tensor reduced(const Op& op, const Tensor& x, const Ints& axis, bool keepdim) {
  return call([&](Value* v) { return ops::reduce(op, v, axis, keepdim); }, x);
}

template <class T> Tensor from(const std::vector<T>& values, DType dtype) {
  return Array::from<T>({static_cast<int64_t>(values.size())}, values, dtype);
}

}  // namespace

// ---- making

Tensor to_tensor(const Array& array, bool stop_gradient) {
  Tensor t(array);
  t.set_stop_gradient(stop_gradient);
  return t;
}
Tensor to_tensor(double value, DType dtype) {
  Array a(DType::kFloat64, Shape{});
  *a.as<double>() = value;
  return a.to(dtype);
}
Tensor to_tensor(const std::vector<float>& values) { return from(values, DType::kFloat32); }
Tensor to_tensor(const std::vector<int64_t>& values) { return from(values, DType::kInt64); }

Tensor full(const Ints& shape, double value, DType dtype) {
  return call([&] { return ops::full(shape, value, dtype); });
}
Tensor zeros(const Ints& shape, DType dtype) { return full(shape, 0, dtype); }
Tensor ones(const Ints& shape, DType dtype) { return full(shape, 1, dtype); }
Tensor full_like(const Tensor& x, double value) {
  return call(
      [&](Value* v) {
        return ops::full({v->type.shape.begin(), v->type.shape.end()}, value, v->type.dtype);
      },
      x);
}
Tensor zeros_like(const Tensor& x) { return full_like(x, 0); }
Tensor ones_like(const Tensor& x) { return full_like(x, 1); }
Tensor arange(double start, double end, double step, DType dtype) {
  return call([&] { return ops::arange(start, end, step, dtype); });
}

// ---- element by element

// clang-format off
#define TRI_DEFINE(name) \
  Tensor name(const Tensor& x, const Tensor& y) { \
    return call([](Value* a, Value* b) { return ops::name(a, b); }, x, y); \
  }
TRI_BINARY_FUNCTIONS(TRI_DEFINE)
TRI_COMPARE_FUNCTIONS(TRI_DEFINE)
#undef TRI_DEFINE
#define TRI_DEFINE(name) \
  Tensor name(const Tensor& x) { return call([](Value* v) { return ops::name(v); }, x); }
TRI_UNARY_FUNCTIONS(TRI_DEFINE)
#undef TRI_DEFINE
// clang-format on

Tensor pow(const Tensor& x, double exponent) {
  return call([&](Value* v) { return ops::pow(v, exponent); }, x);
}
Tensor pow(const Tensor& x, const Tensor& exponent) {
  return call([](Value* a, Value* b) { return ops::elementwise_pow(a, b); }, x, exponent);
}
Tensor scale(const Tensor& x, double factor, double bias, bool bias_after_scale) {
  return call([&](Value* v) { return ops::scale(v, factor, bias, bias_after_scale); }, x);
}
Tensor clip(const Tensor& x, double min, double max) {
  return call([&](Value* v) { return ops::clip(v, min, max); }, x);
}
Tensor cast(const Tensor& x, DType dtype) { return x.astype(dtype); }
Tensor where(const Tensor& condition, const Tensor& x, const Tensor& y) {
  return call([](Value* c, Value* a, Value* b) { return ops::where(c, a, b); }, condition, x, y);
}
Tensor logical_not(const Tensor& x) {
  return call([](Value* v) { return ops::logical_not(v); }, x);
}

// ---- products

Tensor matmul(const Tensor& x, const Tensor& y, bool transpose_x, bool transpose_y) {
  return call(
      [&](Value* a, Value* b) { return ops::matmul(a, b, nullptr, transpose_x, transpose_y); }, x,
      y);
}

// ---- reductions

Tensor sum(const Tensor& x, const Ints& axis, bool keepdim) {
  return reduced(ops::sum_op, x, axis, keepdim);
}
Tensor mean(const Tensor& x, const Ints& axis, bool keepdim) {
  return reduced(ops::mean_op, x, axis, keepdim);
}
Tensor max(const Tensor& x, const Ints& axis, bool keepdim) {
  return reduced(ops::max_op, x, axis, keepdim);
}
Tensor min(const Tensor& x, const Ints& axis, bool keepdim) {
  return reduced(ops::min_op, x, axis, keepdim);
}
Tensor prod(const Tensor& x, const Ints& axis, bool keepdim) {
  return reduced(ops::prod_op, x, axis, keepdim);
}
Tensor any(const Tensor& x, const Ints& axis, bool keepdim) {
  return reduced(ops::any_op, x, axis, keepdim);
}
Tensor all(const Tensor& x, const Ints& axis, bool keepdim) {
  return reduced(ops::all_op, x, axis, keepdim);
}
Tensor argmax(const Tensor& x, int64_t axis, bool keepdim) {
  return call([&](Value* v) { return ops::argmax(v, axis, keepdim, false, DType::kInt64); }, x);
}
Tensor argmin(const Tensor& x, int64_t axis, bool keepdim) {
  return call([&](Value* v) { return ops::argmax(v, axis, keepdim, false, DType::kInt64, true); },
              x);
}
std::vector<Tensor> topk(const Tensor& x, int64_t k, int64_t axis, bool largest) {
  return call([&](Value* v) { return ops::topk(v, k, axis, largest, true); }, x);
}
Tensor cumsum(const Tensor& x, int64_t axis) {
  return call([&](Value* v) { return ops::cumsum(v, axis, false, false, false); }, x);
}

// ---- shapes

Tensor reshape(const Tensor& x, const Ints& shape) {
  return call([&](Value* v) { return ops::reshape(v, shape); }, x);
}
Tensor transpose(const Tensor& x, const Ints& perm) {
  return call([&](Value* v) { return ops::transpose(v, perm); }, x);
}
Tensor squeeze(const Tensor& x, const Ints& axis) {
  return call([&](Value* v) { return ops::squeeze(v, axis); }, x);
}
Tensor unsqueeze(const Tensor& x, const Ints& axis) {
  return call([&](Value* v) { return ops::unsqueeze(v, axis); }, x);
}
Tensor flatten(const Tensor& x, int64_t start_axis, int64_t stop_axis) {
  return call([&](Value* v) { return ops::flatten(v, start_axis, stop_axis); }, x);
}
Tensor slice(const Tensor& x, const Ints& axes, const Ints& starts, const Ints& ends) {
  return call([&](Value* v) { return ops::slice(v, axes, starts, ends); }, x);
}
Tensor strided_slice(const Tensor& x, const Ints& axes, const Ints& starts, const Ints& ends,
                     const Ints& strides) {
  return call([&](Value* v) { return ops::slice(v, axes, starts, ends, strides); }, x);
}
std::vector<Tensor> split(const Tensor& x, const Ints& sections, int64_t axis) {
  return call([&](Value* v) { return ops::split(v, sections, axis); }, x);
}
std::vector<Tensor> chunk(const Tensor& x, int64_t chunks, int64_t axis) {
  const int64_t size = x.size(static_cast<int>(axis));
  TRI_CHECK(chunks > 0 && size % chunks == 0, "[chunk] expects a number that divides " +
                                                  std::to_string(size) + ", got " +
                                                  std::to_string(chunks));
  return split(x, Ints(static_cast<size_t>(chunks), size / chunks), axis);
}
Tensor concat(const std::vector<Tensor>& x, int64_t axis) {
  return call_list([&](const std::vector<Value*>& v) { return ops::concat(v, axis); }, x);
}
Tensor stack(const std::vector<Tensor>& x, int64_t axis) {
  return call_list([&](const std::vector<Value*>& v) { return ops::stack(v, axis); }, x);
}
Tensor expand(const Tensor& x, const Ints& shape) {
  return call([&](Value* v) { return ops::expand(v, shape); }, x);
}
Tensor tile(const Tensor& x, const Ints& repeat_times) {
  return call([&](Value* v) { return ops::tile(v, repeat_times); }, x);
}
Tensor flip(const Tensor& x, const Ints& axis) {
  return call([&](Value* v) { return ops::flip(v, axis); }, x);
}
Tensor gather(const Tensor& x, const Tensor& index, int64_t axis) {
  return call([&](Value* v, Value* i) { return ops::gather(v, i, axis); }, x, index);
}
Tensor gather_nd(const Tensor& x, const Tensor& index) {
  return call([](Value* v, Value* i) { return ops::gather_nd(v, i); }, x, index);
}

}  // namespace trireme
