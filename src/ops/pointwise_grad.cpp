// Gradients of pointwise operators that are made of ordinary operators: binary ones, and second
// derivatives.
#include "ops/pointwise_grad.h"

#include <unordered_map>

#include "ops/elements.h"

namespace trireme {
namespace {

using namespace ops;

Value* zero_like(const Value* v) { return scalar(0, v->type.dtype); }

// dout where the condition holds, else 0; and the other way round.
Value* keep(Value* condition, Value* dout) { return where(condition, dout, zero_like(dout)); }
Value* drop(Value* condition, Value* dout) { return where(condition, zero_like(dout), dout); }

// The first input's part of dout where `first` holds, the second's elsewhere.
void choose(Grad& g, Value* first) {
  if (g.wants(0)) g.set(0, keep(first, g.dout()));
  if (g.wants(1)) g.set(1, drop(first, g.dout()));
}

// The derivative of a _grad operator's factor by what it takes (input or output), null: zero.
using Second = Value* (*)(Value* x, double a, double b);

Value* none(Value*, double, double) { return nullptr; }
Value* times_x(Value* x, double factor, double added = 0) { return affine(x, factor, added); }

const std::unordered_map<const Op*, Second>& seconds() {
  static const std::unordered_map<const Op*, Second> map = {
      {&relu_grad_op, none},
      {&relu6_grad_op, none},
      {&leaky_relu_grad_op, none},
      {&hardsigmoid_grad_op, none},
      {&abs_grad_op, none},
      {&clip_grad_op, none},
      {&hardshrink_grad_op, none},
      {&hardtanh_grad_op, none},
      {&softshrink_grad_op, none},
      {&thresholded_relu_grad_op, none},
      // of the output
      {&sigmoid_grad_op, [](Value* y, double, double) { return times_x(y, -2, 1); }},
      {&tanh_grad_op, [](Value* y, double, double) { return times_x(y, -2); }},
      {&exp_grad_op, [](Value* y, double, double) { return affine(y, 0, 1); }},
      {&expm1_grad_op, [](Value* y, double, double) { return affine(y, 0, 1); }},
      {&sqrt_grad_op,
       [](Value* y, double, double) { return times_x(square(reciprocal(y)), -0.5); }},
      {&rsqrt_grad_op, [](Value* y, double, double) { return times_x(square(y), -1.5); }},
      {&reciprocal_grad_op, [](Value* y, double, double) { return times_x(y, -2); }},
      {&tan_grad_op, [](Value* y, double, double) { return times_x(y, 2); }},
      {&selu_grad_op,
       [](Value* y, double, double) { return cast(less_equal(y, zero_like(y)), y->type.dtype); }},
      // of the input
      {&elu_grad_op,
       [](Value* x, double a, double) {
         return drop(greater_than(x, zero_like(x)), times_x(exp(x), a));
       }},
      {&celu_grad_op,
       [](Value* x, double a, double) {
         return drop(greater_than(x, zero_like(x)), times_x(exp(times_x(x, 1 / a)), 1 / a));
       }},
      {&hardswish_grad_op,
       [](Value* x, double, double) {
         Value* inside = less_than(abs(x), scalar(3, x->type.dtype));
         return keep(inside, affine(x, 0, 1.0 / 3));
       }},
      {&swish_grad_op,
       [](Value* x, double a, double) {
         // s' (2 + a x (1 - 2 s)), s' = a s (1 - s)
         Value* s = sigmoid(times_x(x, a));
         Value* slope = times_x(multiply(s, times_x(s, -1, 1)), a);
         return multiply(slope, affine(multiply(times_x(x, a), times_x(s, -2, 1)), 1, 2));
       }},
      {&gelu_grad_op,
       [](Value* x, double, double) {
         // (2 - x^2) phi(x)
         Value* phi = times_x(exp(times_x(square(x), -0.5)), 0.39894228040143268);
         return multiply(times_x(square(x), -1, 2), phi);
       }},
      {&softplus_grad_op,
       [](Value* x, double a, double b) {
         Value* s = sigmoid(times_x(x, a));
         Value* linear = greater_than(times_x(x, a), scalar(b, x->type.dtype));
         return drop(linear, times_x(multiply(s, times_x(s, -1, 1)), a));
       }},
      {&logsigmoid_grad_op,
       [](Value* x, double, double) {
         Value* s = sigmoid(x);
         return multiply(s, times_x(s, 1, -1));
       }},
      {&log_grad_op, [](Value* x, double, double) { return times_x(square(reciprocal(x)), -1); }},
      {&log1p_grad_op,
       [](Value* x, double, double) { return times_x(square(reciprocal(affine(x, 1, 1))), -1); }},
      {&log2_grad_op, [](Value* x, double,
                         double) { return times_x(square(reciprocal(x)), -1.4426950408889634); }},
      {&log10_grad_op, [](Value* x, double,
                          double) { return times_x(square(reciprocal(x)), -0.43429448190325183); }},
      {&square_grad_op, [](Value* x, double, double) { return affine(x, 0, 2); }},
      {&pow_grad_op,
       [](Value* x, double a, double) {
         if (a == 0 || a == 1) return static_cast<Value*>(nullptr);
         return times_x(pow(x, a - 2), a * (a - 1));
       }},
      {&sin_grad_op, [](Value* x, double, double) { return times_x(sin(x), -1); }},
      {&cos_grad_op, [](Value* x, double, double) { return times_x(cos(x), -1); }},
      {&sinh_grad_op, [](Value* x, double, double) { return sinh(x); }},
      {&cosh_grad_op, [](Value* x, double, double) { return cosh(x); }},
      {&erf_grad_op,
       [](Value* x, double, double) {
         return multiply(x, times_x(exp(times_x(square(x), -1)), -2 * 1.1283791670955126));
       }},
      {&atan_grad_op,
       [](Value* x, double, double) {
         return multiply(times_x(x, -2), square(reciprocal(affine(square(x), 1, 1))));
       }},
  };
  return map;
}

}  // namespace

void rule_of_grad(Grad& g) {
  if (g.wants(1)) g.set(1, record1(g.op, {g.in(0), g.dout()}, g.attributes));
  if (!g.wants(0)) return;
  const auto it = seconds().find(&g.op);
  if (it == seconds().end())
    fail(Code::kUnimplemented,
         message(g.op.name, "has no gradient of its own: ",
                 g.op.name.substr(0, g.op.name.rfind("_grad")), " has no second derivative here"));
  const auto& a = g.attrs<PointwiseAttrs>();
  Value* factor = it->second(g.in(0), a.alpha, a.beta);
  if (factor) g.set(0, multiply(factor, multiply(g.in(1), g.dout())));
}

void affine_rule(Grad& g) { g.set(0, affine(g.dout(), g.attrs<PointwiseAttrs>().alpha, 0)); }

void add_rule(Grad& g) {
  g.set(0, g.dout());
  g.set(1, g.dout());
}

void subtract_rule(Grad& g) {
  g.set(0, g.dout());
  if (g.wants(1)) g.set(1, affine(g.dout(), -1, 0));
}

void multiply_rule(Grad& g) {
  if (g.wants(0)) g.set(0, multiply(g.dout(), g.in(1)));
  if (g.wants(1)) g.set(1, multiply(g.dout(), g.in(0)));
}

void divide_rule(Grad& g) {
  Value* quotient = divide(g.dout(), g.in(1));
  g.set(0, quotient);
  if (g.wants(1)) g.set(1, affine(multiply(quotient, g.out()), -1, 0));
}

// Equal inputs share the gradient.
static void extremum(Grad& g, Value* first, Value* second) {
  Value* half = where(equal(g.in(0), g.in(1)), affine(g.dout(), 0.5, 0), zero_like(g.dout()));
  if (g.wants(0)) g.set(0, where(first, g.dout(), half));
  if (g.wants(1)) g.set(1, where(second, g.dout(), half));
}

void maximum_rule(Grad& g) {
  extremum(g, greater_than(g.in(0), g.in(1)), less_than(g.in(0), g.in(1)));
}
void minimum_rule(Grad& g) {
  extremum(g, less_than(g.in(0), g.in(1)), greater_than(g.in(0), g.in(1)));
}
void fmax_rule(Grad& g) {
  choose(g, logical_or(greater_equal(g.in(0), g.in(1)), ops::isnan(g.in(1))));
}
void fmin_rule(Grad& g) {
  choose(g, logical_or(less_equal(g.in(0), g.in(1)), ops::isnan(g.in(1))));
}

void elementwise_pow_rule(Grad& g) {
  Value *x = g.in(0), *y = g.in(1);
  if (g.wants(0)) {
    Value* slope = multiply(y, elementwise_pow(x, affine(y, 1, -1)));
    g.set(0, multiply(g.dout(), drop(equal(y, zero_like(y)), slope)));
  }
  if (g.wants(1)) {  // 0 ^ y stays 0
    Value* slope = multiply(g.out(), log(x));
    g.set(1, multiply(g.dout(), drop(equal(x, zero_like(x)), slope)));
  }
}

void remainder_rule(Grad& g) {
  g.set(0, g.dout());
  if (g.wants(1)) g.set(1, affine(multiply(g.dout(), floor_divide(g.in(0), g.in(1))), -1, 0));
}

void atan2_rule(Grad& g) {
  Value* part = divide(g.dout(), add(square(g.in(0)), square(g.in(1))));
  if (g.wants(0)) g.set(0, multiply(part, g.in(1)));
  if (g.wants(1)) g.set(1, affine(multiply(part, g.in(0)), -1, 0));
}

void prelu_rule(Grad& g) {
  Value* positive = greater_than(g.in(0), zero_like(g.in(0)));
  if (g.wants(0)) g.set(0, where(positive, g.dout(), multiply(g.dout(), g.in(1))));
  if (g.wants(1)) g.set(1, drop(positive, multiply(g.dout(), g.in(0))));
}

void cast_rule(Grad& g) { g.set(0, g.dout()); }

void where_rule(Grad& g) {
  if (g.wants(1)) g.set(1, keep(g.in(0), g.dout()));
  if (g.wants(2)) g.set(2, drop(g.in(0), g.dout()));
}

}  // namespace trireme
