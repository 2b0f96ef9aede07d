// group_norm_grad, also instance_norm's (a group for every channel): statistics are computed again;
// one image at a time, so that its passes find it in the cache.
#include <cstring>

#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/norm.h"
#include "ops/norm_rows.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const Shape& x = i.shape(0);
  const int64_t groups = i.attrs<NormAttrs>().groups;
  TRI_CHECK(
      is_floating(i.dtype(0)) && x.rank() >= 2,
      message(i.op.name, "x expects a floating dtype and rank 2 or more, got ", i.type(0).str()));
  TRI_CHECK(
      x[1] == 0 || (groups > 0 && x[1] % groups == 0),
      message(i.op.name, "groups expects a divisor of the ", x[1], " channels, got ", groups));
  TRI_CHECK(!i.has(1) || (i.shape(1) == Shape{x[1]} && is_floating(i.dtype(1))),
            message(i.op.name, "scale expects floating [", x[1], "]"));
  TRI_CHECK(i.shape(2) == x && i.dtype(2) == i.dtype(0),
            message(i.op.name, "dout expects ", i.type(0).str(), ", got ", i.type(2).str()));
  const DType own = i.dtype(0) == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  i.out(i.dtype(0), x);
  i.out(own, Shape{x[1]});
  i.out(own, Shape{x[1]});
}

struct Plan {
  int64_t images, channels, pixels, groups;
  bool rows;  // channels innermost
  double epsilon;
};

// One image; `sums` holds 4 doubles a channel and ends with the channel's sum of dy and of
// dy (x - mean) / deviation in its first half. `params` has 4 numbers a channel.
template <class T, class A>
void one_image(const Plan& p, const T* x, const T* dy, T* dx, const A* scale, double* sums,
               A* params) {
  const NormRows<T, A>& loops = norm_rows<T, A>();
  const int64_t c = p.channels, n = p.pixels, per = c / p.groups;
  double *sum = sums, *products = sums + c, *of_x = sums + 2 * c, *squares = sums + 3 * c;
  A *mean = params, *a = params + c, *b = params + 2 * c, *k = params + 3 * c;
  std::memset(sums, 0, static_cast<size_t>(4 * c) * sizeof(double));
  for (int64_t i = 0; i < c; ++i) mean[i] = A(x[p.rows ? i / per * per : i / per * per * n]);
  if (p.rows) loops.sums(x, n, c, mean, of_x, squares);
  else
    for (int64_t i = 0; i < c; ++i) loops.run_sums(x + i * n, n, mean[i], of_x + i, squares + i);
  const auto count = static_cast<double>(per * n);
  for (int64_t g = 0; g < c; g += per) {  // of_x: 1 / deviation from here on
    double s = 0, q = 0;
    for (int64_t i = g; i < g + per; ++i) s += of_x[i], q += squares[i];
    const double shift = s / count, variance = std::max(0.0, q / count - shift * shift);
    for (int64_t i = g; i < g + per; ++i) {
      mean[i] = static_cast<A>(mean[i] + shift);
      of_x[i] = 1 / std::sqrt(variance + p.epsilon);
    }
  }
  if (p.rows) loops.grad_sums(x, dy, n, c, mean, sum, products);
  else
    for (int64_t i = 0; i < c; ++i)
      loops.run_grad_sums(x + i * n, dy + i * n, n, mean[i], sum + i, products + i);
  for (int64_t g = 0; g < c; g += per) {
    double first = 0, second = 0;
    for (int64_t i = g; i < g + per; ++i) {
      const double s = scale ? static_cast<double>(scale[i]) : 1;
      first += s * sum[i];
      second += s * products[i];
    }
    for (int64_t i = g; i < g + per; ++i) {
      const double r = of_x[i], by_x = -r * r * r * second / count;
      a[i] = static_cast<A>(r * (scale ? static_cast<double>(scale[i]) : 1));
      b[i] = static_cast<A>(by_x);
      k[i] = static_cast<A>(-r * first / count - by_x * static_cast<double>(mean[i]));
      products[i] *= r;
    }
  }
  if (p.rows) return loops.grad(x, dy, dx, n, c, a, b, k);
  for (int64_t i = 0; i < c; ++i)
    loops.run_grad(x + i * n, dy + i * n, dx + i * n, n, a[i], b[i], k[i]);
}

template <class T> Kernel prepare_as(const Prepare& p) {
  using A = Compute<T>;
  const Shape& x = p.in().shape;
  const auto& attrs = p.attrs<NormAttrs>();
  const int64_t pixels = split_at(x, 1).inner;
  const bool rows = pixels == 1 || channels_last(p.in(0)) || channels_last(p.out());
  const Plan plan{x[0], x[1], pixels, attrs.groups, rows, attrs.epsilon};
  const Param<A> scale_of(p, 1);
  const int64_t c = plan.channels, size = c * pixels;
  const size_t sums = static_cast<size_t>(4 * c * plan.images) * sizeof(double);
  const auto run = [=](const Launch& l) {
    auto* all = static_cast<double*>(l.scratch);
    A *params = reinterpret_cast<A*>(static_cast<char*>(l.scratch) + sums),
      *rest = params + 4 * c * plan.images;
    const A* scale = scale_of.get(l, rest);
    parallel_for(plan.images, grain_of(size), [&](int64_t begin, int64_t end, int) {
      for (int64_t n = begin; n < end; ++n)
        one_image(plan, l.input<T>(0) + n * size, l.input<T>(2) + n * size,
                  l.output<T>() + n * size, scale, all + 4 * c * n, params + 4 * c * n);
    });
    for (int64_t i = 0; i < c; ++i) {
      double scale_grad = 0, bias_grad = 0;
      for (int64_t n = 0; n < plan.images; ++n) {
        bias_grad += all[4 * c * n + i];
        scale_grad += all[4 * c * n + c + i];
      }
      l.output<A>(1)[i] = static_cast<A>(scale_grad);
      l.output<A>(2)[i] = static_cast<A>(bias_grad);
    }
  };
  return {run, sums + static_cast<size_t>(4 * c * plan.images + scale_of.scratch()) * sizeof(A)};
}

Kernel prepare(const Prepare& p) {
  if (p.in().shape.numel() == 0) {
    return {[bytes = p.out(1).bytes()](const Launch& l) {
      for (const size_t k : {1, 2})
        if (bytes > 0) std::memset(l.out[k], 0, bytes);
    }};
  }
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
}

}  // namespace

namespace ops {

constinit const Op group_norm_grad_op{.name = "group_norm_grad",
                                      .inputs = 3,
                                      .outputs = 3,
                                      .attrs = &attr_info<NormAttrs>,
                                      .infer = infer,
                                      .cpu = prepare,
                                      .cuda = TRI_CUDA(cuda_group_norm_grad),
                                      .layouts = Layouts::kFollow};

}  // namespace ops
}  // namespace trireme
