// Gradient rules of the pointwise operators: what pointwise.cpp puts into their Op objects.
#pragma once

#include "ops/pointwise.h"

namespace trireme {

// Of an operator with a <name>_grad operator, which takes the input or the output.
template <const Op& kGrad> void rule_of_input(Grad& g) {
  g.set(0, record1(kGrad, {g.in(), g.dout()}, g.attributes));
}
template <const Op& kGrad> void rule_of_output(Grad& g) {
  g.set(0, record1(kGrad, {g.out(), g.dout()}, g.attributes));
}

// Of the <name>_grad operators themselves.
void rule_of_grad(Grad& g);

// Of the lines with RULE.
#define TRI_UNARY(name, value, kind, ...) TRI_DECLARE_##kind(name)
#define TRI_FLOAT(name, value, kind, ...)
#define TRI_BINARY(name, value, kind) TRI_DECLARE_##kind(name)
#define TRI_COMPARE(name, ...)
#define TRI_LOGIC(name, ...)
#define TRI_DECLARE_RULE(name) void name##_rule(Grad& g);
#define TRI_DECLARE_NONE(name)
#define TRI_DECLARE_IN(name)
#define TRI_DECLARE_OUT(name)
#include "ops/pointwise.def"
#undef TRI_UNARY
#undef TRI_FLOAT
#undef TRI_BINARY
#undef TRI_COMPARE
#undef TRI_LOGIC

void cast_rule(Grad& g);
void where_rule(Grad& g);

}  // namespace trireme
