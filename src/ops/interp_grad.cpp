// The gradients of nearest_interp and bilinear_interp: each result's gradient to the pixels that it
// was made of.
#include <cstring>

#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/interp_tables.h"
#include "ops/pool.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<InterpAttrs>();
  const Shape& dy = i.shape(0);
  TRI_CHECK(is_floating(i.dtype(0)) && dy.rank() == 4,
            message(i.op.name, "dout expects floating [N, C, H, W], got ", i.type(0).str()));
  TRI_CHECK(a.size.size() == 2 && dy[2] == a.size[0] && dy[3] == a.size[1],
            message(i.op.name, "dout of shape ", dy, " is not of the result's size"));
  TRI_CHECK(a.input.size() == 2 && a.input[0] > 0 && a.input[1] > 0,
            message(i.op.name, "input expects two positive values"));
  TRI_CHECK(a.scale.empty() || (a.scale.size() == 2 && a.scale[0] > 0 && a.scale[1] > 0),
            message(i.op.name, "scale expects two positive factors or none"));
  i.out(i.dtype(0), Shape{dy[0], dy[1], a.input[0], a.input[1]});
}

void grad(Grad& g) {
  InterpAttrs a = g.attrs<InterpAttrs>();
  a.input.clear();
  const bool nearest = &g.op == &ops::nearest_interp_grad_op;
  g.set(0, record1(nearest ? ops::nearest_interp_op : ops::bilinear_interp_op, {g.dout()}, a));
}

// Up to two pixels a dimension, with their weights.
std::vector<InterpPair> table_of(const Op& op, const InterpAttrs& a, size_t d) {
  if (&op == &ops::bilinear_interp_grad_op) return bilinear_table(a, a.input[d], a.size[d], d);
  std::vector<InterpPair> table;
  for (const int64_t at : nearest_table(a, a.input[d], a.size[d], d)) table.push_back({at, at, 0});
  return table;
}

// Pixels are `step` elements apart; n of them, the channels of a task, are handled together.
template <class T> struct Picture {
  const T* dy;
  T* dx;
  int64_t width, step, n;

  void add(int64_t y, int64_t x, const T* from, Compute<T> weight) const {
    if (weight == 0) return;
    T* to = dx + (y * width + x) * step;
    for (int64_t c = 0; c < n; ++c) to[c] = T(to[c] + weight * from[c]);
  }

  void run(const std::vector<InterpPair>& rows, const std::vector<InterpPair>& columns,
           int64_t height) const {
    for (int64_t i = 0; i < height * width; ++i)
      std::memset(static_cast<void*>(dx + i * step), 0, static_cast<size_t>(n) * sizeof(T));
    const T* from = dy;
    for (const InterpPair& r : rows) {
      const auto s = static_cast<Compute<T>>(r.weight);
      for (const InterpPair& c : columns) {
        const auto t = static_cast<Compute<T>>(c.weight);
        add(r.first, c.first, from, (1 - s) * (1 - t));
        add(r.first, c.second, from, (1 - s) * t);
        add(r.second, c.first, from, s * (1 - t));
        add(r.second, c.second, from, s * t);
        from += step;
      }
    }
  }
};

template <class T> Kernel prepare_as(const Prepare& p) {
  const auto& a = p.attrs<InterpAttrs>();
  const Shape &x = p.out().shape, &y = p.in().shape;
  const bool last = channels_last(p.in()) || channels_last(p.out());
  const int64_t step = last ? x[1] : 1, images = last ? x[0] : x[0] * x[1];
  const int64_t blocks = (step + 63) / 64;
  const std::vector<InterpPair> rows = table_of(*p.node.op, a, 0),
                                columns = table_of(*p.node.op, a, 1);
  return {[=, height = x[2], width = x[3], pixels = y[2] * y[3]](const Launch& l) {
    parallel_for(images * blocks, grain_of(4 * pixels * std::min<int64_t>(step, 64)),
                 [&](int64_t begin, int64_t end, int) {
                   for (int64_t k = begin; k < end; ++k) {
                     const int64_t c = k % blocks * 64, image = k / blocks;
                     const Picture<T> picture{l.input<T>(0) + image * pixels * step + c,
                                              l.output<T>() + image * height * width * step + c,
                                              width, step, std::min<int64_t>(64, step - c)};
                     picture.run(rows, columns, height);
                   }
                 });
  }};
}

Kernel prepare(const Prepare& p) {
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  return with_floating(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
}

}  // namespace

namespace ops {

constinit const Op nearest_interp_grad_op{.name = "nearest_interp_grad",
                                          .attrs = &attr_info<InterpAttrs>,
                                          .infer = infer,
                                          .grad = grad,
                                          .cpu = prepare,
                                          .cuda = TRI_CUDA(cuda_nearest_interp_grad),
                                          .layouts = Layouts::kFollow};
constinit const Op bilinear_interp_grad_op{.name = "bilinear_interp_grad",
                                           .attrs = &attr_info<InterpAttrs>,
                                           .infer = infer,
                                           .grad = grad,
                                           .cpu = prepare,
                                           .cuda = TRI_CUDA(cuda_bilinear_interp_grad),
                                           .layouts = Layouts::kFollow};

Value* interp_grad(const Op& op, Value* dout, const Value* like, const InterpAttrs& attrs) {
  InterpAttrs a = attrs;
  a.input = {like->type.shape[2], like->type.shape[3]};
  return record1(op, {dout}, a);
}

}  // namespace ops
}  // namespace trireme
