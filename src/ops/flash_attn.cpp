// flash_attn: its rules and CPU kernel. Training on a CPU takes single operators: the gradient is a
// GPU's alone.
#include "ops/flash_attn.h"

#include <algorithm>
#include <array>

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "device/cpu/product.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/random_draw.h"
#include "ops/softmax_rows.h"

namespace trireme {

bool flash_attn_takes(DType dtype, int64_t head_size) {
  const bool half = dtype == DType::kFloat16 || dtype == DType::kBFloat16;
  return half && head_size > 0 && head_size % 8 == 0 && head_size <= 128;
}

bool cpu_flash_attn_takes(DType dtype, int64_t head_size) {
  return dtype == DType::kFloat32 && head_size > 0 && cpu_features().avx512;
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
  TRI_CHECK(i.dtype(kQ) == DType::kFloat32 || flash_attn_takes(i.dtype(kQ), s.head_size),
            message(i.op.name, "q expects float32, or float16 or bfloat16 heads of 8, 16 ... 128, ",
                    "got ", i.type(kQ).str()));
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

// ---- CPU: a head at a time, its keys and values packed once, its weights never in memory

class Attention {
 public:
  explicit Attention(const Prepare& p)
      : attrs_(p.attrs<FlashAttnAttrs>()), packed_(!p.has(kK)), masked_(p.has(kMask)) {
    const Shape& q = p.in(kQ).shape;
    batch_ = q[0], length_ = q[1], heads_ = q[q.rank() - 2], size_ = q.back();
    keys_ = packed_ ? length_ : p.in(kK).shape[1];
    shared_ = packed_ ? 1 : heads_ / p.in(kK).shape[2];
    const int64_t q_row = (packed_ ? 3 : 1) * heads_ * size_;
    row_ = packed_ ? q_row : heads_ / shared_ * size_;
    // Weights of so many queries stay in the second-level cache.
    block_ = std::clamp<int64_t>(kWeights / keys_, kFewest, length_ + kFewest);
    scores_ = {
        .n = keys_, .k = size_, .a_row = q_row, .b_row = 1, .b_column = row_, .c_row = keys_};
    sums_ = {.n = size_, .k = keys_, .a_row = keys_, .b_row = row_, .c_row = heads_ * size_};
    weight_bytes_ =
        align_up(static_cast<size_t>(std::min(block_, length_) * keys_) * sizeof(float));
    key_bytes_ = align_up(cpu::small_product_bytes(scores_));
    own_bytes_ = weight_bytes_ + key_bytes_ + align_up(cpu::small_product_bytes(sums_));
    const int64_t threads = num_threads(), blocks = (length_ + block_ - 1) / block_;
    parts_ = std::clamp<int64_t>(2 * threads / (batch_ * heads_), 1, blocks);
    if (masked_) plan_mask(p.in(kMask).shape);
  }

  size_t scratch_bytes() const { return own_bytes_ * static_cast<size_t>(num_threads()); }

  void run(const Launch& l) const {
    constexpr int64_t kGrain = 1 << 18;  // multiplications worth a thread
    constexpr int64_t kExp = 16;         // as dear as so many
    const int64_t work = length_ * keys_ * (2 * size_ + kExp) / parts_;
    const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work));
    parallel_for(batch_ * heads_ * parts_, grain, [&](int64_t begin, int64_t end, int task) {
      char* own = static_cast<char*>(l.scratch) + own_bytes_ * static_cast<size_t>(task);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t part = i % parts_;
        run_head(l, i / parts_, length_ * part / parts_, length_ * (part + 1) / parts_, own);
      }
    });
  }

 private:
  static constexpr int64_t kWeights = 32 * 1024;
  static constexpr int64_t kFewest = 28;  // queries that pay for passing over all keys

  void plan_mask(const Shape& m) {
    int64_t stride = 1;
    for (size_t d = 4; d-- > 0;) {
      mask_[d] = m[static_cast<int>(d)] == 1 ? 0 : stride;
      stride *= m[static_cast<int>(d)];
    }
  }

  void run_head(const Launch& l, int64_t index, int64_t begin, int64_t end, char* own) const {
    const int64_t b = index / heads_, h = index % heads_;
    auto* weights = reinterpret_cast<float*>(own);
    void *keys = own + weight_bytes_, *values = own + weight_bytes_ + key_bytes_;
    cpu::ProductSpec scores = scores_, sums = sums_;
    const float* q = l.input<float>(kQ) + b * length_ * scores.a_row + h * size_;
    const int64_t first = b * keys_ * row_ + h / shared_ * size_;
    const float *k = packed_ ? q + heads_ * size_ : l.input<float>(kK) + first,
                *v = packed_ ? k + heads_ * size_ : l.input<float>(kV) + first;
    float* out = l.output<float>() + b * length_ * sums.c_row + h * size_;
    float* lse = l.output<float>(1) + index * length_;
    cpu::pack_small_product(scores, k, keys);
    cpu::pack_small_product(sums, v, values);
    for (int64_t i = begin; i < end; i += block_) {
      scores.m = sums.m = std::min(block_, end - i);
      cpu::small_product_packed(scores, q + i * scores.a_row, keys, weights);
      for (int64_t r = 0; r < scores.m; ++r)
        lse[i + r] = weigh(l, b, h, i + r, weights + r * keys_);
      cpu::small_product_packed(sums, weights, values, out + i * sums.c_row);
    }
  }

  float weigh(const Launch& l, int64_t b, int64_t h, int64_t i, float* row) const {
    const float* mask = masked_ ? l.input<float>(kMask) : nullptr;
    if (mask) mask += b * mask_[0] + h * mask_[1] + i * mask_[2];
    const int64_t seen = attrs_.causal ? std::min(i + 1, keys_) : keys_;
    std::fill(row + seen, row + keys_, 0.f);
    return attention_row_avx512(row, seen, static_cast<float>(attrs_.scale), mask, mask_[3]);
  }

  FlashAttnAttrs attrs_;
  bool packed_, masked_;
  int64_t batch_, length_, heads_, size_, keys_, shared_;  // shared_: queries' heads a keys' head
  int64_t row_, block_, parts_;  // of keys; queries at a time; of a head's queries
  cpu::ProductSpec scores_, sums_;
  size_t weight_bytes_, key_bytes_, own_bytes_;
  std::array<int64_t, 4> mask_{};  // strides
};

Kernel prepare(const Prepare& p) {
  TRI_CHECK(cpu_flash_attn_takes(p.in(kQ).dtype, p.in(kQ).shape.back()) &&
                p.attrs<FlashAttnAttrs>().dropout == 0,
            message(p.node.op->name, "on a CPU expects float32, AVX-512 and no dropout, got ",
                    p.in(kQ).str()));
  const Attention attention(p);
  return {[attention](const Launch& l) { attention.run(l); }, attention.scratch_bytes()};
}

}  // namespace

namespace ops {

constinit const Op flash_attn_op{.name = "flash_attn",
                                 .inputs = 5,
                                 .outputs = 2,
                                 .attrs = &attr_info<FlashAttnAttrs>,
                                 .infer = infer,
                                 .grad = grad,
                                 .cpu = prepare,
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
