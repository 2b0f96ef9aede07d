// Recording flash_attn.
#include "train/attention.h"

#include <cmath>

#include "ops/flash_attn.h"
#include "runtime/call.h"
#include "trireme/autograd.h"
#include "trireme/ops.h"

namespace trireme::nn {
namespace {

bool takes(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, double dropout) {
  if (dropout >= 1 || q.device() == "cpu" || recorder_for({&q}).tracing()) return false;
  const bool packed = !k.defined() && !v.defined();
  if (packed ? q.ndim() != 5 : q.ndim() != 4 || k.ndim() != 4 || v.ndim() != 4) return false;
  const Shape &given = q.shape(),
              s = packed ? Shape{given[0], given[1], given[3], given[4]} : given,
              t = packed ? s : k.shape();
  const bool fits =
      flash_attn_takes(q.dtype(), s[3]) && s.numel() > 0 &&
      (packed || (k.dtype() == q.dtype() && v.dtype() == q.dtype() && v.shape() == t &&
                  s[0] == t[0] && s[3] == t[3] && t.numel() > 0 && s[2] % t[2] == 0));
  if (!fits || !mask.defined()) return fits;
  const bool wants_gradient = is_grad_enabled() && !mask.stop_gradient();
  const int rank = mask.ndim();
  if (wants_gradient || rank < 2 || rank > 4) return false;
  const int64_t full[] = {s[0], s[2], s[1], t[1]};
  for (int d = 1; d <= rank; ++d)
    if (mask.shape()[rank - d] != 1 && mask.shape()[rank - d] != full[4 - d]) return false;
  return true;
}

// What is added, in four dimensions.
Tensor additive(const Tensor& mask, DType dtype) {
  Tensor m = mask;
  if (mask.dtype() == DType::kBool) m = where(mask, full({}, 0, dtype), full({}, -INFINITY, dtype));
  else if (mask.dtype() != dtype) m = cast(mask, dtype);
  Ints dims(static_cast<size_t>(4 - m.ndim()), 1);
  for (const int64_t d : m.shape()) dims.push_back(d);
  return m.ndim() == 4 ? m : reshape(m, dims);
}

}  // namespace

Tensor flash_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
                       double scale, double dropout, bool causal) {
  if (!takes(q, k, v, mask, dropout)) return {};
  Recorder& r = recorder_for({&q});
  FlashAttnAttrs a{.scale = scale, .causal = causal, .dropout = dropout};
  if (dropout > 0) a.index = r.next_random();
  const Tensor added = mask.defined() ? additive(mask, q.dtype()) : Tensor();
  return call(
      [&](Value* x, Value* y, Value* z, Value* m) {
        Value* state = dropout > 0 ? r.random_state() : nullptr;
        return ops::flash_attn(x, y, z, m, state, a)[0];
      },
      q, k, v, added);
}

}  // namespace trireme::nn
