// assign and later: values passed on as they are.
#include "ops/assign.h"

#include "graph/kernel.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

void infer(const Infer& i) { i.outputs.push_back(i.type(0)); }

Kernel prepare(const Prepare& p) {
  return copy_boxes(p, {{{p.in().shape.numel()}, {1}, {1}}}, size_of(p.in().dtype));
}

void grad(Grad& g) { g.set(0, g.dout()); }

}  // namespace

namespace ops {

const Op assign_op{.name = "assign",
                   .infer = infer,
                   .grad = grad,
                   .cpu = prepare,
                   .cuda = TRI_CUDA(prepare),
                   .layouts = Layouts::kFollow,
                   .view = true};
const Op later_op{.name = "later",
                  .inputs = 2,
                  .infer = infer,
                  .grad = grad,
                  .cpu = prepare,
                  .cuda = TRI_CUDA(prepare),
                  .view = true};

Value* assign(Value* x) { return record1(assign_op, {x}); }
Value* later(Value* x, Value* after) { return record1(later_op, {x, after}); }

}  // namespace ops
}  // namespace trireme
