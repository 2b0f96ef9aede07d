// Translations of operators that pick by index, sort or count.
#include "formats/context.h"
#include "ops/index.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace trireme {
namespace {

// Old programs write indices with a last dimension of 1.
Value* without_last_one(Value* ids) {
  const int rank = ids->type.shape.rank();
  return rank > 1 && ids->type.shape.back() == 1 ? ops::squeeze(ids, {rank - 1}) : ids;
}

void gather(Context& c) {
  Value* x = c.in("X");
  Value* index = c.in("Index");
  if (index->type.shape.rank() == 2) index = without_last_one(index);
  c.out(
      ops::gather(x, index, normal_axis(c, c.integer("axis", 0, {"Axis"}), x->type.shape.rank())));
}

void index_select(Context& c) {
  Value* x = c.in("X");
  c.out(ops::gather(x, c.in("Index"), normal_axis(c, c.integer("dim", 0), x->type.shape.rank())));
}

void gather_nd(Context& c) { c.out(ops::gather_nd(c.in("X"), c.in("Index"))); }

Value* looked_up(const Context& c, Value* ids) {
  Value* weight = c.in("W");
  int64_t padding = c.integer("padding_idx", -1);
  if (padding < -1) padding += weight->type.shape[0];
  return ops::embedding(weight, ids, padding);
}

void lookup_table(Context& c) { c.out(looked_up(c, without_last_one(c.in("Ids")))); }
void lookup_table_v2(Context& c) { c.out(looked_up(c, c.in("Ids"))); }

int64_t depth_of(const Context& c) {
  const int64_t depth = c.integer("depth", -1, {"depth_tensor"});
  if (depth < 1) c.damaged("depth " + std::to_string(depth));
  return depth;
}

void one_hot(Context& c) { c.out(ops::one_hot(without_last_one(c.in("X")), depth_of(c))); }
void one_hot_v2(Context& c) { c.out(ops::one_hot(c.in("X"), depth_of(c))); }

template <bool kMin> void arg_extreme(Context& c) {
  Value* x = c.in("X");
  const bool flatten = c.flag("flatten", false);
  const int64_t axis = flatten ? 0 : normal_axis(c, c.integer("axis", -1), x->type.shape.rank());
  c.out(ops::argmax(x, axis, c.flag("keepdims", false), flatten, c.dtype("dtype", DType::kInt64),
                    kMin));
}

void topk(Context& c) {
  Value* x = c.in("X");
  const int64_t axis = normal_axis(c, c.integer("axis", -1), x->type.shape.rank());
  const auto results =
      ops::topk(x, c.integer("k", 1, {"K"}), axis, c.flag("largest", true), c.flag("sorted", true));
  c.out("Out", results[0]);
  c.out("Indices", results[1]);
}

void argsort(Context& c) {
  Value* x = c.in("X");
  const int64_t axis = normal_axis(c, c.integer("axis", -1), x->type.shape.rank());
  const auto results =
      ops::topk(x, x->type.shape.rank() == 0 ? 1 : x->type.shape[static_cast<int>(axis)], axis,
                c.flag("descending", false), true);
  c.out("Out", results[0]);
  c.out("Indices", results[1]);
}

void cumsum(Context& c) {
  Value* x = c.in("X");
  const bool flatten = c.flag("flatten", false);
  const int64_t axis = flatten ? 0 : normal_axis(c, c.integer("axis", -1), x->type.shape.rank());
  c.out(ops::cumsum(x, axis, flatten, c.flag("exclusive", false), c.flag("reverse", false)));
}

constexpr Translation kTable[] = {
    {"gather", gather},
    {"index_select", index_select},
    {"gather_nd", gather_nd},
    {"lookup_table", lookup_table},
    {"lookup_table_v2", lookup_table_v2},
    {"one_hot", one_hot},
    {"one_hot_v2", one_hot_v2},
    {"arg_max", arg_extreme<false>},
    {"arg_min", arg_extreme<true>},
    {"top_k", topk},
    {"top_k_v2", topk},
    {"argsort", argsort},
    {"cumsum", cumsum},
};

}  // namespace

std::span<const Translation> index_translations() { return kTable; }

}  // namespace trireme
