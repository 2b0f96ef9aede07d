// Two training batch norms whose results are added, and ReLU: the blocks of a residual network that
// change the size of the picture. For GPUs; the CPU's kernels are plain references.
#include <cstring>

#include "ops/batch_norm_reference.h"
#include "ops/cuda_kernels.h"
#include "ops/norm.h"

namespace trireme {
namespace {

constexpr NormPlaces kFirst = kDualPlaces[0], kSecond = kDualPlaces[1];

void infer(const Infer& i) {
  check_norm(i, kFirst);
  check_norm(i, kSecond);
  const Type& x = i.type(kFirst.x);
  check_same(i, kSecond.x, "x2", x.dtype, x.shape);
  const DType own = computed_in(x.dtype);
  const Shape c{x.shape[1]};
  for (int k = 0; k < 9; ++k) k == 2 ? i.out(x.dtype, x.shape) : i.out(own, c);
  i.out(DType::kUInt8, {mask_bytes(x.shape)});
}

void infer_grad(const Infer& i) {
  const Type& x = i.type(0);
  TRI_CHECK(is_floating(x.dtype) && x.shape.rank() >= 2,
            message(i.op.name, "x expects floating of rank 2 or more, got ", x.str()));
  const DType own = computed_in(x.dtype);
  const Shape c{x.shape[1]};
  check_same(i, 1, "x2", x.dtype, x.shape);
  constexpr const char* kNames[] = {"scale",  "saved_mean",  "saved_inv_std",
                                    "scale2", "saved_mean2", "saved_inv_std2"};
  for (size_t k = 2; k < 8; ++k) check_same(i, k, kNames[k - 2], own, c);
  check_same(i, 8, "dy", x.dtype, x.shape);
  check_same(i, 9, "mask", DType::kUInt8, {mask_bytes(x.shape)});
  if (i.has(10)) check_same(i, 10, "dy2", x.dtype, x.shape);
  i.out(x.dtype, x.shape);
  i.out(x.dtype, x.shape);
  for (int k = 0; k < 4; ++k) i.out(own, c);
}

template <class T> Kernel forward_kernel(const Prepare& p) {
  using A = Compute<T>;
  const Elements e(p.in(kFirst.x));
  const auto attrs = p.attrs<BatchNormAttrs>();
  const size_t bytes = p.out(9).bytes();
  return {[=](const Launch& l) {
    const T *x = l.input<T>(kFirst.x), *x2 = l.input<T>(kSecond.x);
    auto* mask = l.output<uint8_t>(9);
    std::memset(mask, 0, bytes);
    for (int64_t c = 0; c < e.channels; ++c) {
      const auto [f, o] = statistics<T>(e, l, kFirst, c, attrs.momentum, attrs.epsilon);
      const auto [f2, o2] = statistics<T>(e, l, kSecond, c, attrs.momentum, attrs.epsilon);
      e.of(c, [&, f = f, o = o + o2, f2 = f2](int64_t i) {
        const A y = std::fma(f, A(x[i]), o) + f2 * A(x2[i]);
        if (y > 0) mask[i / 8] |= static_cast<uint8_t>(1 << i % 8);
        l.output<T>(2)[i] = T(std::max(y, A(0)));
      });
    }
  }};
}

template <class T> Kernel backward_kernel(const Prepare& p) {
  using A = Compute<T>;
  const Elements e(p.in());
  const bool second = p.has(10);
  return {[=](const Launch& l) {
    const auto* mask = l.input<uint8_t>(9);
    const auto g = [&](int64_t i) {
      if (!(mask[i / 8] >> i % 8 & 1)) return A(0);
      return A(l.input<T>(8)[i]) + (second ? A(l.input<T>(10)[i]) : A(0));
    };
    for (size_t k = 0; k < 2; ++k) {
      const A *scale = l.input<A>(2 + 3 * k), *mean = l.input<A>(3 + 3 * k),
              *inverse = l.input<A>(4 + 3 * k);
      const NormGradient<T> to{l.input<T>(k), l.output<T>(k), l.output<A>(2 + 2 * k),
                               l.output<A>(3 + 2 * k)};
      for (int64_t c = 0; c < e.channels; ++c)
        backward_channel(e, to, c, scale[c], mean[c], inverse[c], g);
    }
  }};
}

template <bool kForward> Kernel prepare(const Prepare& p) {
  const Type& x = p.in(kForward ? kFirst.x : 0);
  if (x.shape.numel() == 0) return zero_outputs(p);
  return with_floating(*p.node.op, x.dtype, [&]<class T>(Tag<T>) {
    return kForward ? forward_kernel<T>(p) : backward_kernel<T>(p);
  });
}

void grad(Grad& g) {
  if (g.dout(2) == nullptr) return;  // the running statistics pass no gradient on
  const std::vector<Value*> back =
      record(ops::fused_dual_bn_add_activation_grad_op,
             {g.in(kFirst.x), g.in(kSecond.x), g.in(kFirst.scale), g.out(3), g.out(4),
              g.in(kSecond.scale), g.out(7), g.out(8), g.dout(2), g.out(9), nullptr});
  g.set(kFirst.x, back[0]);
  g.set(kSecond.x, back[1]);
  g.set(kFirst.scale, back[2]);
  g.set(kFirst.bias, back[3]);
  g.set(kSecond.scale, back[4]);
  g.set(kSecond.bias, back[5]);
}

}  // namespace

namespace ops {

constinit const Op fused_dual_bn_add_activation_op{
    .name = "fused_dual_bn_add_activation",
    .inputs = 12,
    .outputs = 10,
    .attrs = &attr_info<BatchNormAttrs>,
    .infer = infer,
    .grad = grad,
    .cpu = prepare<true>,
    .cuda = TRI_CUDA(cuda_fused_dual_bn_add_activation),
    .layouts = Layouts::kFollow,
    .in_place = 3};
constinit const Op fused_dual_bn_add_activation_grad_op{
    .name = "fused_dual_bn_add_activation_grad",
    .inputs = 11,
    .outputs = 6,
    .infer = infer_grad,
    .cpu = prepare<false>,
    .cuda = TRI_CUDA(cuda_fused_dual_bn_add_activation_grad),
    .layouts = Layouts::kFollow,
    .in_place = 2};

}  // namespace ops
}  // namespace trireme
