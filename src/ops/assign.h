// Operators that pass a value on: under another name, or not before another one is there.
#pragma once

#include "graph/graph.h"

namespace trireme::ops {

extern const Op assign_op;  // (x): a view
extern const Op later_op;   // (x, after): a view of x whose readers run behind `after`
Value* assign(Value* x);
// What reads the result is not merged with what reads x: so values can be computed a second time.
Value* later(Value* x, Value* after);

}  // namespace trireme::ops
