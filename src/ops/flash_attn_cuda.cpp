// flash_attn by cuDNN's attention: strides instead of copies, its random numbers from our state.
#include "ops/flash_attn.h"

#include "device/cuda/cudnn.h"
#include "device/precision.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/flash_attn_seed.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

using cuda::DnnGraph;
using cuda::DnnTensor;

enum In : size_t { kQ, kK, kV, kMask, kState, kOut, kLse, kDout };

constexpr size_t kAlign = 256;
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// q, k, v (or their gradients) as cuDNN sees them: [B, H, S, D] in the strides of [B, S, H, D].
struct Operands {
  bool packed;
  DType dtype;
  int64_t batch, length, key_length, heads, key_heads, head_size;

  explicit Operands(const Prepare& p) : packed(!p.has(kK)), dtype(p.in(kQ).dtype) {
    TRI_CHECK(
        flash_attn_takes(dtype, p.in(kQ).shape.back()),
        message(p.node.op->name, "on a GPU expects float16 or bfloat16, got ", p.in(kQ).str()));
    const Shape& q = p.in(kQ).shape;
    batch = q[0], length = q[1], heads = q[q.rank() - 2], head_size = q.back();
    key_length = packed ? length : p.in(kK).shape[1];
    key_heads = packed ? heads : p.in(kK).shape[2];
  }

  DnnTensor query() const { return tensor(length, heads, packed ? 3 : 1); }
  DnnTensor key() const { return tensor(key_length, key_heads, packed ? 3 : 1); }
  DnnTensor result() const { return tensor(length, heads, 1); }
  DnnTensor sums() const { return cuda::dnn_plain(DType::kFloat32, {batch, heads, length, 1}); }

  // Where q, k and v are, given where the first one is (packed) or each.
  std::array<void*, 3> places(void* const* of) const {
    if (!packed) return {of[0], of[1], of[2]};
    const auto step = static_cast<size_t>(heads * head_size) * size_of(dtype);
    auto* base = static_cast<char*>(of[0]);
    return {base, base + step, base + 2 * step};
  }

 private:
  DnnTensor tensor(int64_t s, int64_t h, int64_t parts) const {
    const int64_t row = parts * h * head_size;
    return {dtype, {batch, h, s, head_size}, {s * row, head_size, row, 1}};
  }
};

// The inputs that forward and backward share, behind q, k and v.
struct Extras {
  bool has_mask = false, spread = false, draws = false;
  DnnTensor mask;
  Kernel copy;  // of a mask with one row, to all rows
  size_t mask_at = 0, seed_at = 0, scratch = 0;
  int64_t index = 0;

  Extras(const Prepare& p, const Operands& o) {
    const auto& a = p.attrs<FlashAttnAttrs>();
    has_mask = p.has(kMask);
    draws = a.dropout > 0;
    index = a.index;
    if (has_mask) add_mask(p, o);
    seed_at = scratch;
    if (draws) scratch += kAlign;
  }

  DnnGraph::Attention declare(DnnGraph& g, const FlashAttnAttrs& a) const {
    DnnGraph::Attention how{.scale = a.scale, .causal = a.causal, .dropout = a.dropout};
    if (has_mask) how.mask = g.input(mask);
    const DnnTensor number = cuda::dnn_plain(DType::kInt64, {1, 1, 1, 1});
    if (draws) how.seed = g.input(number), how.offset = g.input(number);
    return how;
  }

  // Fills them in and appends their places.
  void prepare(const Launch& l, std::vector<void*>& pointers) const {
    auto* at = static_cast<char*>(l.scratch);
    if (spread) {
      void *in = l.in[kMask], *out = at + mask_at;
      copy.run(Launch{&in, &out, nullptr, l.stream});
      pointers.push_back(out);
    } else if (has_mask) {
      pointers.push_back(l.in[kMask]);
    }
    if (!draws) return;
    auto* seed = reinterpret_cast<int64_t*>(at + seed_at);
    cuda::run_attention_seed(l.input<int64_t>(kState), index, seed, l.stream);
    pointers.push_back(seed);
    pointers.push_back(seed + 1);
  }

 private:
  void add_mask(const Prepare& p, const Operands& o) {
    const Shape& m = p.in(kMask).shape;
    spread = m[2] != o.length || m[3] != o.key_length;  // cuDNN wants both
    mask = cuda::dnn_plain(o.dtype, {m[0], m[1], o.length, o.key_length});
    if (!spread) return;
    copy = copy_boxes(p,
                      {CopyBox{.dims = {m[0] * m[1], o.length, o.key_length},
                               .src = {m[2] * m[3], m[2] == 1 ? 0 : m[3], m[3] == 1 ? 0 : 1},
                               .dst = {o.length * o.key_length, o.key_length, 1}}},
                      size_of(o.dtype));
    mask_at = scratch;
    scratch += aligned(static_cast<size_t>(mask.bytes()));
  }
};

Kernel kernel_of(const Extras& extras, const std::shared_ptr<const cuda::DnnPlan>& plan,
                 std::function<void(const Launch&, std::vector<void*>&)> first,
                 std::function<void(const Launch&, std::vector<void*>&)> last) {
  const size_t own = aligned(extras.scratch);
  return {[=](const Launch& l) {
            std::vector<void*> pointers;
            first(l, pointers);
            extras.prepare(l, pointers);
            last(l, pointers);
            plan->run(pointers.data(), static_cast<char*>(l.scratch) + own, l.stream);
          },
          own + plan->workspace()};
}

// Attention's engines are compiled when a plan is made, in tenths of a second, and round the
// weights to half precision.
constexpr cuda::DnnOptions kOptions{
    .deterministic = false, .precompiled = false, .any_rounding = true, .wide_search = false};

}  // namespace

Kernel cuda_flash_attn(const Prepare& p) {
  const Operands o(p);
  const Extras extras(p, o);
  DnnGraph g;
  const auto q = g.input(o.query()), k = g.input(o.key()), v = g.input(o.key());
  const auto [out, sums] = g.attention(q, k, v, extras.declare(g, p.attrs<FlashAttnAttrs>()));
  g.output(out, o.result());
  g.output(sums, o.sums());
  return kernel_of(
      extras, g.plan(*p.device, kOptions),
      [o](const Launch& l, std::vector<void*>& to) {
        for (void* place : o.places(l.in)) to.push_back(place);
      },
      [](const Launch& l, std::vector<void*>& to) {
        to.insert(to.end(), {l.out[0], l.out[1]});
      });
}

Kernel cuda_flash_attn_grad(const Prepare& p) {
  const Operands o(p);
  const Extras extras(p, o);
  DnnGraph g;
  const auto q = g.input(o.query()), k = g.input(o.key()), v = g.input(o.key());
  const auto out = g.input(o.result()), dout = g.input(o.result()), sums = g.input(o.sums());
  const auto grads =
      g.attention_backward(q, k, v, out, dout, sums, extras.declare(g, p.attrs<FlashAttnAttrs>()),
                           cudnn_deterministic(false));
  g.output(grads[0], o.query());
  g.output(grads[1], o.key());
  g.output(grads[2], o.key());
  return kernel_of(
      extras, g.plan(*p.device, kOptions),
      [o](const Launch& l, std::vector<void*>& to) {
        for (void* place : o.places(l.in)) to.push_back(place);
        to.insert(to.end(), {l.in[kOut], l.in[kDout], l.in[kLse]});
      },
      [o](const Launch& l, std::vector<void*>& to) {
        for (void* place : o.places(l.out)) to.push_back(place);
      });
}

}  // namespace trireme
