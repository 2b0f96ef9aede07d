// dropout: the mask is drawn again by the gradient instead of being kept.
#include "ops/cuda_kernels.h"
#include "ops/pointwise.h"
#include "ops/random.h"
#include "ops/random_draw.h"
#include "ops/shape.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<DropoutAttrs>();
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  check_state(i, 1);
  TRI_CHECK(a.p >= 0 && a.p <= 1, message(i.op.name, "p expects a value from 0 to 1"));
  TRI_CHECK(
      a.mode == "upscale_in_train" || a.mode == "downscale_in_infer",
      message(i.op.name, "mode expects upscale_in_train or downscale_in_infer, got ", a.mode));
  for (size_t k = 0; k < a.axis.size(); ++k)
    TRI_CHECK(
        a.axis[k] >= 0 && a.axis[k] < i.shape(0).rank() && (k == 0 || a.axis[k - 1] < a.axis[k]),
        message(i.op.name, "axis expects sorted dimensions of ", i.shape(0), ", got ", a.axis[k]));
  i.out(i.dtype(0), i.shape(0));
}

// Linear in x, with the same mask.
void grad(Grad& g) { g.set(0, record1(ops::dropout_op, {g.dout(), g.in(1)}, g.attributes)); }

struct Plan {
  uint32_t threshold;  // numbers below it are dropped
  bool all;            // p == 1
  double scale;
  int64_t index;

  explicit Plan(const DropoutAttrs& a)
      : threshold(static_cast<uint32_t>(std::min(a.p * 4294967296.0, 4294967295.0))),
        all(a.p >= 1),
        scale(a.mode == "upscale_in_train" && a.p < 1 ? 1 / (1 - a.p) : 1),
        index(a.index) {}
};

template <class T> Kernel prepare_as(const Prepare& p) {
  const Plan plan(p.attrs<DropoutAttrs>());
  const int64_t n = p.in().shape.numel();
  if (plan.all) {
    return {[bytes = p.in().bytes()](const Launch& l) {
      if (bytes > 0) std::memset(l.out[0], 0, bytes);
    }};
  }
  if constexpr (std::is_same_v<T, float>) {
    return {[=](const Launch& l) {
      const RandomStream s = stream_of(l, 1, plan.index);
      const int64_t blocks = (n + kRandomBlock - 1) / kRandomBlock;
      parallel_for(blocks, grain_of(2 * kRandomBlock), [&](int64_t begin, int64_t end, int) {
        const int64_t first = begin * kRandomBlock;
        random_rows().dropout(s, static_cast<uint64_t>(begin), plan.threshold,
                              static_cast<float>(plan.scale), l.input<float>(0) + first,
                              l.output<float>() + first, std::min(n, end * kRandomBlock) - first);
      });
    }};
  }
  return {[=](const Launch& l) {
    const auto scale = static_cast<Compute<T>>(plan.scale);
    for_random_blocks(
        stream_of(l, 1, plan.index), n, [&](int64_t at, int64_t count, const uint32_t* numbers) {
          for (int64_t i = 0; i < count; ++i) {
            const Compute<T> x = l.input<T>(0)[at + i];
            l.output<T>()[at + i] = T(numbers[i] >= plan.threshold ? x * scale : Compute<T>(0));
          }
        });
  }};
}

Kernel prepare(const Prepare& p) {
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
}

}  // namespace

namespace ops {

constinit const Op dropout_op{.name = "dropout",
                              .inputs = 2,
                              .attrs = &attr_info<DropoutAttrs>,
                              .infer = infer,
                              .grad = grad,
                              .cpu = prepare,
                              .cuda = TRI_CUDA(cuda_dropout),
                              .in_place = 1};

Value* dropout(Value* x, Value* state, const DropoutAttrs& attrs) {
  const Shape& s = x->type.shape;
  DropoutAttrs a = attrs;
  for (int64_t& d : a.axis) d = normal_axis("dropout", d, s.rank());
  std::sort(a.axis.begin(), a.axis.end());
  if (a.axis.empty()) return record1(dropout_op, {x, state}, a);
  // One number for what lies along the other dimensions: the mask is ones that were dropped.
  std::vector<int64_t> shape(static_cast<size_t>(s.rank()), 1);
  for (const int64_t d : a.axis) shape[static_cast<size_t>(d)] = s[static_cast<int>(d)];
  a.axis.clear();
  return multiply(x, record1(dropout_op, {full(shape, 1, x->type.dtype), state}, a));
}

}  // namespace ops
}  // namespace trireme
