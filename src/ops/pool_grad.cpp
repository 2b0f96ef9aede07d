// pool2d_grad: each window's gradient to its first maximum, or to all of it; and maxima together
// with their places.
#include <algorithm>
#include <cstring>

#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/pool.h"
#include "ops/pool_grad_rows.h"
#include "ops/pool_windows.h"

namespace trireme {

PoolPairs::PoolPairs(int64_t n)
    : windows(std::max<int64_t>(1, 16 / n)), left{}, right{}, first{}, second{} {
  if (n >= 16) return;
  for (int64_t i = 0; i < windows * n; ++i) {
    const auto at = static_cast<int32_t>(2 * (i / n) * n + i % n), lane = static_cast<int32_t>(i);
    left[i] = at;
    right[i] = at + static_cast<int32_t>(n);
    for (const auto& [place, from] : {std::pair(left[i], lane), std::pair(right[i], lane + 16)})
      (place < 16 ? first[place] : second[place - 16]) = from;
  }
}

namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<Pool2dAttrs>();
  const Shape& dy = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)) && dy.rank() == 4,
            message(i.op.name, "dout expects floating [N, C, H, W], got ", i.type(0).str()));
  TRI_CHECK(a.size.size() == 2 && a.size[0] > 0 && a.size[1] > 0,
            message(i.op.name, "size expects two positive values"));
  TRI_CHECK(a.kernel.size() == 2 && a.strides.size() == 2 && a.paddings.size() == 4,
            message(i.op.name, "kernel, strides and paddings expect 2, 2 and 4 values"));
  const Shape x{dy[0], dy[1], a.size[0], a.size[1]};
  TRI_CHECK(a.pooling_type == "avg" || i.has(1), message(i.op.name, "max expects x"));
  TRI_CHECK(!i.has(1) || (i.shape(1) == x && i.dtype(1) == i.dtype(0)),
            message(i.op.name, "x expects ", x, ", got ", i.has(1) ? i.type(1).str() : ""));
  i.out(i.dtype(0), x);
}

// Only the average's gradient is linear in what stands here.
void grad(Grad& g) {
  Pool2dAttrs a = g.attrs<Pool2dAttrs>();
  TRI_CHECK(a.pooling_type == "avg" || !g.wants(0),
            message(g.op.name, "the second derivative of max pooling is not there"));
  a.size.clear();
  if (g.wants(0)) g.set(0, ops::pool2d(g.dout(), a));
}

// The picture cut into tasks that share no element: images and some channels, or planes.
struct Tasks {
  int64_t count, width, step, row, image, channels;

  Tasks(const Shape& x, bool last) {
    width = last ? std::min<int64_t>(64, x[1]) : 1;
    step = last ? x[1] : 1;
    row = x[3] * step;
    image = x[2] * row;
    channels = last ? x[1] : 1;
    count = last ? x[0] * ((x[1] + width - 1) / width) : x[0] * x[1];
  }
  int64_t per_image() const { return (channels + width - 1) / width; }

  // f(image, first channel, channels)
  template <class F> void run(int64_t work, F f) const {
    parallel_for(count, grain_of(work * width), [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t c = t % per_image() * width;
        f(t / per_image(), c, std::min(width, channels - c));
      }
    });
  }
};

// Windows of 2 x 2 that touch without sharing anything.
bool are_pairs(const Pool2dAttrs& a, const Shape& x, const Shape& y) {
  const std::vector<int64_t> two{2, 2};
  return !a.adaptive && a.kernel == two && a.strides == two && 2 * y[2] <= x[2] &&
         2 * y[3] <= x[3] &&
         std::all_of(a.paddings.begin(), a.paddings.end(), [](int64_t v) { return v == 0; });
}

template <class T> Kernel pairs_kernel(const Shape& x, const Shape& y, const Tasks& tasks) {
  const PoolPairs pairs(tasks.step);
  const auto run = pool_grad_rows<T>().max_pairs;
  return {[=, pixels = x[2] * x[3], height = x[2], width = x[3], oh = y[2],
           ow = y[3]](const Launch& l) {
    const auto zero = [&](T* at, int64_t count, int64_t n) {
      if (n == tasks.step)
        std::memset(static_cast<void*>(at), 0, sizeof(T) * static_cast<size_t>(count * n));
      else
        for (int64_t i = 0; i < count; ++i, at += tasks.step) std::fill(at, at + n, T(0));
    };
    tasks.run(pixels, [&](int64_t image, int64_t c, int64_t n) {
      T* dx = l.output<T>() + image * tasks.image + c;
      const T* dy = l.input<T>(0) + image * oh * ow * tasks.channels + c;
      const T* from = l.input<T>(1) + image * tasks.image + c;
      for (int64_t h = 0; h < oh; ++h, dy += ow * tasks.channels) {
        const int64_t at = 2 * h * tasks.row;
        run(from + at, dy, dx + at, pairs, ow, tasks.row, tasks.step, n);
        for (int64_t k = 0; k < 2 && 2 * ow < width; ++k)
          zero(dx + at + k * tasks.row + 2 * ow * tasks.step, width - 2 * ow, n);
      }
      zero(dx + 2 * oh * tasks.row, (height - 2 * oh) * width, n);
    });
  }};
}

