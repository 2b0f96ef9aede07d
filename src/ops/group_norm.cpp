// group_norm and instance_norm (a group for every channel): statistics over a group's channels and
// all pixels.
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/norm.h"

namespace trireme {
namespace {

int64_t groups_of(const Op& op, const NormAttrs& attrs, const Shape& x) {
  return &op == &ops::instance_norm_op ? x[1] : attrs.groups;
}

void infer(const Infer& i) {
  const Shape& x = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(x.rank() >= 2, message(i.op.name, "x expects rank 2 or more, got ", x));
  const int64_t groups = groups_of(i.op, i.attrs<NormAttrs>(), x);
  TRI_CHECK(
      x[1] == 0 || (groups > 0 && x[1] % groups == 0),
      message(i.op.name, "groups expects a divisor of the ", x[1], " channels, got ", groups));
  for (size_t k = 1; k < 3; ++k) {
    if (!i.has(k)) continue;
    const char* what = k == 1 ? "scale" : "bias";
    TRI_CHECK(i.shape(k) == Shape{x[1]},
              message(i.op.name, what, " expects [", x[1], "], got ", i.shape(k)));
    TRI_CHECK(is_floating(i.dtype(k)),
              message(i.op.name, what, " expects a floating dtype, got ", i.dtype(k)));
  }
  i.out(i.dtype(0), x);
}

// Sums of `rows` rows of n elements, `stride` apart, added to sum[0..n) (squares of x - mean when
// `mean` is given).
template <class T, class A>
void add_rows(const T* x, int64_t rows, int64_t n, int64_t stride, const A* mean, A* sum) {
  for (int64_t r = 0; r < rows; ++r, x += stride) {
    if (mean) {
      for (int64_t c = 0; c < n; ++c) sum[c] += (x[c] - mean[c]) * (x[c] - mean[c]);
    } else {
      for (int64_t c = 0; c < n; ++c) sum[c] += x[c];
    }
  }
}

// Some channels of every pixel in channels-last, groups complete.
struct Block {
  int64_t rows, width, stride,
      per_group;  // pixels, channels, elements from pixel to pixel, channels of a group
};

// The sums go through float rows of bounded length into double, so that large pictures lose
// nothing.
constexpr int64_t kRowsAtOnce = 128;

template <class T, class A>
void group_means(const T* x, const Block& b, const A* mean, A* sum, double* total) {
  const int64_t groups = b.width / b.per_group;
  std::fill(total, total + groups, 0.0);
  for (int64_t r = 0; r < b.rows; r += kRowsAtOnce) {
    std::fill(sum, sum + b.width, A(0));
    add_rows(x + r * b.stride, std::min(kRowsAtOnce, b.rows - r), b.width, b.stride, mean, sum);
    for (int64_t c = 0; c < b.width; ++c) total[c / b.per_group] += sum[c];
  }
  for (int64_t g = 0; g < groups; ++g) total[g] /= static_cast<double>(b.rows * b.per_group);
}

// Row-major: a group is one run of elements.
template <class T, class A>
void plain_group(const T* x, T* y, int64_t channels, int64_t pixels, const A* scale, const A* bias,
                 A epsilon) {
  const int64_t n = channels * pixels;
  const A mean =
      static_cast<A>(blocked_sum<A>(x, n, [](A v) { return v; }) / static_cast<double>(n));
  const double squares = blocked_sum<A>(x, n, [mean](A v) { return (v - mean) * (v - mean); });
  const A inverse = 1 / std::sqrt(static_cast<A>(squares / static_cast<double>(n)) + epsilon);
  for (int64_t c = 0; c < channels; ++c) {
    const A f = scale ? inverse * scale[c] : inverse, o = (bias ? bias[c] : A(0)) - mean * f;
    for (int64_t i = c * pixels; i < (c + 1) * pixels; ++i) y[i] = T(x[i] * f + o);
  }
}

// Channels-last: the block from x on. `scratch` has 3 elements a channel, `totals` one.
template <class T, class A>
void channels_last_groups(const T* x, T* y, const Block& b, const A* scale, const A* bias,
                          A epsilon, A* scratch, double* totals) {
  A *sum = scratch, *mean = scratch + b.width, *factor = scratch + 2 * b.width;
  group_means<T, A>(x, b, nullptr, sum, totals);
  for (int64_t c = 0; c < b.width; ++c) mean[c] = static_cast<A>(totals[c / b.per_group]);
  group_means<T, A>(x, b, mean, sum, totals);
  for (int64_t c = 0; c < b.width; ++c) {
    factor[c] =
        (scale ? scale[c] : A(1)) / std::sqrt(static_cast<A>(totals[c / b.per_group]) + epsilon);
    mean[c] = (bias ? bias[c] : A(0)) - mean[c] * factor[c];
  }
  for (int64_t r = 0; r < b.rows; ++r)
    for (int64_t c = 0; c < b.width; ++c)
      y[r * b.stride + c] = T(x[r * b.stride + c] * factor[c] + mean[c]);
}

template <class T> Kernel plain_kernel(const Prepare& p, int64_t groups, int64_t pixels) {
  using A = Compute<T>;
  const Shape& x = p.in().shape;
  const int64_t images = x[0], per_group = x[1] / groups;
  const Param<A> scale(p, 1), bias(p, 2);
  const A epsilon = static_cast<A>(p.attrs<NormAttrs>().epsilon);
  const auto run = [=](const Launch& l) {
    A* rest = static_cast<A*>(l.scratch);
    const A *s = scale.get(l, rest), *b = bias.get(l, rest);
    parallel_for(images * groups, grain_of(per_group * pixels),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t k = begin; k < end; ++k) {
                     const int64_t at = k * per_group * pixels, c = k % groups * per_group;
                     plain_group(l.input<T>(0) + at, l.output<T>() + at, per_group, pixels,
                                 s ? s + c : nullptr, b ? b + c : nullptr, epsilon);
                   }
                 });
  };
  return {run, static_cast<size_t>(scale.scratch() + bias.scratch()) * sizeof(A)};
}

