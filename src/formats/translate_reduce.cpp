// Translations of reductions and of the norms that are written with them.
#include <cmath>

#include "formats/context.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace trireme {
namespace {

std::vector<int64_t> reduced_axes(const Context& c, const Value* x) {
  if (c.flag("reduce_all", false)) return {};
  std::vector<int64_t> axes = c.ints("dim");
  for (int64_t& axis : axes) axis = normal_axis(c, axis, x->type.shape.rank());
  if (x->type.shape.rank() == 0) axes.clear();
  return axes;
}

template <const Op& kOp> void reduce(Context& c) {
  Value* x = c.in("X");
  Value* result = ops::reduce(kOp, x, reduced_axes(c, x), c.flag("keep_dim", false));
  c.out(ops::cast(result, c.dtype("out_dtype", result->type.dtype)));
}

void mean(Context& c) { c.out(ops::reduce(ops::mean_op, c.in("X"), {}, false)); }

void logsumexp(Context& c) {
  Value* x = c.in("X");
  std::vector<int64_t> axes = c.flag("reduce_all", false) ? std::vector<int64_t>{} : c.ints("axis");
  for (int64_t& axis : axes) axis = normal_axis(c, axis, x->type.shape.rank());
  c.out(ops::logsumexp(x, axes, c.flag("keepdim", c.flag("keep_dim", false))));
}

void p_norm(Context& c) {
  Value* x = c.in("X");
  std::vector<int64_t> axes;
  if (!c.flag("asvector", false)) {
    axes = {normal_axis(c, c.integer("axis", -1), x->type.shape.rank())};
  }
  c.out(ops::norm(x, c.number("porder", 2), axes, c.flag("keepdim", false)));
}

void frobenius_norm(Context& c) {
  Value* x = c.in("X");
  c.out(ops::norm(x, 2, reduced_axes(c, x), c.flag("keep_dim", false)));
}

// l2_normalize: x / sqrt(sum(x * x) + epsilon) along one axis.
void norm(Context& c) {
  Value* x = c.in("X");
  const int64_t axis = normal_axis(c, c.integer("axis", -1), x->type.shape.rank());
  Value* sum = ops::reduce(ops::sum_op, ops::square(x, 0, 0), {axis}, true);
  Value* size = ops::sqrt(ops::affine(sum, 1, c.number("epsilon", 1e-10)), 0, 0);
  c.out("Norm", size);
  c.out("Out", ops::divide(x, size));
}

void softmax(Context& c) {
  Value* x = c.in("X");
  c.out(ops::softmax(x, normal_axis(c, c.integer("axis", -1), x->type.shape.rank())));
}

void log_softmax(Context& c) {
  Value* x = c.in("X");
  c.out(ops::log_softmax(x, normal_axis(c, c.integer("axis", -1), x->type.shape.rank())));
}

constexpr Translation kTable[] = {
    {"reduce_sum", reduce<ops::sum_op>},
    {"reduce_mean", reduce<ops::mean_op>},
    {"reduce_max", reduce<ops::max_op>},
    {"reduce_min", reduce<ops::min_op>},
    {"reduce_prod", reduce<ops::prod_op>},
    {"reduce_any", reduce<ops::any_op>},
    {"reduce_all", reduce<ops::all_op>},
    {"mean", mean},
    {"logsumexp", logsumexp},
    {"p_norm", p_norm},
    {"frobenius_norm", frobenius_norm},
    {"norm", norm},
    {"softmax", softmax},
    {"log_softmax", log_softmax},
};

}  // namespace

std::span<const Translation> reduce_translations() { return kTable; }

}  // namespace trireme
