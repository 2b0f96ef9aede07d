// Training batch norm together with a residual, ReLU and max pooling: for GPUs. The CPU's kernels
// are plain references; no pass makes these nodes for it.
#include "ops/batch_norm_fused.h"

#include <cstring>

#include "ops/batch_norm_reference.h"
#include "ops/cuda_kernels.h"
#include "ops/norm.h"

namespace trireme {
namespace {

constexpr size_t kX = 2, kScale = 3, kBias = 4, kZ = 5;  // forward
constexpr NormPlaces kPlaces, kAddPlaces{.sums = 6};

void check_pool(const Infer& i, const Shape& x) {
  const auto& a = i.attrs<BatchNormPoolAttrs>();
  TRI_CHECK(x.rank() == 4, message(i.op.name, "x expects [N, C, H, W], got ", x));
  TRI_CHECK(
      a.kernel.size() == 2 && a.strides.size() == 2 && a.paddings.size() == 2 && a.size.size() == 2,
      message(i.op.name, "kernel, strides, paddings and size expect 2 values each"));
  TRI_CHECK(a.kernel[0] * a.kernel[1] <= 255,
            message(i.op.name, "a window of more than 255 places"));
  for (size_t d = 0; d < 2; ++d) {
    const int64_t in = x[static_cast<int>(d) + 2];
    TRI_CHECK(a.kernel[d] > 0 && a.strides[d] > 0 && a.paddings[d] >= 0 &&
                  a.paddings[d] < a.kernel[d] && a.size[d] > 0 &&
                  (a.size[d] - 1) * a.strides[d] - a.paddings[d] < in,
              message(i.op.name, "windows that lie outside of ", x));
  }
}
Shape pooled(const Infer& i, const Shape& x) {
  const auto& size = i.attrs<BatchNormPoolAttrs>().size;
  return {x[0], x[1], size[0], size[1]};
}

void out_forward(const Infer& i, const Shape& y) {
  const DType own = computed_in(i.dtype(kX));
  const Shape c{i.shape(kX)[1]};
  i.out(own, c);
  i.out(own, c);
  i.out(i.dtype(kX), y);
  i.out(own, c);
  i.out(own, c);
}

void infer_act(const Infer& i) {
  check_norm(i, kPlaces);
  out_forward(i, i.shape(kX));
}

void infer_add(const Infer& i) {
  check_norm(i, kAddPlaces);
  const Shape& x = i.shape(kX);
  check_same(i, kZ, "z", i.dtype(kX), x);
  out_forward(i, x);
  i.out(DType::kUInt8, {mask_bytes(x)});
}

void infer_pool(const Infer& i) {
  check_norm(i, kPlaces);
  const Shape& x = i.shape(kX);
  check_pool(i, x);
  out_forward(i, pooled(i, x));
  i.out(DType::kUInt8, pooled(i, x));
  i.out(i.dtype(kX), pooled(i, x));
}

void out_backward(const Infer& i, const Shape& x) {
  i.out(i.dtype(0), x);
  i.out(computed_in(i.dtype(0)), {x[1]});
  i.out(computed_in(i.dtype(0)), {x[1]});
}

// Those with the vectors (x, scale, saved_mean, saved_inv_std, bias, ...).
const Shape& check_backward(const Infer& i) {
  const Shape& x = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)) && x.rank() >= 2,
            message(i.op.name, "x expects floating of rank 2 or more, got ", i.type(0).str()));
  constexpr const char* kNames[] = {"x", "scale", "saved_mean", "saved_inv_std", "bias"};
  for (size_t k = 1; k < 5; ++k) check_same(i, k, kNames[k], computed_in(i.dtype(0)), {x[1]});
  return x;
}

void infer_act_grad(const Infer& i) {
  const Shape& x = check_backward(i);
  check_same(i, 5, "dy", i.dtype(0), x);
  out_backward(i, x);
}

