// flash_attn: its rules. There is no CPU kernel: what records attention takes single operators
// there.
#include "ops/flash_attn.h"

#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/random_draw.h"

namespace trireme {

bool flash_attn_takes(DType dtype, int64_t head_size) {
  const bool half = dtype == DType::kFloat16 || dtype == DType::kBFloat16;
  return half && head_size > 0 && head_size % 8 == 0 && head_size <= 128;
}

namespace {

enum In : size_t { kQ, kK, kV, kMask, kState, kOut, kLse, kDout };

struct Sizes {
  int64_t batch, length, key_length, heads, key_heads, head_size;
};

Sizes check_inputs(const Infer& i) {
  const bool packed = !i.has(kK);
  const Shape& q = i.shape(kQ);
  TRI_CHECK(
      packed ? q.rank() == 5 && q[2] == 3 && !i.has(kV) : q.rank() == 4,
      message(i.op.name, "q expects [B, S, H, D], or [B, S, 3, H, D] without k and v, got ", q));
  Sizes s{q[0], q[1], q[1], q[q.rank() - 2], q[q.rank() - 2], q.back()};
  TRI_CHECK(flash_attn_takes(i.dtype(kQ), s.head_size),
            message(i.op.name, "q expects float16 or bfloat16 heads of 8, 16 ... 128, got ",
                    i.type(kQ).str()));
  if (!packed) {
    TRI_CHECK(i.has(kV), message(i.op.name, "expects both k and v"));
    const Shape& k = i.shape(kK);
    TRI_CHECK(k.rank() == 4 && k == i.shape(kV) && k[0] == s.batch && k.back() == s.head_size &&
                  k[2] > 0 && s.heads % k[2] == 0 && i.dtype(kK) == i.dtype(kQ) &&
                  i.dtype(kV) == i.dtype(kQ),
              message(i.op.name, "k and v expect ", i.dtype(kQ), '[', s.batch,
                      ", any, heads that divide ", s.heads, ", ", s.head_size, "], got ",
                      i.type(kK).str(), " and ", i.type(kV).str()));
    s.key_length = k[1], s.key_heads = k[2];
  }
  TRI_CHECK(s.batch > 0 && s.length > 0 && s.key_length > 0 && s.heads > 0,
            message(i.op.name, "expects no empty dimension, got ", i.type(kQ).str()));
  return s;
}

void check_rest(const Infer& i, const Sizes& s) {
  const auto& a = i.attrs<FlashAttnAttrs>();
  TRI_CHECK(a.dropout >= 0 && a.dropout < 1,
            message(i.op.name, "dropout expects a value from 0 to below 1"));
  TRI_CHECK(a.dropout == 0 || i.has(kState), message(i.op.name, "dropout expects a random state"));
  if (i.has(kState)) check_state(i, kState);
  if (!i.has(kMask)) return;
  const Shape& m = i.shape(kMask);
  const int64_t full[] = {s.batch, s.heads, s.length, s.key_length};
  bool fits = m.rank() == 4 && i.dtype(kMask) == i.dtype(kQ);
  for (int d = 0; fits && d < 4; ++d) fits = m[d] == full[d] || m[d] == 1;
  TRI_CHECK(fits,
            message(i.op.name, "mask expects ", i.dtype(kQ), " that broadcasts to ",
                    Shape{full[0], full[1], full[2], full[3]}, ", got ", i.type(kMask).str()));
}

void infer(const Infer& i) {
  const Sizes s = check_inputs(i);
  check_rest(i, s);
  i.out(i.dtype(kQ), Shape{s.batch, s.length, s.heads, s.head_size});
  i.out(DType::kFloat32, Shape{s.batch, s.heads, s.length});
}

void infer_grad(const Infer& i) {
  const Sizes s = check_inputs(i);
  check_rest(i, s);
  const Shape out{s.batch, s.length, s.heads, s.head_size};
  TRI_CHECK(i.inputs.size() == 8 && i.shape(kOut) == out && i.shape(kDout) == out &&
                i.dtype(kDout) == i.dtype(kQ) && i.dtype(kLse) == DType::kFloat32,
            message(i.op.name, "expects what flash_attn gave, and a gradient of its shape ", out));
  i.out(i.dtype(kQ), i.shape(kQ));
  if (!i.has(kK)) return;
  i.out(i.dtype(kQ), i.shape(kK));
  i.out(i.dtype(kQ), i.shape(kK));
}

void grad(Grad& g) {
  TRI_CHECK(g.dout(1) == nullptr, message(g.op.name, "softmax_lse has no gradient"));
  TRI_CHECK(!g.wants(kMask), message(g.op.name, "the mask gets no gradient"));
  std::vector<Value*> in(g.inputs.begin(), g.inputs.end());
  in.resize(5);
  for (Value* v : {g.out(0), g.out(1), g.dout(0)}) in.push_back(v);
  const std::vector<Value*> back = record(ops::flash_attn_grad_op, in, g.attributes);
  for (size_t k = 0; k < back.size(); ++k) g.set(k, back[k]);
}

}  // namespace

namespace ops {

constinit const Op flash_attn_op{.name = "flash_attn",
                                 .inputs = 5,
                                 .outputs = 2,
                                 .attrs = &attr_info<FlashAttnAttrs>,
                                 .infer = infer,
                                 .grad = grad,
                                 .cuda = TRI_CUDA(cuda_flash_attn),
                                 .amp = Amp::kHalf};

constinit const Op flash_attn_grad_op{.name = "flash_attn_grad",
                                      .inputs = 8,
                                      .outputs = -1,
                                      .attrs = &attr_info<FlashAttnAttrs>,
                                      .infer = infer_grad,
                                      .cuda = TRI_CUDA(cuda_flash_attn_grad)};

std::vector<Value*> flash_attn(Value* q, Value* k, Value* v, Value* mask, Value* random_state,
                               const FlashAttnAttrs& attrs) {
  return record(flash_attn_op, {q, k, v, mask, attrs.dropout > 0 ? random_state : nullptr}, attrs);
}

}  // namespace ops
}  // namespace trireme
