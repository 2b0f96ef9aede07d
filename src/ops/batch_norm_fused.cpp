// Training batch norm together with a residual, ReLU and max pooling: for GPUs. The CPU's kernels
// are plain references; no pass makes these nodes for it.
#include "ops/batch_norm_fused.h"

#include <cstring>

#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/norm.h"

namespace trireme {
namespace {

constexpr size_t kMean = 0, kVariance = 1, kX = 2, kScale = 3, kBias = 4, kZ = 5;  // forward

DType computed_in(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}
int64_t mask_bytes(const Shape& x) { return (x.numel() + 7) / 8; }

// ---- the rules of shapes

void check_same(const Infer& i, size_t k, const char* name, DType dtype, const Shape& shape) {
  TRI_CHECK(i.shape(k) == shape && i.dtype(k) == dtype,
            message(i.op.name, name, " expects ", dtype, " ", shape, ", got ", i.type(k).str()));
}
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

const Shape& check_forward(const Infer& i) {
  const Shape& x = i.shape(kX);
  TRI_CHECK(is_floating(i.dtype(kX)) && x.rank() >= 2,
            message(i.op.name, "x expects floating of rank 2 or more, got ", i.type(kX).str()));
  TRI_CHECK(x.numel() > 0 || x[1] == 0, message(i.op.name, "x of shape ", x, " has no elements"));
  const DType own = computed_in(i.dtype(kX));
  check_same(i, kMean, "mean", own, {x[1]});
  check_same(i, kVariance, "variance", own, {x[1]});
  check_same(i, kScale, "scale", own, {x[1]});
  check_same(i, kBias, "bias", own, {x[1]});
  return x;
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

void infer_act(const Infer& i) { out_forward(i, check_forward(i)); }

void infer_add(const Infer& i) {
  const Shape& x = check_forward(i);
  check_same(i, kZ, "z", i.dtype(kX), x);
  out_forward(i, x);
  i.out(DType::kUInt8, {mask_bytes(x)});
}

void infer_pool(const Infer& i) {
  const Shape& x = check_forward(i);
  check_pool(i, x);
  out_forward(i, pooled(i, x));
  i.out(DType::kUInt8, pooled(i, x));
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
  if (i.has(7)) check_same(i, 7, "dy2", i.dtype(0), pooled(i, x));
  out_backward(i, x);
}

// ---- the CPU's references

// Element e(n, c, s) of a value with C channels of `pixels` each.
struct Elements {
  int64_t images, channels, pixels;
  bool last;

  explicit Elements(const Type& t)
      : images(t.shape[0]),
        channels(t.shape[1]),
        pixels(split_at(t.shape, 1).inner),
        last(channels_last(t)) {}
  int64_t at(int64_t n, int64_t c, int64_t s) const {
    return last ? (n * pixels + s) * channels + c : (n * channels + c) * pixels + s;
  }
  template <class F> void of(int64_t c, F f) const {
    for (int64_t n = 0; n < images; ++n)
      for (int64_t s = 0; s < pixels; ++s) f(at(n, c, s));
  }
  double count() const { return static_cast<double>(images * pixels); }
};

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

// The statistics of channel c into the outputs; then the factor and the offset of y.
template <class T>
std::pair<Compute<T>, Compute<T>> statistics(const Elements& e, const Launch& l, int64_t c,
                                             Compute<T> scale, Compute<T> bias, double momentum,
                                             double epsilon) {
  using A = Compute<T>;
  const T* x = l.input<T>(kX);
  double mean = 0, variance = 0;
  e.of(c, [&](int64_t i) { mean += A(x[i]); });
  mean /= e.count();
  e.of(c, [&](int64_t i) { variance += (A(x[i]) - mean) * (A(x[i]) - mean); });
  variance /= e.count();
  const auto moved = [&](size_t k, double batch) {
    l.output<A>(k)[c] = static_cast<A>(momentum * l.input<A>(k)[c] + (1 - momentum) * batch);
  };
  moved(kMean, mean);
  moved(kVariance, variance);
  const A m = static_cast<A>(mean), r = static_cast<A>(1 / std::sqrt(variance + epsilon));
  l.output<A>(3)[c] = m;
  l.output<A>(4)[c] = r;
  return {scale * r, std::fma(-m, scale * r, bias)};
}

template <class T> Kernel forward_kernel(const Prepare& p) {
  using A = Compute<T>;
  const Elements e(p.in(kX));
  const auto attrs = p.attrs<BatchNormAttrs>();
  const bool residual = p.has(kZ);
  const size_t bytes = residual ? p.out(5).bytes() : 0;
  const auto run = [=](const Launch& l) {
    const A *scale = l.input<A>(kScale), *bias = l.input<A>(kBias);
    const T *x = l.input<T>(kX), *z = residual ? l.input<T>(kZ) : nullptr;
    auto* mask = residual ? l.output<uint8_t>(5) : nullptr;
    if (residual) std::memset(mask, 0, bytes);
    for (int64_t c = 0; c < e.channels; ++c) {
      const auto [factor, offset] =
          statistics<T>(e, l, c, scale[c], bias[c], attrs.momentum, attrs.epsilon);
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
    const A *scale = l.input<A>(kScale), *bias = l.input<A>(kBias);
    const T* x = l.input<T>(kX);
    for (int64_t c = 0; c < e.channels; ++c) {
      const auto [f, o] = statistics<T>(e, l, c, scale[c], bias[c], attrs.momentum, attrs.epsilon);
      for (int64_t s = 0; s < e.images * result.pixels; ++s) {
        const int64_t n = s / result.pixels, pixel = s % result.pixels;
        A best = -1;
        uint8_t where = 0;
        for_window(attrs, in, pixel / attrs.size[1], pixel % attrs.size[1],
                   [&, f = f, o = o](int64_t h, int64_t w, uint8_t place) {
                     const T y = T(std::max(std::fma(f, A(x[e.at(n, c, h * in[3] + w)]), o), A(0)));
                     if (A(y) > best) best = A(y), where = place;
                   });
        l.output<T>(2)[result.at(n, c, pixel)] = T(best);
        l.output<uint8_t>(5)[result.at(n, c, pixel)] = where;
      }
    }
  };
  return {run};
}

// dx, dscale and dbias of channel c from g(element), the gradient behind the kink.
template <class T, class G>
void backward_channel(const Elements& e, const Launch& l, int64_t c, double scale, double mean,
                      double inverse, G g) {
  using A = Compute<T>;
  const T* x = l.input<T>(0);
  double sum = 0, product = 0;
  e.of(c, [&](int64_t i) { sum += g(i), product += g(i) * (A(x[i]) - mean); });
  const double n = e.count();
  l.output<A>(1)[c] = static_cast<A>(product * inverse);
  l.output<A>(2)[c] = static_cast<A>(sum);
  e.of(c, [&](int64_t i) {
    const double centred = A(x[i]) - mean;
    l.output<T>(0)[i] = T(static_cast<A>(
        scale * inverse * (g(i) - sum / n - centred * inverse * inverse * product / n)));
  });
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
  const size_t data = mask ? 3 : 5, second = pool ? 7 : mask ? 6 : 9;
  const bool has_second = p.has(second);
  const auto run = [=](const Launch& l) {
    const A *scale = l.input<A>(1), *mean = l.input<A>(2), *inverse = l.input<A>(mask ? 4 : 3),
            *bias = l.input<A>(mask ? 1 : 4);  // not used with a mask
    const T *x = l.input<T>(0), *dy = l.input<T>(data);
    const auto incoming = [&](int64_t i) {
      return A(dy[i]) + (has_second ? A(l.input<T>(second)[i]) : A(0));
    };
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
      backward_channel<T>(e, l, c, scale[c], mean[c], inverse[c],
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
                     nullptr},
                    g.attrs<BatchNormPoolAttrs>()));
}

}  // namespace

namespace ops {

constinit const Op fused_batch_norm_act_op{.name = "fused_batch_norm_act",
                                           .inputs = 5,
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
                                              .inputs = 6,
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
                                                .inputs = 5,
                                                .outputs = 6,
                                                .attrs = &attr_info<BatchNormPoolAttrs>,
                                                .infer = infer_pool,
                                                .grad = grad_pool,
                                                .cpu = prepare,
                                                .cuda = TRI_CUDA(cuda_fused_batch_norm_act_pool),
                                                .layouts = Layouts::kFollow,
                                                .in_place = 2};
constinit const Op fused_batch_norm_act_pool_grad_op{
    .name = "fused_batch_norm_act_pool_grad",
    .inputs = 8,
    .outputs = 3,
    .attrs = &attr_info<BatchNormPoolAttrs>,
    .infer = infer_pool_grad,
    .cpu = prepare,
    .cuda = TRI_CUDA(cuda_fused_batch_norm_act_pool_grad),
    .layouts = Layouts::kFollow,
    .in_place = 1};

}  // namespace ops
}  // namespace trireme
