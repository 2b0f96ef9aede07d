// nearest_interp and bilinear_interp: resizing in Paddle's conventions.
#include "base/parallel.h"
#include "ops/copy_run.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/interp_tables.h"
#include "ops/pool.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<InterpAttrs>();
  const Shape& x = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(x.rank() == 4 && x[2] > 0 && x[3] > 0,
            message(i.op.name, "x expects [N, C, H, W], got ", x));
  TRI_CHECK(a.size.size() == 2 && a.size[0] > 0 && a.size[1] > 0,
            message(i.op.name, "size expects two positive values, got ", Shape(std::span(a.size))));
  TRI_CHECK(a.scale.empty() || (a.scale.size() == 2 && a.scale[0] > 0 && a.scale[1] > 0),
            message(i.op.name, "scale expects two positive factors or none"));
  TRI_CHECK(a.align_mode == 0 || a.align_mode == 1,
            message(i.op.name, "align_mode expects 0 or 1, got ", a.align_mode));
  i.out(i.dtype(0), Shape{x[0], x[1], a.size[0], a.size[1]});
}

// ---- nearest ------------------------------------------------------------------------------------

struct Nearest {
  std::vector<int64_t> h, w;
  int64_t images, height, width;  // images: of the input, row-major: planes
};

// Elements are `run` bytes: one number, or the channels of a pixel. Equal rows are copied whole.
template <class Copy> Kernel nearest_kernel(const Nearest& n, int64_t run, Copy copy) {
  const auto oh = static_cast<int64_t>(n.h.size()), ow = static_cast<int64_t>(n.w.size());
  return {[=](const Launch& l) {
    parallel_for(n.images * oh, grain_of(ow * run / 4), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        char* to = l.output<char>() + r * ow * run;
        const int64_t h = n.h[static_cast<size_t>(r % oh)];
        if (r > begin && r % oh > 0 && n.h[static_cast<size_t>(r % oh - 1)] == h) {
          std::memcpy(to, to - ow * run, static_cast<size_t>(ow * run));
          continue;
        }
        const char* from = l.input<char>(0) + (r / oh * n.height + h) * n.width * run;
        for (int64_t w = 0; w < ow; ++w)
          copy(to + w * run, from + n.w[static_cast<size_t>(w)] * run);
      }
    });
  }};
}

Kernel prepare_nearest(const Prepare& p) {
  const auto& a = p.attrs<InterpAttrs>();
  const Shape& x = p.in().shape;
  if (x.numel() == 0) return {[](const Launch&) {}};
  const bool last = channels_last(p.in()) || channels_last(p.out());
  const Nearest n{nearest_table(a, x[2], a.size[0], 0), nearest_table(a, x[3], a.size[1], 1),
                  last ? x[0] : x[0] * x[1], x[2], x[3]};
  const size_t element = size_of(p.in().dtype), bytes = element * static_cast<size_t>(x[1]);
  if (last) {
    return nearest_kernel(n, static_cast<int64_t>(bytes),
                          [bytes](char* to, const char* from) { copy_run(to, from, bytes); });
  }
  return with_size(element, [&]<class T>(Tag<T>) {
    return nearest_kernel(n, sizeof(T),
                          [](char* to, const char* from) { std::memcpy(to, from, sizeof(T)); });
  });
}

// ---- bilinear -----------------------------------------------------------------------------------

// A pixel is `run` adjacent elements: one, or its channels.
template <class T> Kernel bilinear_kernel(const Prepare& p) {
  using A = Compute<T>;
  const auto& a = p.attrs<InterpAttrs>();
  const Shape& x = p.in().shape;
  const bool last = channels_last(p.in()) || channels_last(p.out());
  const int64_t run = last ? x[1] : 1, images = last ? x[0] : x[0] * x[1], oh = a.size[0],
                ow = a.size[1];
  const std::vector<InterpPair> hs = bilinear_table(a, x[2], oh, 0),
                                ws = bilinear_table(a, x[3], ow, 1);
  return {[=, height = x[2], width = x[3]](const Launch& l) {
    parallel_for(images * oh, grain_of(4 * ow * run), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const InterpPair& h = hs[static_cast<size_t>(r % oh)];
        const T* image = l.input<T>(0) + r / oh * height * width * run;
        const T *top = image + h.first * width * run, *bottom = image + h.second * width * run;
        T* to = l.output<T>() + r * ow * run;
        const A s = static_cast<A>(h.weight);
        for (const InterpPair& w : ws) {
          const A t = static_cast<A>(w.weight);
          const int64_t left = w.first * run, right = w.second * run;
          for (int64_t c = 0; c < run; ++c) {
            const A upper = A(top[left + c]) * (1 - t) + A(top[right + c]) * t;
            const A lower = A(bottom[left + c]) * (1 - t) + A(bottom[right + c]) * t;
            to[c] = T(upper * (1 - s) + lower * s);
          }
          to += run;
        }
      }
    });
  }};
}

Kernel prepare_bilinear(const Prepare& p) {
  return with_floating(*p.node.op, p.in().dtype,
                       [&]<class T>(Tag<T>) { return bilinear_kernel<T>(p); });
}

// Linear in x: the gradient goes to the pixels that were read.
void grad(Grad& g) {
  const bool nearest = &g.op == &ops::nearest_interp_op;
  g.set(0, ops::interp_grad(nearest ? ops::nearest_interp_grad_op : ops::bilinear_interp_grad_op,
                            g.dout(), g.in(), g.attrs<InterpAttrs>()));
}

}  // namespace

namespace ops {

constinit const Op nearest_interp_op{.name = "nearest_interp",
                                     .attrs = &attr_info<InterpAttrs>,
                                     .infer = infer,
                                     .grad = grad,
                                     .cpu = prepare_nearest,
                                     .cuda = TRI_CUDA(cuda_nearest_interp),
                                     .amp = Amp::kFloatInO1,
                                     .layouts = Layouts::kFollow};
constinit const Op bilinear_interp_op{.name = "bilinear_interp",
                                      .attrs = &attr_info<InterpAttrs>,
                                      .infer = infer,
                                      .grad = grad,
                                      .cpu = prepare_bilinear,
                                      .cuda = TRI_CUDA(cuda_bilinear_interp),
                                      .amp = Amp::kFloatInO1,
                                      .layouts = Layouts::kFollow};

Value* nearest_interp(Value* x, const InterpAttrs& attrs) {
  return record1(nearest_interp_op, {x}, attrs);
}
Value* bilinear_interp(Value* x, const InterpAttrs& attrs) {
  return record1(bilinear_interp_op, {x}, attrs);
}

}  // namespace ops
}  // namespace trireme
