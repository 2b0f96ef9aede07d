// One loop over all products of a convolution serves all three operators: they differ in which of
// picture, result and weight is summed.
#include "ops/conv_reference.h"

#include "ops/conv.h"
#include "ops/elements.h"

namespace trireme {
namespace {

struct Picture {
  int64_t n, c, h, w;  // elements from neighbour to neighbour
};

Picture strides_of(const Type& t) {
  const Shape& s = t.shape;
  if (channels_last(t)) return {s[1] * s[2] * s[3], 1, s[3] * s[1], s[1]};
  return {s[1] * s[2] * s[3], s[2] * s[3], s[3], 1};
}

// Of the convolution that is run or turned round: x is its input, y its result.
struct Loops {
  Shape x, y, w;
  Picture xs, ys;
  Conv2dAttrs attrs;

  // f(element of x, element of y, element of the weight)
  template <class F> void for_products(F f) const {
    const int64_t og = w[0] / attrs.groups;
    for (int64_t n = 0; n < y[0]; ++n)
      for (int64_t o = 0; o < w[0]; ++o)
        for (int64_t c = 0; c < w[1]; ++c)
          for (int64_t oy = 0; oy < y[2]; ++oy)
            for (int64_t ox = 0; ox < y[3]; ++ox)
              for (int64_t ky = 0; ky < w[2]; ++ky)
                for (int64_t kx = 0; kx < w[3]; ++kx) {
                  const int64_t iy = at(oy, ky, 0), ix = at(ox, kx, 1);
                  if (iy < 0 || iy >= x[2] || ix < 0 || ix >= x[3]) continue;
                  f(n * xs.n + (o / og * w[1] + c) * xs.c + iy * xs.h + ix * xs.w,
                    n * ys.n + o * ys.c + oy * ys.h + ox * ys.w,
                    ((o * w[1] + c) * w[2] + ky) * w[3] + kx);
                }
  }
  int64_t at(int64_t o, int64_t k, size_t d) const {
    return o * attrs.strides[d] - attrs.paddings[2 * d] + k * attrs.dilations[d];
  }
};

template <class T> Kernel reference_as(const Prepare& p) {
  using A = Compute<T>;
  const bool turned = p.node.op == &ops::conv2d_transpose_op,
             by_weight = p.node.op == &ops::conv2d_wgrad_op;
  const Type &x = turned ? p.out() : p.in(0), &y = turned ? p.in(0) : by_weight ? p.in(1) : p.out();
  const Loops loops{x.shape,       y.shape,       by_weight ? p.out().shape : p.in(1).shape,
                    strides_of(x), strides_of(y), p.attrs<Conv2dAttrs>()};
  const int64_t count = p.out().shape.numel();
  const Picture out = by_weight ? Picture{} : strides_of(p.out());
  const Shape shape = p.out().shape;
  const Param<A> bias(p, 2);
  const auto run = [=](const Launch& l) {
    A *sum = static_cast<A*>(l.scratch), *rest = sum + count;
    const A* b = bias.get(l, rest);
    std::fill(sum, sum + count, A(0));
    const T *first = l.input<T>(0), *second = l.input<T>(1);
    loops.for_products([&](int64_t i, int64_t o, int64_t w) {
      if (by_weight) sum[w] += A(first[i]) * A(second[o]);
      else if (turned) sum[i] += A(first[o]) * A(second[w]);
      else sum[o] += A(first[i]) * A(second[w]);
    });
    if (b) {
      const int64_t pixels = shape[2] * shape[3];
      for (int64_t i = 0; i < count; ++i)
        sum[i] += b[out.c == 1 ? i % shape[1] : i / pixels % shape[1]];
    }
    for (int64_t i = 0; i < count; ++i) l.output<T>()[i] = T(sum[i]);
  };
  return {run, static_cast<size_t>(count + bias.scratch()) * sizeof(A)};
}

}  // namespace

Kernel reference_conv(const Prepare& p) {
  return with_floating(*p.node.op, p.in().dtype,
                       [&]<class T>(Tag<T>) { return reference_as<T>(p); });
}

}  // namespace trireme
