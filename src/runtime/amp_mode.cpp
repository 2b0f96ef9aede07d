// Casting the inputs of operators, by their own rule (Op::amp) and the user's lists.
#include "runtime/amp_mode.h"

#include "ops/assign.h"
#include "ops/pointwise.h"

namespace trireme {
namespace {

thread_local const AmpMode* current = nullptr;

bool passes_on(const Op& op) {
  return &op == &ops::cast_op || &op == &ops::assign_op || &op == &ops::later_op ||
         op.in_place == kEveryOutput;
}

bool is_wide(const Value* v) { return v && v->type.dtype == DType::kFloat32; }
bool is_half(const Value* v) {
  return v && (v->type.dtype == DType::kFloat16 || v->type.dtype == DType::kBFloat16);
}

Amp rule_of(const AmpMode& mode, const Op& op) {
  if (mode.black.contains(op.name)) return Amp::kFloat;
  if (mode.white.contains(op.name)) return Amp::kHalf;
  return amp_of(op, !mode.o2);
}

}  // namespace

const AmpMode* amp_mode() { return current; }
void set_amp_mode(const AmpMode* mode) { current = mode; }

AmpScope::AmpScope(const AmpMode* mode) : before_(current) { current = mode; }
AmpScope::~AmpScope() { current = before_; }

void amp_cast(const AmpMode& mode, const Op& op, std::vector<Value*>& inputs) {
  if (passes_on(op)) return;
  const auto concerned = [&](size_t i) {
    return inputs[i] && (i >= 32 || (op.amp_inputs >> i & 1U) != 0);
  };
  bool any_wide = false, any_half = false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!concerned(i)) continue;
    if (inputs[i]->type.dtype == DType::kFloat64) return;
    if (constant_of(inputs[i])) continue;
    any_wide = any_wide || is_wide(inputs[i]);
    any_half = any_half || is_half(inputs[i]);
  }
  if (!any_wide && !any_half) return;
  const Amp rule = rule_of(mode, op);
  if (rule == Amp::kFollow && !any_half) return;
  const bool half = rule == Amp::kHalf || (rule == Amp::kFollow && !any_wide);
  const DType to = half ? mode.half : DType::kFloat32;
  const AmpScope off(nullptr);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (concerned(i) && (is_wide(inputs[i]) || is_half(inputs[i])))
      inputs[i] = ops::cast(inputs[i], to);
}

}  // namespace trireme
