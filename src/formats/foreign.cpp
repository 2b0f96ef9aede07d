// What both readers of Paddle's programs need: element types, checked shapes, dead operators, free
// values.
#include "formats/foreign.h"

#include <algorithm>
#include <unordered_set>

#include "trireme/error.h"

namespace trireme {

DType dtype_from_paddle(int64_t number, const std::string& what) {
  switch (number) {
    case 0: return DType::kBool;
    case 1: return DType::kInt16;
    case 2: return DType::kInt32;
    case 3: return DType::kInt64;
    case 4: return DType::kFloat16;
    case 5: return DType::kFloat32;
    case 6: return DType::kFloat64;
    case 20: return DType::kUInt8;
    case 21: return DType::kInt8;
    case 22: return DType::kBFloat16;
    default:
      fail(Code::kUnimplemented,
           what + ": element type number " + std::to_string(number) + " is not supported");
  }
}

int paddle_dtype(DType dtype) {
  for (int number = 0; number <= 22; ++number) {
    const bool known = number <= 6 || number >= 20;
    if (known && dtype_from_paddle(number, "") == dtype) return number;
  }
  fail(Code::kInternal, "no number for an element type");
}

Shape checked_shape(const std::vector<int64_t>& dims, const std::string& what) {
  constexpr int64_t kMostElements = int64_t{1} << 46;
  TRI_CHECK(dims.size() <= Shape::kMaxRank, what + ": " + std::to_string(dims.size()) +
                                                " dimensions, at most " +
                                                std::to_string(Shape::kMaxRank) + " are allowed");
  Shape shape;
  int64_t product = 1;
  for (int64_t dim : dims) {
    TRI_CHECK(dim >= -1, what + ": dimension " + std::to_string(dim));
    if (dim > 1) {
      TRI_CHECK(product <= kMostElements / dim, what + ": absurd dimensions");
      product *= dim;
    }
    shape.push_back(dim);
  }
  return shape;
}

namespace {

void collect_free(const ForeignBlock& block, std::unordered_set<int>& defined,
                  std::unordered_set<int>& seen, std::vector<int>& out) {
  const auto use = [&](int value) {
    if (value >= 0 && !defined.contains(value) && seen.insert(value).second) out.push_back(value);
  };
  defined.insert(block.arguments.begin(), block.arguments.end());
  for (const ForeignOp& op : block.ops) {
    for (const ForeignSlot& slot : op.inputs) std::ranges::for_each(slot.values, use);
    for (const ForeignBlock& inner : op.blocks) collect_free(inner, defined, seen, out);
    for (const ForeignSlot& slot : op.outputs)
      defined.insert(slot.values.begin(), slot.values.end());
  }
  std::ranges::for_each(block.results, use);
}

}  // namespace

std::vector<int> free_values(const ForeignBlock& block) {
  std::unordered_set<int> defined, seen;
  std::vector<int> out;
  collect_free(block, defined, seen, out);
  return out;
}

void finish_program(ForeignProgram& program) {
  std::unordered_set<int> needed;
  for (const ForeignOutput& output : program.outputs) needed.insert(output.value);
  std::vector<ForeignOp>& ops = program.body.ops;
  std::vector<bool> keep(ops.size(), false);
  for (size_t i = ops.size(); i-- > 0;) {
    const ForeignOp& op = ops[i];
    for (const ForeignSlot& slot : op.outputs) {
      for (int value : slot.values) keep[i] = keep[i] || needed.contains(value);
    }
    if (!keep[i]) continue;
    for (const ForeignSlot& slot : op.inputs) needed.insert(slot.values.begin(), slot.values.end());
    for (const ForeignBlock& block : op.blocks) {
      for (int value : free_values(block)) needed.insert(value);
    }
  }
  size_t kept = 0;
  for (size_t i = 0; i < ops.size(); ++i) {
    if (!keep[i]) continue;
    if (kept != i) ops[kept] = std::move(ops[i]);
    ++kept;
  }
  ops.resize(kept);
  std::ranges::sort(program.parameters, {}, &ForeignParameter::name);
}

}  // namespace trireme
