// pad: a border of a constant, of mirrored, repeated or wrapped elements. Negative paddings crop.
#include <cstring>
#include <limits>
#include <utility>

#include "base/parallel.h"
#include "device/device.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "ops/strided_copy.h"

namespace trireme {
namespace {

// Padding in front of and behind dimension d.
int64_t before(const PadAttrs& a, int d) { return a.paddings[2 * static_cast<size_t>(d)]; }
int64_t after(const PadAttrs& a, int d) { return a.paddings[2 * static_cast<size_t>(d) + 1]; }

// How far `mode` can look out of a dimension of `size` elements.
int64_t reach(const std::string& mode, int64_t size) {
  if (mode == "reflect") return std::max<int64_t>(size - 1, 0);
  if (mode == "circular") return size;
  return size > 0 || mode == "constant" ? std::numeric_limits<int64_t>::max() : 0;
}

void infer(const Infer& i) {
  const auto& a = i.attrs<PadAttrs>();
  Shape out = i.shape(0);
  TRI_CHECK(a.paddings.size() == 2 * static_cast<size_t>(out.rank()),
            message(i.op.name, "paddings expects ", 2 * out.rank(), " values for x of shape ", out,
                    ", got ", a.paddings.size()));
  TRI_CHECK(
      a.mode == "constant" || a.mode == "reflect" || a.mode == "replicate" || a.mode == "circular",
      message(i.op.name, "mode expects constant, reflect, replicate or circular, got ", a.mode));
  for (int d = 0; d < out.rank(); ++d) {
    const int64_t size = out[d], b = before(a, d), e = after(a, d), most = reach(a.mode, size);
    TRI_CHECK(b <= most && e <= most,
              message(i.op.name, "paddings of axis ", d, " expects at most ", most, " in mode ",
                      a.mode, ", got ", b, " and ", e));
    TRI_CHECK(!__builtin_add_overflow(size, b, &out[d]) &&
                  !__builtin_add_overflow(out[d], e, &out[d]) && out[d] >= 0 && b > -size - 1 &&
                  e > -size - 1,
              message(i.op.name, "axis ", d, " of ", size, " elements cannot take paddings ", b,
                      " and ", e));
  }
  i.out(i.dtype(0), out);
}

// One element of `value` in the bytes of `dtype`.
uint64_t element_of(double value, DType dtype) {
  Array t(DType::kFloat64, Shape{});
  *t.as<double>() = value;
  t = t.to(dtype);
  uint64_t bytes = 0;
  std::memcpy(&bytes, t.data(), t.bytes());
  return bytes;
}

struct Geometry {
  std::vector<int64_t> in, out, begin, end,
      first;  // physical; [begin, end) of out comes from `first` of in
};

Geometry geometry_of(const Prepare& p) {
  const auto& a = p.attrs<PadAttrs>();
  const Shape in = physical_shape(p.in()),
              out = physical_shape({p.in().dtype, p.out().shape, p.in().layout});
  Geometry g{{in.begin(), in.end()}, {out.begin(), out.end()}, {}, {}, {}};
  g.begin = g.end = g.first = g.in;
  for (int d = 0; d < in.rank(); ++d) {
    const auto at = static_cast<size_t>(physical_axis(p.in(), d));
    const int64_t b = before(a, d);
    g.first[at] = std::max<int64_t>(0, -b);
    g.begin[at] = std::clamp<int64_t>(b, 0, g.out[at]);
    g.end[at] = std::clamp<int64_t>(b + g.in[at], g.begin[at], g.out[at]);
  }
  return g;
}

// The interior, and for every dimension the slabs before and behind it, within the interior of the
// dimensions outside.
std::vector<CopyBox> constant_boxes(const Geometry& g, uint64_t value) {
  const std::vector<int64_t> src = dense_strides(g.in), dst = dense_strides(g.out),
                             none(g.in.size(), 0);
  std::vector<int64_t> dims = g.out;
  std::vector<CopyBox> boxes;
  int64_t from = 0, to = 0;
  for (size_t d = 0; d < dims.size(); ++d) {
    for (const auto& [begin, end] :
         {std::pair{int64_t{0}, g.begin[d]}, std::pair{g.end[d], g.out[d]}}) {
      dims[d] = end - begin;
      if (dims[d] == 0) continue;
      boxes.push_back({dims, none, dst, 0, to + begin * dst[d], 0, true, value});
    }
    dims[d] = g.end[d] - g.begin[d];
    from += g.first[d] * src[d];
    to += g.begin[d] * dst[d];
  }
  boxes.push_back({dims, src, dst, from, to});
  return boxes;
}

Kernel constant_kernel(const Prepare& p) {
  const DType dtype = p.in().dtype;
  const uint64_t value = element_of(p.attrs<PadAttrs>().value, dtype);
  return copy_boxes(p, constant_boxes(geometry_of(p), value), size_of(dtype));
}

int64_t source_of(const std::string& mode, int64_t i, int64_t size) {
  if (mode == "replicate") return std::clamp<int64_t>(i, 0, size - 1);
  if (mode == "circular") return i < 0 ? i + size : i >= size ? i - size : i;
  return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
}

// Every dimension has a table of where its elements come from, in source elements.
template <class T> Kernel table_kernel(const Prepare& p) {
  const auto& a = p.attrs<PadAttrs>();
  const Geometry g = geometry_of(p);
  const std::vector<int64_t> strides = dense_strides(g.in);
  std::vector<std::vector<int64_t>> tables(g.in.size());
  for (int d = 0; d < p.in().shape.rank(); ++d) {
    const auto at = static_cast<size_t>(physical_axis(p.in(), d));
    for (int64_t k = 0; k < g.out[at]; ++k)
      tables[at].push_back(source_of(a.mode, k - before(a, d), g.in[at]) * strides[at]);
  }
  const int64_t width = tables.back().size(), rows = width == 0 ? 0 : p.out().shape.numel() / width;
  return {[tables, width, rows](const Launch& l) {
    parallel_for(rows, grain_of(width), [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        int64_t rest = r;
        const T* from = l.input<T>(0);
        for (size_t d = tables.size() - 1; d-- > 0;) {
          const auto size = static_cast<int64_t>(tables[d].size());
          from += tables[d][static_cast<size_t>(rest % size)];
          rest /= size;
        }
        T* to = l.output<T>() + r * width;
        for (int64_t k = 0; k < width; ++k) to[k] = from[tables.back()[static_cast<size_t>(k)]];
      }
    });
  }};
}

Kernel prepare(const Prepare& p) {
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  if (p.attrs<PadAttrs>().mode == "constant" || p.in().shape.rank() == 0) return constant_kernel(p);
#ifdef TRIREME_CUDA
  if (p.device && !p.device->is_host()) return cuda_pad_border(p);
#endif
  return with_size(size_of(p.in().dtype), [&]<class T>(Tag<T>) { return table_kernel<T>(p); });
}

Value* part_of(Value* v, int axis, int64_t from, int64_t to) {
  return ops::slice(v, {axis}, {from}, {to});
}

Value* place_at(Value* v, int axis, int64_t at, int64_t size) {
  std::vector<int64_t> paddings(2 * static_cast<size_t>(v->type.shape.rank()), 0);
  paddings[2 * static_cast<size_t>(axis)] = at;
  paddings[2 * static_cast<size_t>(axis) + 1] = size - at - v->type.shape[axis];
  return ops::pad(v, paddings, "constant", 0);
}

// What one axis of a bordered gradient gives to the n elements inside: the middle, and the border's
// parts where they were taken from.
Value* fold_axis(Value* v, int axis, int64_t n, int64_t before, int64_t after,
                 const std::string& mode) {
  const int64_t b = std::max<int64_t>(before, 0), e = std::max<int64_t>(after, 0);
  const int64_t size = v->type.shape[axis];
  Value* sum = place_at(part_of(v, axis, b, size - e), axis, std::max<int64_t>(-before, 0), n);
  for (const bool front : {true, false}) {
    const int64_t width = front ? b : e;
    if (width == 0) continue;
    Value* part = front ? part_of(v, axis, 0, b) : part_of(v, axis, size - e, size);
    if (mode == "reflect") {
      part = place_at(ops::flip(part, {axis}), axis, front ? 1 : n - 1 - e, n);
    } else if (mode == "circular") {
      part = place_at(part, axis, front ? n - b : 0, n);
    } else {
      part = place_at(ops::reduce(ops::sum_op, part, {axis}, true), axis, front ? 0 : n - 1, n);
    }
    sum = ops::add(sum, part);
  }
  return sum;
}

void rule(Grad& g) {
  const auto& a = g.attrs<PadAttrs>();
  const Shape& x = g.in()->type.shape;
  Value* v = g.dout();
  if (a.mode == "constant") {
    std::vector<int64_t> back;
    for (const int64_t n : a.paddings) back.push_back(-n);
    g.set(0, ops::pad(v, back, "constant", 0));
    return;
  }
  for (int d = 0; d < x.rank(); ++d)
    if (before(a, d) != 0 || after(a, d) != 0)
      v = fold_axis(v, d, x[d], before(a, d), after(a, d), a.mode);
  g.set(0, v);
}

}  // namespace

namespace ops {

constinit const Op pad_op{.name = "pad",
                          .attrs = &attr_info<PadAttrs>,
                          .infer = infer,
                          .grad = rule,
                          .cpu = prepare,
                          .cuda = TRI_CUDA(prepare),
                          .layouts = Layouts::kFollow};

Value* pad(Value* x, std::vector<int64_t> paddings, const std::string& mode, double value) {
  return record1(pad_op, {x}, PadAttrs{std::move(paddings), mode, value});
}

}  // namespace ops
}  // namespace trireme
