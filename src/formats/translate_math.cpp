// Translations of pointwise operators: activations, arithmetic with Paddle's axis rule,
// comparisons, logic.
#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/context.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {
namespace {

using Unary = Value* (*)(Value*, double, double);
using Binary = Value* (*)(Value*, Value*);

bool is_integer(const Value* x) { return !is_floating(x->type.dtype); }

template <Unary F> void unary(Context& c) { c.out(F(c.in("X"), 0, 0)); }

// Of integers these give float32.
template <Unary F> void floating(Context& c) {
  Value* x = c.in("X");
  c.out(F(is_integer(x) ? ops::cast(x, DType::kFloat32) : x, 0, 0));
}

// ---- two inputs ----

// Legacy broadcasting: y's dimensions stand from dimension `axis` of x on; -1 aligns them at the
// end.
Value* align(const Context& c, Value* small, int64_t big_rank, int64_t axis) {
  std::vector<int64_t> dims = dims_of(small);
  const auto rank = static_cast<int64_t>(dims.size());
  if (axis < 0 || rank >= big_rank || axis == big_rank - rank) return small;
  while (!dims.empty() && axis + static_cast<int64_t>(dims.size()) > big_rank && dims.back() == 1) {
    dims.pop_back();
  }
  if (axis + static_cast<int64_t>(dims.size()) > big_rank) {
    c.damaged("axis " + std::to_string(axis) + " does not fit shapes of rank " +
              std::to_string(big_rank) + " and " + std::to_string(rank));
  }
  dims.insert(dims.begin(), static_cast<size_t>(axis), 1);
  dims.resize(static_cast<size_t>(big_rank), 1);
  return ops::reshape(small, dims);
}

template <Binary F> void binary(Context& c) {
  Value* x = c.in("X");
  Value* y = c.in("Y");
  const int64_t axis = c.integer("axis", -1);
  const int64_t rank = std::max(x->type.shape.rank(), y->type.shape.rank());
  if (x->type.shape.rank() < rank) x = align(c, x, rank, axis);
  if (y->type.shape.rank() < rank) y = align(c, y, rank, axis);
  c.out(F(x, y));
}

// PIR's divide of integers gives floats; the legacy one divides and truncates.
void divide_float(Context& c) {
  Value* x = c.in("X");
  Value* y = c.in("Y");
  if (is_integer(x) && is_integer(y)) {
    x = ops::cast(x, DType::kFloat32);
    y = ops::cast(y, DType::kFloat32);
  }
  c.out(ops::divide(x, y));
}

void add_n(Context& c) {
  const std::vector<Value*> xs = c.all("X");
  if (xs.empty()) c.damaged("no inputs");
  Value* sum = xs[0];
  for (size_t i = 1; i < xs.size(); ++i) sum = ops::add(sum, xs[i]);
  c.out(sum);
}

void where(Context& c) {
  Value* condition = ops::cast(c.in("Condition"), DType::kBool);
  c.out(ops::where(condition, c.in("X"), c.in("Y")));
}

// ---- one input ----

// factor * x + bias; integers stay exact.
Value* affine(Value* x, double factor, double bias) {
  if (!is_integer(x)) { return factor == 1 && bias == 0 ? x : ops::affine(x, factor, bias); }
  if (factor != std::floor(factor) || bias != std::floor(bias)) {
    return ops::cast(ops::affine(ops::cast(x, DType::kFloat32), factor, bias), x->type.dtype);
  }
  if (factor != 1) x = ops::multiply(x, scalar_like(x, factor));
  return bias == 0 ? x : ops::add(x, scalar_like(x, bias));
}

void scale(Context& c) {
  Value* x = c.in("X");
  const double bias = c.number("bias", 0);
  const bool after = c.flag("bias_after_scale", true);
  Value* factor = c.maybe("ScaleTensor");
  if (factor != nullptr && constant_of(factor) == nullptr) {
    factor = ops::cast(factor, x->type.dtype);
    Value* inner = after ? x : affine(x, 1, bias);
    c.out(affine(ops::multiply(inner, factor), 1, after ? bias : 0));
    return;
  }
  const double number = c.number("scale", 1, {"ScaleTensor"});
  c.out(affine(x, number, after ? bias : number * bias));
}

// A bound of clip: a value of x's type, given as a tensor that is not known, as a tensor that is,
// or as a number.
Value* bounded(const Context& c, Value* x, std::string_view slot, std::string_view attr, bool low) {
  Value* bound = c.has(slot) ? c.maybe(slot) : c.maybe(attr);
  if (bound == nullptr) {
    if (!c.known(attr)) return x;
    bound = scalar_like(x, c.number(attr, 0));
  } else {
    bound = ops::cast(bound, x->type.dtype);
    if (bound->type.shape.rank() > 0) bound = ops::reshape(bound, {});
  }
  return low ? ops::maximum(x, bound) : ops::minimum(x, bound);
}

void clip(Context& c) {
  Value* x = c.in("X");
  const auto dynamic = [&](std::string_view slot) {
    return c.has(slot) && constant_of(c.maybe(slot)) == nullptr;
  };
  if (is_integer(x) || dynamic("Min") || dynamic("Max")) {
    c.out(bounded(c, bounded(c, x, "Min", "min", true), "Max", "max", false));
    return;
  }
  constexpr double kMost = std::numeric_limits<float>::max();
  c.out(ops::clip(x, c.number("min", -kMost, {"Min"}), c.number("max", kMost, {"Max"})));
}

void pow(Context& c) {
  Value* x = c.in("X");
  const double exponent = c.number("factor", 1, {"FactorTensor"});
  c.out(exponent == 2 && !is_integer(x) ? ops::square(x, 0, 0) : ops::pow(x, exponent, 0));
}

void hard_sigmoid(Context& c) {
  c.out(ops::hardsigmoid(c.in("X"), c.number("slope", 0.2), c.number("offset", 0.5)));
}

void hard_swish(Context& c) {
  Value* x = c.in("X");
  const double offset = c.number("offset", 3), most = c.number("threshold", 6);
  const double divisor = c.number("scale", 6);
  if (offset == 3 && most == 6 && divisor == 6) {
    c.out(ops::hardswish(x, 0, 0));
    return;
  }
  if (divisor == 0) c.damaged("scale is 0");
  Value* gate = ops::clip(ops::affine(x, 1, offset), 0, most);
  c.out(ops::multiply(x, ops::affine(gate, 1 / divisor, 0)));
}

void gelu(Context& c) {
  Value* x = c.in("X");
  c.out(c.flag("approximate", false) ? ops::gelu_tanh(x, 0, 0) : ops::gelu(x, 0, 0));
}

void swish(Context& c) { c.out(ops::swish(c.in("X"), c.number("beta", 1), 0)); }
void silu(Context& c) { c.out(ops::swish(c.in("X"), 1, 0)); }
void leaky_relu(Context& c) { c.out(ops::leaky_relu(c.in("X"), c.number("alpha", 0.02), 0)); }
void elu(Context& c) { c.out(ops::elu(c.in("X"), c.number("alpha", 1), 0)); }

void relu6(Context& c) {
  Value* x = c.in("X");
  const double most = c.number("threshold", 6);
  c.out(most == 6 ? ops::relu6(x, 0, 0) : ops::clip(x, 0, most));
}

void selu(Context& c) {
  c.out(ops::selu(c.in("X"), c.number("scale", 1.0507009873554805),
                  c.number("alpha", 1.6732632423543772)));
}

void softplus(Context& c) {
  c.out(ops::softplus(c.in("X"), c.number("beta", 1), c.number("threshold", 20)));
}

void hard_tanh(Context& c) {
  c.out(ops::hardtanh(c.in("X"), c.number("t_min", 0), c.number("t_max", 24)));
}

void thresholded_relu(Context& c) {
  c.out(ops::thresholded_relu(c.in("X"), c.number("threshold", 1), c.number("value", 0)));
}

void hard_shrink(Context& c) { c.out(ops::hardshrink(c.in("X"), c.number("threshold", 0.5))); }
void softshrink(Context& c) { c.out(ops::softshrink(c.in("X"), c.number("lambda", 0.5))); }
void celu(Context& c) { c.out(ops::celu(c.in("X"), c.number("alpha", 1))); }
void atan2(Context& c) { c.out(ops::atan2(c.in("X1"), c.in("X2"))); }

template <Value* (*F)(Value*)> void kind(Context& c) { c.out(F(c.in("X"))); }

void cast(Context& c) { c.out(ops::cast(c.in("X"), c.dtype("out_dtype", DType::kFloat32))); }

void increment(Context& c) { c.out(affine(c.in("X"), 1, c.number("step", 1))); }

void logical_not(Context& c) { c.out(ops::logical_not(ops::cast(c.in("X"), DType::kBool))); }

template <Binary F> void logic(Context& c) {
  c.out(F(ops::cast(c.in("X"), DType::kBool), ops::cast(c.in("Y"), DType::kBool)));
}

// Bitwise operators are the logical ones on bool.
void bitwise_not(Context& c) {
  Value* x = c.in("X");
  c.out(x->type.dtype == DType::kBool ? ops::logical_not(x) : ops::bitwise_not(x));
}

constexpr Translation kTable[] = {
    {"relu", unary<ops::relu>},
    {"sigmoid", unary<ops::sigmoid>},
    {"tanh", unary<ops::tanh>},
    {"mish", unary<ops::mish>},
    {"exp", unary<ops::exp>},
    {"log", unary<ops::log>},
    {"sqrt", unary<ops::sqrt>},
    {"rsqrt", unary<ops::rsqrt>},
    {"square", unary<ops::square>},
    {"abs", unary<ops::abs>},
    {"floor", unary<ops::floor>},
    {"ceil", unary<ops::ceil>},
    {"round", unary<ops::round>},
    {"erf", unary<ops::erf>},
    {"sin", unary<ops::sin>},
    {"cos", unary<ops::cos>},
    {"reciprocal", unary<ops::reciprocal>},
    {"relu6", relu6},
    {"elu", elu},
    {"selu", selu},
    {"leaky_relu", leaky_relu},
    {"hard_sigmoid", hard_sigmoid},
    {"hard_swish", hard_swish},
    {"swish", swish},
    {"silu", silu},
    {"gelu", gelu},
    {"softplus", softplus},
    {"softsign", floating<ops::softsign>},
    {"logsigmoid", floating<ops::logsigmoid>},
    {"tanh_shrink", floating<ops::tanhshrink>},
    {"hard_shrink", hard_shrink},
    {"softshrink", softshrink},
    {"celu", celu},
    {"brelu", hard_tanh},
    {"thresholded_relu", thresholded_relu},
    {"sign", unary<ops::sign>},
    {"trunc", unary<ops::trunc>},
    {"log2", floating<ops::log2>},
    {"log10", floating<ops::log10>},
    {"log1p", floating<ops::log1p>},
    {"expm1", floating<ops::expm1>},
    {"tan", floating<ops::tan>},
    {"asin", floating<ops::asin>},
    {"acos", floating<ops::acos>},
    {"atan", floating<ops::atan>},
    {"sinh", floating<ops::sinh>},
    {"cosh", floating<ops::cosh>},
    {"asinh", floating<ops::asinh>},
    {"acosh", floating<ops::acosh>},
    {"atanh", floating<ops::atanh>},
    {"isnan_v2", kind<ops::isnan>},
    {"isinf_v2", kind<ops::isinf>},
    {"isfinite_v2", kind<ops::isfinite>},
    {"clip", clip},
    {"pow", pow},
    {"scale", scale},
    {"increment", increment},
    {"cast", cast},
    {"where", where},
    {"sum", add_n},
    {"elementwise_add", binary<ops::add>},
    {"elementwise_sub", binary<ops::subtract>},
    {"elementwise_mul", binary<ops::multiply>},
    {"elementwise_div", binary<ops::divide>},
    {"divide", divide_float},
    {"elementwise_max", binary<ops::maximum>},
    {"elementwise_min", binary<ops::minimum>},
    {"elementwise_fmax", binary<ops::fmax>},
    {"elementwise_fmin", binary<ops::fmin>},
    {"atan2", atan2},
    {"elementwise_pow", binary<ops::elementwise_pow>},
    {"elementwise_mod", binary<ops::remainder>},
    {"elementwise_floordiv", binary<ops::floor_divide>},
    {"equal", binary<ops::equal>},
    {"not_equal", binary<ops::not_equal>},
    {"less_than", binary<ops::less_than>},
    {"less_equal", binary<ops::less_equal>},
    {"greater_than", binary<ops::greater_than>},
    {"greater_equal", binary<ops::greater_equal>},
    {"logical_not", logical_not},
    {"logical_and", logic<ops::logical_and>},
    {"logical_or", logic<ops::logical_or>},
    {"logical_xor", logic<ops::logical_xor>},
    {"bitwise_not", bitwise_not},
    {"bitwise_and", binary<ops::bitwise_and>},
    {"bitwise_or", binary<ops::bitwise_or>},
    {"bitwise_xor", binary<ops::bitwise_xor>},
};

}  // namespace

std::span<const Translation> math_translations() { return kTable; }

}  // namespace trireme
