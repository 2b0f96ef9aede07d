// Casting the inputs of operators, by Paddle's lists.
#include "runtime/amp_mode.h"

#include <algorithm>
#include <string_view>

#include "ops/assign.h"
#include "ops/pointwise.h"

namespace trireme {
namespace {

thread_local const AmpMode* current = nullptr;

using Names = std::set<std::string_view>;

// Paddle's black list of O1 by our operators' names. An operator with Amp::kFloat need not stand
// here.
const Names kBlackO1 = {"exp",      "expm1",      "log",       "log1p",   "log2",    "log10",
                        "rsqrt",    "reciprocal", "pow",       "square",  "tan",     "acos",
                        "asin",     "sinh",       "cosh",      "atanh",   "erfinv",  "sum",
                        "mean",     "prod",       "cumsum",    "cumprod", "softmax", "log_softmax",
                        "softplus", "layer_norm", "group_norm"};
// Black in O1 and O2.
const Names kBlack = {"nearest_interp", "bilinear_interp", "embedding", "scatter",
                      "scatter_nd_add"};
const Names kWhite = {"max_pool2d_with_index"};
// Of these only the first input counts and is cast; the parameters and statistics stay float32.
const Names kFirstInputOnly = {"batch_norm", "batch_norm_train", "layer_norm", "group_norm",
                               "instance_norm"};

bool passes_on(const Op& op) {
  return &op == &ops::cast_op || &op == &ops::assign_op || &op == &ops::later_op ||
         op.in_place == kEveryOutput;
}

bool is_wide(const Value* v) { return v && v->type.dtype == DType::kFloat32; }
bool is_half(const Value* v) {
  return v && (v->type.dtype == DType::kFloat16 || v->type.dtype == DType::kBFloat16);
}

enum class Colour { kCastToHalf, kFollows, kCastToFloat };

Colour colour_of(const AmpMode& mode, const Op& op) {
  if (mode.black.contains(op.name)) return Colour::kCastToFloat;
  if (mode.white.contains(op.name)) return Colour::kCastToHalf;
  if (op.amp == Amp::kFloat || kBlack.contains(op.name)) return Colour::kCastToFloat;
  if (!mode.o2 && kBlackO1.contains(op.name)) return Colour::kCastToFloat;
  return op.amp == Amp::kHalf || kWhite.contains(op.name) ? Colour::kCastToHalf : Colour::kFollows;
}

}  // namespace

const AmpMode* amp_mode() { return current; }
void set_amp_mode(const AmpMode* mode) { current = mode; }

AmpScope::AmpScope(const AmpMode* mode) : before_(current) { current = mode; }
AmpScope::~AmpScope() { current = before_; }

void amp_cast(const AmpMode& mode, const Op& op, std::vector<Value*>& inputs) {
  if (passes_on(op)) return;
  const size_t n =
      kFirstInputOnly.contains(op.name) ? std::min<size_t>(1, inputs.size()) : inputs.size();
  bool any_wide = false, any_half = false;
  for (size_t i = 0; i < n; ++i) {
    if (inputs[i] && inputs[i]->type.dtype == DType::kFloat64) return;
    if (inputs[i] && constant_of(inputs[i])) continue;
    any_wide = any_wide || is_wide(inputs[i]);
    any_half = any_half || is_half(inputs[i]);
  }
  if (!any_wide && !any_half) return;
  const Colour colour = colour_of(mode, op);
  const bool half = colour == Colour::kCastToHalf || (colour == Colour::kFollows && !any_wide);
  if (colour == Colour::kFollows && !any_half) return;
  const DType to = half ? mode.half : DType::kFloat32;
  const AmpScope off(nullptr);
  for (size_t i = 0; i < n; ++i)
    if (is_wide(inputs[i]) || is_half(inputs[i])) inputs[i] = ops::cast(inputs[i], to);
}

}  // namespace trireme