void infer_add_grad(const Infer& i) {
  const Shape& x = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)) && x.rank() >= 2,
            message(i.op.name, "x expects floating of rank 2 or more, got ", i.type(0).str()));
  const DType own = computed_in(i.dtype(0));
  check_same(i, 1, "scale", own, {x[1]});
  check_same(i, 2, "saved_mean", own, {x[1]});
  check_same(i, 3, "dy", i.dtype(0), x);
  check_same(i, 4, "saved_inv_std", own, {x[1]});
  check_same(i, 5, "mask", DType::kUInt8, {mask_bytes(x)});
  if (i.has(6)) check_same(i, 6, "dy2", i.dtype(0), x);
  out_backward(i, x);
  i.out(i.dtype(0), x);
}

void infer_pool_grad(const Infer& i) {
  const Shape& x = check_backward(i);
  check_pool(i, x);
  check_same(i, 5, "dy", i.dtype(0), pooled(i, x));
  check_same(i, 6, "index", DType::kUInt8, pooled(i, x));
  check_same(i, 7, "x_max", i.dtype(0), pooled(i, x));
  if (i.has(8)) check_same(i, 8, "dy2", i.dtype(0), pooled(i, x));
  out_backward(i, x);
}

// ---- the CPU's references

// f(h, w, place in the window) of the places of window (oh, ow) that lie in the picture.
template <class F>
void for_window(const BatchNormPoolAttrs& a, const Shape& x, int64_t oh, int64_t ow, F f) {
  for (int64_t dh = 0; dh < a.kernel[0]; ++dh)
    for (int64_t dw = 0; dw < a.kernel[1]; ++dw) {
      const int64_t h = oh * a.strides[0] - a.paddings[0] + dh;
      const int64_t w = ow * a.strides[1] - a.paddings[1] + dw;
      if (h >= 0 && w >= 0 && h < x[2] && w < x[3])
        f(h, w, static_cast<uint8_t>(dh * a.kernel[1] + dw));
    }
}

template <class T> Kernel forward_kernel(const Prepare& p) {
  using A = Compute<T>;
  const Elements e(p.in(kX));
  const auto attrs = p.attrs<BatchNormAttrs>();
  const bool residual = p.node.op == &ops::fused_bn_add_activation_op;
  const size_t bytes = residual ? p.out(5).bytes() : 0;
  const auto run = [=](const Launch& l) {
    const T *x = l.input<T>(kX), *z = residual ? l.input<T>(kZ) : nullptr;
    auto* mask = residual ? l.output<uint8_t>(5) : nullptr;
    if (residual) std::memset(mask, 0, bytes);
    for (int64_t c = 0; c < e.channels; ++c) {
      const auto [factor, offset] = statistics<T>(e, l, kPlaces, c, attrs.momentum, attrs.epsilon);
      e.of(c, [&, f = factor, o = offset](int64_t i) {
        const A y = std::fma(f, A(x[i]), o) + (z ? A(z[i]) : A(0));
        if (mask && y > 0) mask[i / 8] |= static_cast<uint8_t>(1 << i % 8);
        l.output<T>(2)[i] = T(std::max(y, A(0)));
      });
    }
  };
  return {run};
}

template <class T> Kernel pool_kernel(const Prepare& p) {
  using A = Compute<T>;
  const Elements e(p.in(kX));
  const auto attrs = p.attrs<BatchNormPoolAttrs>();
  const Shape in = p.in(kX).shape;
  Elements result(p.out(2));
  result.last = e.last;
  const auto run = [=](const Launch& l) {
    const T* x = l.input<T>(kX);
    for (int64_t c = 0; c < e.channels; ++c) {
      const auto [f, o] = statistics<T>(e, l, kPlaces, c, attrs.momentum, attrs.epsilon);
      for (int64_t s = 0; s < e.images * result.pixels; ++s) {
        const int64_t n = s / result.pixels, pixel = s % result.pixels;
        A best = -1;
        uint8_t where = 0;
        T at_best = T(0.f);
        for_window(attrs, in, pixel / attrs.size[1], pixel % attrs.size[1],
                   [&, f = f, o = o](int64_t h, int64_t w, uint8_t place) {
                     const T v = x[e.at(n, c, h * in[3] + w)];
                     const T y = T(std::max(std::fma(f, A(v), o), A(0)));
                     if (A(y) > best) best = A(y), where = place, at_best = v;
                   });
        l.output<T>(2)[result.at(n, c, pixel)] = T(best);
        l.output<uint8_t>(5)[result.at(n, c, pixel)] = where;
        l.output<T>(6)[result.at(n, c, pixel)] = at_best;
      }
    }
  };
  return {run};
}

