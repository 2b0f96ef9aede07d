// layer_norm: each row of the dimensions from begin_norm_axis on is brought to mean 0, variance 1.
#include "base/cpu_features.h"
#include "base/parallel.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/layer_norm_rows.h"
#include "ops/norm.h"
#include "ops/shape.h"

namespace trireme {
namespace {

struct Rows {
  int64_t count = 1, size = 1;
};

Rows rows_of(const Shape& x, int64_t axis) {
  Rows r;
  for (int d = 0; d < x.rank(); ++d) (d < axis ? r.count : r.size) *= x[d];
  return r;
}

void infer(const Infer& i) {
  const Shape& x = i.shape(0);
  const int64_t axis = i.attrs<NormAttrs>().axis;
  TRI_CHECK(is_floating(i.dtype(0)),
            message(i.op.name, "x expects a floating dtype, got ", i.dtype(0)));
  TRI_CHECK(axis >= 0 && axis < x.rank(),
            message(i.op.name, "begin_norm_axis expects a dimension of ", x, ", got ", axis));
  const int64_t n = rows_of(x, axis).size;
  for (size_t k = 1; k < 3; ++k) {
    if (!i.has(k)) continue;
    const char* what = k == 1 ? "scale" : "bias";
    TRI_CHECK(i.shape(k).numel() == n,
              message(i.op.name, what, " expects ", n, " elements, got ", i.shape(k)));
    TRI_CHECK(is_floating(i.dtype(k)),
              message(i.op.name, what, " expects a floating dtype, got ", i.dtype(k)));
  }
  i.out(i.dtype(0), x);
}

template <class T, class A>
void generic_rows(const T* x, const A* scale, const A* bias, T* y, int64_t rows, int64_t n,
                  A epsilon) {
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    A sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i];
    const A mean = sum / static_cast<A>(n);
    for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const A factor = 1 / std::sqrt(squares / static_cast<A>(n) + epsilon);
    for (int64_t i = 0; i < n; ++i) {
      A v = (x[i] - mean) * factor;
      if (scale) v *= scale[i];
      if (bias) v += bias[i];
      y[i] = T(v);
    }
  }
}

// `f` handles some rows: (x, scale, bias, y, rows, n, epsilon).
template <class T, class A, class F> Kernel rows_kernel(const Prepare& p, F f) {
  const auto& attrs = p.attrs<NormAttrs>();
  const Rows r = rows_of(p.in().shape, attrs.axis);
  const Param<A> scale(p, 1), bias(p, 2);
  const A epsilon = static_cast<A>(attrs.epsilon);
  const auto run = [=, grain = grain_of(r.size)](const Launch& l) {
    A* rest = static_cast<A*>(l.scratch);
    const A *s = scale.get(l, rest), *b = bias.get(l, rest);
    parallel_for(r.count, grain, [&](int64_t begin, int64_t end, int) {
      f(l.input<T>(0) + begin * r.size, s, b, l.output<T>() + begin * r.size, end - begin, r.size,
        epsilon);
    });
  };
  return {run, static_cast<size_t>(scale.scratch() + bias.scratch()) * sizeof(A)};
}

Kernel prepare(const Prepare& p) {
  const DType dtype = p.in().dtype;
  if (p.in().shape.numel() == 0) return {[](const Launch&) {}};
  if (cpu_features().avx512 && (dtype == DType::kFloat32 || dtype == DType::kBFloat16)) {
    const auto f = [](auto... args) { layer_norm_rows_avx512(args...); };
    if (dtype == DType::kFloat32) return rows_kernel<float, float>(p, f);
    return rows_kernel<uint16_t, float>(p, f);
  }
  return with_floating(*p.node.op, dtype, [&]<class T>(Tag<T>) {
    return rows_kernel<T, Compute<T>>(p, [](auto... args) { generic_rows(args...); });
  });
}

void grad(Grad& g) {
  const std::vector<Value*> back =
      record(ops::layer_norm_grad_op, {g.in(0), g.in(1), g.dout()}, g.attributes);
  g.set(0, back[0]);
  // Parameters keep the shape that they came in.
  const auto shaped = [&](size_t k) {
    const Shape& s = g.in(k)->type.shape;
    g.set(k, ops::reshape(back[k], {s.begin(), s.end()}));
  };
  for (const size_t k : {1, 2})
    if (g.wants(k)) shaped(k);
}

}  // namespace

namespace ops {

constinit const Op layer_norm_op{.name = "layer_norm",
                                 .inputs = 3,
                                 .attrs = &attr_info<NormAttrs>,
                                 .infer = infer,
                                 .grad = grad,
                                 .cpu = prepare,
                                 .cuda = TRI_CUDA(cuda_layer_norm),
                                 .amp = Amp::kFloatInO1,
                                 .amp_inputs = 1,
                                 .in_place = 1};

Value* layer_norm(Value* x, Value* scale, Value* bias, int64_t begin_norm_axis, double epsilon) {
  const int64_t axis = normal_axis("layer_norm", begin_norm_axis, x->type.shape.rank());
  return record1(layer_norm_op, {x, scale, bias}, NormAttrs{.epsilon = epsilon, .axis = axis});
}

}  // namespace ops
}  // namespace trireme