template <class T> Kernel grad_kernel(const Prepare& p) {
  const auto& a = p.attrs<Pool2dAttrs>();
  const Shape &x = p.out().shape, &y = p.in().shape;
  const bool max = a.pooling_type == "max";
  const Tasks tasks(
      x, channels_last(p.in()) || channels_last(p.out()) || (p.has(1) && channels_last(p.in(1))));
  const PoolWindows windows(a, x, y);
  const PoolGradRows<T>& loops = pool_grad_rows<T>();
  if (max && loops.max_pairs && are_pairs(a, x, y)) return pairs_kernel<T>(x, y, tasks);
  return {[=, &loops, pixels = x[2] * x[3], oh = y[2], ow = y[3]](const Launch& l) {
    tasks.run(pixels, [&](int64_t image, int64_t c, int64_t n) {
      T* dx = l.output<T>() + image * tasks.image + c;
      const bool dense = n == tasks.step;  // then the pixels are one run
      const int64_t runs = dense ? 1 : pixels, length = dense ? pixels * n : n;
      for (int64_t i = 0; i < runs; ++i)
        std::memset(static_cast<void*>(dx + i * tasks.step), 0,
                    static_cast<size_t>(length) * sizeof(T));
      const T* dy = l.input<T>(0) + image * oh * ow * tasks.channels + c;
      const T* from = max ? l.input<T>(1) + image * tasks.image + c : nullptr;
      for (int64_t h = 0; h < oh; ++h) {
        for (int64_t w = 0; w < ow; ++w, dy += tasks.channels) {
          const PoolWindow window = windows.at(h, w);
          if (max) loops.max(from, dy, dx, window, tasks.row, tasks.step, n);
          else loops.avg(dy, dx, window, tasks.row, tasks.step, n);
        }
      }
    });
  }};
}

void infer_index(const Infer& i) {
  TRI_CHECK(i.attrs<Pool2dAttrs>().pooling_type == "max",
            message(i.op.name, "pooling_type expects max"));
  const Shape y = pool_output(i);
  TRI_CHECK(i.shape(0)[2] * i.shape(0)[3] < (int64_t{1} << 31),
            message(i.op.name, "x of shape ", i.shape(0), " is too large"));
  i.out(i.dtype(0), y);
  i.out(DType::kInt32, y);
}

void index_grad(Grad& g) {
  if (g.dout()) g.set(0, ops::pool2d_grad(g.dout(), g.in(), g.attrs<Pool2dAttrs>()));
}

template <class T> Kernel index_kernel(const Prepare& p) {
  const Shape &x = p.in().shape, &y = p.out().shape;
  const Tasks tasks(x, channels_last(p.in()) || channels_last(p.out()));
  const PoolWindows windows(p.attrs<Pool2dAttrs>(), x, y);
  for (const auto* spans : {&windows.h, &windows.w})
    for (const PoolSpan& s : *spans)
      TRI_CHECK(s.end > s.begin, message(p.node.op->name, "a window lies in the padding"));
  const PoolGradRows<T>& loops = pool_grad_rows<T>();
  return {[=, &loops, width = x[3], pixels = x[2] * x[3], oh = y[2], ow = y[3]](const Launch& l) {
    tasks.run(pixels, [&](int64_t image, int64_t c, int64_t n) {
      const T* from = l.input<T>(0) + image * tasks.image + c;
      int64_t at = image * oh * ow * tasks.channels + c;
      for (int64_t h = 0; h < oh; ++h)
        for (int64_t w = 0; w < ow; ++w, at += tasks.channels)
          loops.max_index(from, l.output<T>() + at, l.output<int32_t>(1) + at, windows.at(h, w),
                          tasks.row, tasks.step, width, n);
    });
  }};
}

Kernel prepare_grad(const Prepare& p) {
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  return with_floating(*p.node.op, p.in().dtype,
                       [&]<class T>(Tag<T>) { return grad_kernel<T>(p); });
}
Kernel prepare_index(const Prepare& p) {
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  return with_floating(*p.node.op, p.in().dtype,
                       [&]<class T>(Tag<T>) { return index_kernel<T>(p); });
}

}  // namespace

namespace ops {

constinit const Op pool2d_grad_op{.name = "pool2d_grad",
                                  .inputs = 2,
                                  .attrs = &attr_info<Pool2dAttrs>,
                                  .infer = infer,
                                  .grad = grad,
                                  .cpu = prepare_grad,
                                  .cuda = TRI_CUDA(cuda_pool2d_grad),
                                  .layouts = Layouts::kPrefersChannelsLast};
constinit const Op max_pool2d_with_index_op{.name = "max_pool2d_with_index",
                                            .outputs = 2,
                                            .attrs = &attr_info<Pool2dAttrs>,
                                            .infer = infer_index,
                                            .grad = index_grad,
                                            .cpu = prepare_index,
                                            .cuda = TRI_CUDA(cuda_pool2d),
                                            .amp = Amp::kHalf,
                                            .layouts = Layouts::kPrefersChannelsLast};

Value* pool2d_grad(Value* dout, Value* x, const Pool2dAttrs& attrs) {
  Pool2dAttrs a = attrs;
  a.size = {x->type.shape[2], x->type.shape[3]};
  return record1(pool2d_grad_op, {dout, a.pooling_type == "max" ? x : nullptr}, a);
}
std::vector<Value*> max_pool2d_with_index(Value* x, const Pool2dAttrs& attrs) {
  return record(max_pool2d_with_index_op, {x}, attrs);
}

}  // namespace ops
}  // namespace trireme