// Of all three: where dy comes from differs.
template <class T> Kernel backward_kernel(const Prepare& p) {
  using A = Compute<T>;
  const Op* op = p.node.op;
  const bool mask = op == &ops::fused_bn_add_activation_grad_op;
  const bool pool = op == &ops::fused_batch_norm_act_pool_grad_op;
  const Elements e(p.in(0));
  const BatchNormPoolAttrs attrs = pool ? p.attrs<BatchNormPoolAttrs>() : BatchNormPoolAttrs{};
  Elements small(pool ? p.in(5) : p.in(0));
  small.last = e.last;
  const Shape in = p.in(0).shape;
  const size_t data = mask ? 3 : 5, second = pool ? 8 : mask ? 6 : 9;
  const bool has_second = p.has(second);
  const auto run = [=](const Launch& l) {
    const A *scale = l.input<A>(1), *mean = l.input<A>(2), *inverse = l.input<A>(mask ? 4 : 3),
            *bias = l.input<A>(mask ? 1 : 4);  // not used with a mask
    const T *x = l.input<T>(0), *dy = l.input<T>(data);
    const auto incoming = [&](int64_t i) {
      return A(dy[i]) + (has_second ? A(l.input<T>(second)[i]) : A(0));
    };
    const NormGradient<T> to{x, l.output<T>(0), l.output<A>(1), l.output<A>(2)};
    std::vector<A> g(static_cast<size_t>(in.numel()));
    for (int64_t c = 0; c < e.channels; ++c) {
      if (pool) {
        for (int64_t s = 0; s < e.images * small.pixels; ++s) {
          const int64_t n = s / small.pixels, from = small.at(n, c, s % small.pixels);
          for_window(attrs, in, s % small.pixels / attrs.size[1], s % small.pixels % attrs.size[1],
                     [&](int64_t h, int64_t w, uint8_t place) {
                       if (l.input<uint8_t>(6)[from] == place)
                         g[static_cast<size_t>(e.at(n, c, h * in[3] + w))] += incoming(from);
                     });
        }
      }
      const A factor = scale[c] * inverse[c], offset = std::fma(-mean[c], factor, bias[c]);
      e.of(c, [&](int64_t i) {
        A& v = g[static_cast<size_t>(i)];
        if (!pool) v = incoming(i);
        const bool there =
            mask ? l.input<uint8_t>(5)[i / 8] >> i % 8 & 1 : std::fma(factor, A(x[i]), offset) > 0;
        if (!there) v = 0;
        if (mask) l.output<T>(3)[i] = T(v), v = A(T(v));
      });
      backward_channel(e, to, c, scale[c], mean[c], inverse[c],
                       [&](int64_t i) { return g[static_cast<size_t>(i)]; });
    }
  };
  return {run};
}

Kernel prepare(const Prepare& p) {
  const bool forward = p.in(0).shape.rank() == 1;
  const Type& x = p.in(forward ? kX : 0);
  if (x.shape.numel() == 0) return zero_outputs(p);
  return with_floating(*p.node.op, x.dtype, [&]<class T>(Tag<T>) {
    if (!forward) return backward_kernel<T>(p);
    return p.node.op == &ops::fused_batch_norm_act_pool_op ? pool_kernel<T>(p)
                                                           : forward_kernel<T>(p);
  });
}

// ---- gradients

