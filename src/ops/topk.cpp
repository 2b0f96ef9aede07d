// topk: the k largest (or smallest) along a dimension, in order; of equal ones the first comes
// first.
#include <numeric>

#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/index.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<TopkAttrs>();
  Shape out = i.shape(0);
  TRI_CHECK(a.axis >= 0 && a.axis < out.rank(),
            message(i.op.name, "axis expects a dimension of ", out, ", got ", a.axis));
  int64_t& size = out[static_cast<int>(a.axis)];
  TRI_CHECK(a.k >= 1 && a.k <= size, message(i.op.name, "k expects 1 to ", size, ", got ", a.k));
  size = a.k;
  i.out(i.dtype(0), out);
  i.out(DType::kInt64, out);
}

// Whether a comes before b. NaN counts as largest, so that the order is total.
template <bool kLargest, class A> bool precedes(A a, A b) {
  if constexpr (std::is_floating_point_v<A>) {
    if (std::isnan(a) || std::isnan(b))
      return kLargest ? std::isnan(a) && !std::isnan(b) : std::isnan(b) && !std::isnan(a);
  }
  return kLargest ? a > b : a < b;
}

template <class T> struct Line {
  const T* x;
  T* values;
  int64_t* indices;
  int64_t n, k, stride;
};

template <bool kLargest, class T> void pick(const Line<T>& line, int64_t* order) {
  using A = Compute<T>;
  const auto value = [&](int64_t i) { return A(line.x[i * line.stride]); };
  if (line.k == 1) {
    order[0] = 0;
    for (int64_t i = 1; i < line.n; ++i)
      if (precedes<kLargest>(value(i), value(order[0]))) order[0] = i;
  } else {
    std::iota(order, order + line.n, 0);
    const auto first = [&](int64_t a, int64_t b) {
      const A x = value(a), y = value(b);
      return precedes<kLargest>(x, y) || (!precedes<kLargest>(y, x) && a < b);
    };
    if (line.k == line.n) std::sort(order, order + line.n, first);
    else std::partial_sort(order, order + line.k, order + line.n, first);
  }
  for (int64_t i = 0; i < line.k; ++i) {
    line.values[i * line.stride] = line.x[order[i] * line.stride];
    line.indices[i * line.stride] = order[i];
  }
}

template <class T> Kernel prepare_as(const Prepare& p) {
  const auto& a = p.attrs<TopkAttrs>();
  const AxisSplit s = split_at(p.in().shape, a.axis);
  const int64_t lines = s.outer * s.inner, chunks = std::min<int64_t>(lines, 16);
  const auto run = [=, k = a.k, largest = a.largest](const Launch& l) {
    parallel_for(chunks, grain_of(lines * s.size / std::max<int64_t>(1, chunks)),
                 [&](int64_t begin, int64_t end, int) {
                   int64_t* order = static_cast<int64_t*>(l.scratch) + begin * s.size;
                   for (int64_t r = begin * lines / chunks; r < end * lines / chunks; ++r) {
                     const int64_t o = r / s.inner, c = r % s.inner, to = o * k * s.inner + c;
                     const Line<T> line{l.input<T>(0) + o * s.size * s.inner + c,
                                        l.output<T>(0) + to,
                                        l.output<int64_t>(1) + to,
                                        s.size,
                                        k,
                                        s.inner};
                     largest ? pick<true>(line, order) : pick<false>(line, order);
                   }
                 });
  };
  return {run, static_cast<size_t>(chunks * s.size) * sizeof(int64_t)};
}

Kernel prepare(const Prepare& p) {
  return with_number(*p.node.op, p.in().dtype, [&]<class T>(Tag<T>) { return prepare_as<T>(p); });
}

void rule(Grad& g) {
  if (g.dout(0) == nullptr) return;
  const Shape& x = g.in()->type.shape;
  Value* zeros = ops::full({x.begin(), x.end()}, 0, g.dout()->type.dtype);
  g.set(0, ops::put_along_axis(zeros, g.out(1), g.dout(), g.attrs<TopkAttrs>().axis, false));
}

}  // namespace

namespace ops {

constinit const Op topk_op{.name = "topk",
                           .outputs = 2,
                           .attrs = &attr_info<TopkAttrs>,
                           .infer = infer,
                           .grad = rule,
                           .cpu = prepare,
                           .cuda = TRI_CUDA(cuda_topk)};

std::vector<Value*> topk(Value* x, int64_t k, int64_t axis, bool largest, bool sorted) {
  axis = normal_axis("topk", axis, x->type.shape.rank());
  return record(topk_op, {x}, TopkAttrs{k, axis, largest, sorted});
}

}  // namespace ops
}  // namespace trireme
