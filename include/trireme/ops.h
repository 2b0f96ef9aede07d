// Operators on tensors: Paddle's functions under Paddle's names. Each checks its arguments now
// (throws kInvalidArgument naming itself), records, and returns a handle.
//
// Broadcasting is NumPy's. Negative axes count from the end. An empty list of axes means all of
// them. Results on the inputs' device; factories use the current device (set_device).
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "trireme/tensor.h"

namespace trireme {

using Ints = std::vector<int64_t>;

// ---- making
Tensor to_tensor(const Array& array, bool stop_gradient = true);
Tensor to_tensor(double value, DType dtype = DType::kFloat32);  // a scalar
Tensor to_tensor(const std::vector<float>& values);             // rank 1
Tensor to_tensor(const std::vector<int64_t>& values);
Tensor full(const Ints& shape, double value, DType dtype = DType::kFloat32);
Tensor zeros(const Ints& shape, DType dtype = DType::kFloat32);
Tensor ones(const Ints& shape, DType dtype = DType::kFloat32);
Tensor full_like(const Tensor& x, double value);
Tensor zeros_like(const Tensor& x);
Tensor ones_like(const Tensor& x);
Tensor arange(double start, double end, double step = 1, DType dtype = DType::kInt64);

// ---- element by element; results of the promoted dtype, bool for comparisons
// clang-format off
#define TRI_BINARY_FUNCTIONS(F) \
  F(add) F(subtract) F(multiply) F(divide) F(maximum) F(minimum) F(remainder) F(floor_divide)
#define TRI_COMPARE_FUNCTIONS(F) \
  F(equal) F(not_equal) F(less_than) F(less_equal) F(greater_than) F(greater_equal) \
  F(logical_and) F(logical_or) F(logical_xor)
#define TRI_UNARY_FUNCTIONS(F) \
  F(sigmoid) F(tanh) F(exp) F(log) F(sqrt) F(rsqrt) F(square) F(abs) F(floor) F(ceil) F(round) \
  F(erf) F(sin) F(cos) F(reciprocal)
#define TRI_DECLARE(name) Tensor name(const Tensor& x, const Tensor& y);
TRI_BINARY_FUNCTIONS(TRI_DECLARE)
TRI_COMPARE_FUNCTIONS(TRI_DECLARE)
#undef TRI_DECLARE
#define TRI_DECLARE(name) Tensor name(const Tensor& x);
TRI_UNARY_FUNCTIONS(TRI_DECLARE)
#undef TRI_DECLARE
// clang-format on
Tensor pow(const Tensor& x, double exponent);
Tensor pow(const Tensor& x, const Tensor& exponent);
Tensor scale(const Tensor& x, double scale, double bias = 0, bool bias_after_scale = true);
Tensor clip(const Tensor& x, double min, double max);
Tensor cast(const Tensor& x, DType dtype);
Tensor where(const Tensor& condition, const Tensor& x, const Tensor& y);
Tensor logical_not(const Tensor& x);

// ---- products
Tensor matmul(const Tensor& x, const Tensor& y, bool transpose_x = false, bool transpose_y = false);

// ---- reductions
Tensor sum(const Tensor& x, const Ints& axis = {}, bool keepdim = false);
Tensor mean(const Tensor& x, const Ints& axis = {}, bool keepdim = false);
Tensor max(const Tensor& x, const Ints& axis = {}, bool keepdim = false);
Tensor min(const Tensor& x, const Ints& axis = {}, bool keepdim = false);
Tensor prod(const Tensor& x, const Ints& axis = {}, bool keepdim = false);
Tensor any(const Tensor& x, const Ints& axis = {}, bool keepdim = false);
Tensor all(const Tensor& x, const Ints& axis = {}, bool keepdim = false);
Tensor argmax(const Tensor& x, int64_t axis = -1, bool keepdim = false);
Tensor argmin(const Tensor& x, int64_t axis = -1, bool keepdim = false);
std::vector<Tensor> topk(const Tensor& x, int64_t k, int64_t axis = -1, bool largest = true);
Tensor cumsum(const Tensor& x, int64_t axis);

// ---- shapes
Tensor reshape(const Tensor& x, const Ints& shape);  // -1: what is left; 0: as in x
Tensor transpose(const Tensor& x, const Ints& perm);
Tensor squeeze(const Tensor& x, const Ints& axis = {});
Tensor unsqueeze(const Tensor& x, const Ints& axis);
Tensor flatten(const Tensor& x, int64_t start_axis = 0, int64_t stop_axis = -1);
Tensor slice(const Tensor& x, const Ints& axes, const Ints& starts, const Ints& ends);
Tensor strided_slice(const Tensor& x, const Ints& axes, const Ints& starts, const Ints& ends,
                     const Ints& strides);
std::vector<Tensor> split(const Tensor& x, const Ints& sections, int64_t axis = 0);
std::vector<Tensor> chunk(const Tensor& x, int64_t chunks, int64_t axis = 0);
Tensor concat(const std::vector<Tensor>& x, int64_t axis = 0);
Tensor stack(const std::vector<Tensor>& x, int64_t axis = 0);
Tensor expand(const Tensor& x, const Ints& shape);
Tensor tile(const Tensor& x, const Ints& repeat_times);
Tensor flip(const Tensor& x, const Ints& axis);
Tensor gather(const Tensor& x, const Tensor& index, int64_t axis = 0);
Tensor gather_nd(const Tensor& x, const Tensor& index);

// ---- operators of the language
inline Tensor operator+(const Tensor& x, const Tensor& y) { return add(x, y); }
inline Tensor operator-(const Tensor& x, const Tensor& y) { return subtract(x, y); }
inline Tensor operator*(const Tensor& x, const Tensor& y) { return multiply(x, y); }
inline Tensor operator/(const Tensor& x, const Tensor& y) { return divide(x, y); }
inline Tensor operator+(const Tensor& x, double y) { return scale(x, 1, y); }
inline Tensor operator-(const Tensor& x, double y) { return scale(x, 1, -y); }
inline Tensor operator*(const Tensor& x, double y) { return scale(x, y); }
inline Tensor operator/(const Tensor& x, double y) { return scale(x, 1 / y); }
inline Tensor operator+(double x, const Tensor& y) { return scale(y, 1, x); }
inline Tensor operator-(double x, const Tensor& y) { return scale(y, -1, x); }
inline Tensor operator*(double x, const Tensor& y) { return scale(y, x); }
inline Tensor operator/(double x, const Tensor& y) { return scale(reciprocal(y), x); }
inline Tensor operator-(const Tensor& x) { return scale(x, -1); }

}  // namespace trireme