void set_all(Grad& g, const std::vector<Value*>& back) {
  g.set(kX, back[0]);
  g.set(kScale, back[1]);
  g.set(kBias, back[2]);
}
void grad_act(Grad& g) {
  if (g.dout(2) == nullptr) return;  // the running statistics pass no gradient on
  set_all(g, record(ops::fused_batch_norm_act_grad_op,
                    {g.in(kX), g.in(kScale), g.out(3), g.out(4), g.in(kBias), g.dout(2)}));
}
void grad_add(Grad& g) {
  if (g.dout(2) == nullptr) return;
  const std::vector<Value*> back =
      record(ops::fused_bn_add_activation_grad_op,
             {g.in(kX), g.in(kScale), g.out(3), g.dout(2), g.out(4), g.out(5), nullptr});
  set_all(g, back);
  g.set(kZ, back[3]);
}
void grad_pool(Grad& g) {
  if (g.dout(2) == nullptr) return;
  set_all(g, record(ops::fused_batch_norm_act_pool_grad_op,
                    {g.in(kX), g.in(kScale), g.out(3), g.out(4), g.in(kBias), g.dout(2), g.out(5),
                     g.out(6), nullptr},
                    g.attrs<BatchNormPoolAttrs>()));
}

}  // namespace

namespace ops {

constinit const Op fused_batch_norm_act_op{.name = "fused_batch_norm_act",
                                           .inputs = 6,
                                           .outputs = 5,
                                           .attrs = &attr_info<BatchNormAttrs>,
                                           .infer = infer_act,
                                           .grad = grad_act,
                                           .cpu = prepare,
                                           .cuda = TRI_CUDA(cuda_fused_batch_norm),
                                           .layouts = Layouts::kFollow,
                                           .in_place = 3};
constinit const Op fused_batch_norm_act_grad_op{.name = "fused_batch_norm_act_grad",
                                                .inputs = 6,
                                                .outputs = 3,
                                                .infer = infer_act_grad,
                                                .cpu = prepare,
                                                .cuda = TRI_CUDA(cuda_fused_batch_norm_act_grad),
                                                .layouts = Layouts::kFollow,
                                                .in_place = 1};
constinit const Op fused_bn_add_activation_op{.name = "fused_bn_add_activation",
                                              .inputs = 7,
                                              .outputs = 6,
                                              .attrs = &attr_info<BatchNormAttrs>,
                                              .infer = infer_add,
                                              .grad = grad_add,
                                              .cpu = prepare,
                                              .cuda = TRI_CUDA(cuda_fused_batch_norm),
                                              .layouts = Layouts::kFollow,
                                              .in_place = 3};
constinit const Op fused_bn_add_activation_grad_op{
    .name = "fused_bn_add_activation_grad",
    .inputs = 7,
    .outputs = 4,
    .infer = infer_add_grad,
    .cpu = prepare,
    .cuda = TRI_CUDA(cuda_fused_bn_add_activation_grad),
    .layouts = Layouts::kFollow,
    .in_place = 4};
constinit const Op fused_batch_norm_act_pool_op{.name = "fused_batch_norm_act_pool",
                                                .inputs = 6,
                                                .outputs = 7,
                                                .attrs = &attr_info<BatchNormPoolAttrs>,
                                                .infer = infer_pool,
                                                .grad = grad_pool,
                                                .cpu = prepare,
                                                .cuda = TRI_CUDA(cuda_fused_batch_norm_act_pool),
                                                .layouts = Layouts::kFollow,
                                                .in_place = 2};
constinit const Op fused_batch_norm_act_pool_grad_op{
    .name = "fused_batch_norm_act_pool_grad",
    .inputs = 9,
    .outputs = 3,
    .attrs = &attr_info<BatchNormPoolAttrs>,
    .infer = infer_pool_grad,
    .cpu = prepare,
    .cuda = TRI_CUDA(cuda_fused_batch_norm_act_pool_grad),
    .layouts = Layouts::kFollow,
    .in_place = 1};

}  // namespace ops
}  // namespace trireme