template <class T> Kernel channels_last_kernel(const Prepare& p, int64_t groups, int64_t pixels) {
  using A = Compute<T>;
  const Shape& x = p.in().shape;
  const int64_t images = x[0], channels = x[1], per_group = channels / groups;
  const int64_t at_once =
      std::max<int64_t>(1, 32 / per_group);  // groups of a block: a cache line or two a pixel
  const int64_t blocks = (groups + at_once - 1) / at_once, width = at_once * per_group;
  const Param<A> scale(p, 1), bias(p, 2);
  const A epsilon = static_cast<A>(p.attrs<NormAttrs>().epsilon);
  const size_t each = align_up(static_cast<size_t>(width) * (3 * sizeof(A) + sizeof(double)));
  const size_t params = align_up(static_cast<size_t>(scale.scratch() + bias.scratch()) * sizeof(A));
  const auto run = [=](const Launch& l) {
    A* rest = static_cast<A*>(l.scratch);
    const A *s = scale.get(l, rest), *b = bias.get(l, rest);
    parallel_for(images * blocks, grain_of(width * pixels), [&](int64_t begin, int64_t end, int) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t c = k % blocks * width, at = k / blocks * pixels * channels + c;
        auto* totals = reinterpret_cast<double*>(static_cast<char*>(l.scratch) + params +
                                                 static_cast<size_t>(k) * each);
        const Block block{pixels, std::min(width, channels - c), channels, per_group};
        channels_last_groups(l.input<T>(0) + at, l.output<T>() + at, block, s ? s + c : nullptr,
                             b ? b + c : nullptr, epsilon, reinterpret_cast<A*>(totals + width),
                             totals);
      }
    });
  };
  return {run, params + static_cast<size_t>(images * blocks) * each};
}

Kernel prepare(const Prepare& p) {
  const Shape& x = p.in().shape;
  if (x.numel() == 0) return {[](const Launch&) {}};
  const int64_t groups = groups_of(*p.node.op, p.attrs<NormAttrs>(), x),
                pixels = split_at(x, 1).inner;
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) {
    return channels_last(p.in()) ? channels_last_kernel<T>(p, groups, pixels)
                                 : plain_kernel<T>(p, groups, pixels);
  });
}

void grad(Grad& g) {
  NormAttrs a = g.attrs<NormAttrs>();
  a.groups = groups_of(g.op, a, g.in()->type.shape);
  const std::vector<Value*> back = record(ops::group_norm_grad_op, {g.in(0), g.in(1), g.dout()}, a);
  for (const size_t k : {0, 1, 2})
    if (g.wants(k)) g.set(k, back[k]);
}

}  // namespace

namespace ops {

constinit const Op group_norm_op{.name = "group_norm",
                                 .inputs = 3,
                                 .attrs = &attr_info<NormAttrs>,
                                 .infer = infer,
                                 .grad = grad,
                                 .cpu = prepare,
                                 .cuda = TRI_CUDA(cuda_group_norm),
                                 .amp = Amp::kFloatInO1,
                                 .amp_inputs = 1,
                                 .layouts = Layouts::kFollow,
                                 .in_place = 1};
constinit const Op instance_norm_op{.name = "instance_norm",
                                    .inputs = 3,
                                    .attrs = &attr_info<NormAttrs>,
                                    .infer = infer,
                                    .grad = grad,
                                    .cpu = prepare,
                                    .cuda = TRI_CUDA(cuda_group_norm),
                                    .amp_inputs = 1,
                                    .layouts = Layouts::kFollow,
                                    .in_place = 1};

Value* group_norm(Value* x, Value* scale, Value* bias, int64_t groups, double epsilon) {
  return record1(group_norm_op, {x, scale, bias}, NormAttrs{.epsilon = epsilon, .groups = groups});
}
Value* instance_norm(Value* x, Value* scale, Value* bias, double epsilon) {
  return record1(instance_norm_op, {x, scale, bias}, NormAttrs{.epsilon = epsilon});
}

}  // namespace ops
}  // namespace trireme
