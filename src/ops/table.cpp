// The op table: every operator by its name.
#include <unordered_map>
#include <vector>

#include "ops/pointwise.h"

namespace trireme {
namespace ops {
#define TRI_OP(name) extern const Op name;
#include "ops/list.def"
#undef TRI_OP
}  // namespace ops

namespace {

const std::vector<const Op*>& table() {
  static const std::vector<const Op*> ops_by_name = {
      &kData,
      &kConstant,
#define TRI_UNARY(name, value, kind, ...) &ops::name##_op, TRI_IF_##kind(&ops::name##_grad_op, )
#define TRI_FLOAT(name, value, kind, ...) TRI_UNARY(name, value, kind)
#define TRI_BINARY(name, ...) &ops::name##_op,
#define TRI_COMPARE(name, ...) &ops::name##_op,
#define TRI_LOGIC(name, ...) &ops::name##_op,
#include "ops/pointwise.def"
#define TRI_OP(name) &ops::name,
#include "ops/list.def"
  };
  return ops_by_name;
}

}  // namespace

std::span<const Op* const> all_ops() { return table(); }

const Op* find_op(std::string_view name) {
  static const std::unordered_map<std::string_view, const Op*> by_name = [] {
    std::unordered_map<std::string_view, const Op*> map;
    for (const Op* op : table()) map.emplace(op->name, op);
    return map;
  }();
  const auto it = by_name.find(name);
  return it == by_name.end() ? nullptr : it->second;
}

}  // namespace trireme
