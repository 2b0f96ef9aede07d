// What the fused batch norms share on the CPU: rules of shapes, and plain loops for references.
#pragma once

#include "ops/batch_norm_fused.h"
#include "ops/elements.h"

namespace trireme {

inline DType computed_in(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}
inline int64_t mask_bytes(const Shape& x) { return (x.numel() + 7) / 8; }

inline void check_same(const Infer& i, size_t k, const char* name, DType dtype,
                       const Shape& shape) {
  TRI_CHECK(i.shape(k) == shape && i.dtype(k) == dtype,
            message(i.op.name, name, " expects ", dtype, " ", shape, ", got ", i.type(k).str()));
}
// The vectors of one normalisation, and its sums where they are given.
inline void check_norm(const Infer& i, const NormPlaces& at) {
  const Shape& x = i.shape(at.x);
  TRI_CHECK(is_floating(i.dtype(at.x)) && x.rank() >= 2,
            message(i.op.name, "x expects floating of rank 2 or more, got ", i.type(at.x).str()));
  TRI_CHECK(x.numel() > 0 || x[1] == 0, message(i.op.name, "x of shape ", x, " has no elements"));
  const DType own = computed_in(i.dtype(at.x));
  check_same(i, at.mean, "mean", own, {x[1]});
  check_same(i, at.variance, "variance", own, {x[1]});
  check_same(i, at.scale, "scale", own, {x[1]});
  check_same(i, at.bias, "bias", own, {x[1]});
  if (i.has(at.sums)) check_same(i, at.sums, "sums", own, {2, x[1]});
}

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

// The statistics of channel c into the outputs; then the factor and the offset of y. Sums that are
// given are not needed.
template <class T>
std::pair<Compute<T>, Compute<T>> statistics(const Elements& e, const Launch& l,
                                             const NormPlaces& at, int64_t c, double momentum,
                                             double epsilon) {
  using A = Compute<T>;
  const T* x = l.input<T>(at.x);
  double mean = 0, variance = 0;
  e.of(c, [&](int64_t i) { mean += A(x[i]); });
  mean /= e.count();
  e.of(c, [&](int64_t i) { variance += (A(x[i]) - mean) * (A(x[i]) - mean); });
  variance /= e.count();
  const auto moved = [&](size_t in, size_t out, double batch) {
    l.output<A>(out)[c] = static_cast<A>(momentum * l.input<A>(in)[c] + (1 - momentum) * batch);
  };
  moved(at.mean, at.mean_out, mean);
  moved(at.variance, at.variance_out, variance);
  const A m = static_cast<A>(mean), r = static_cast<A>(1 / std::sqrt(variance + epsilon));
  l.output<A>(at.saved_mean)[c] = m;
  l.output<A>(at.saved_mean + 1)[c] = r;
  const A factor = l.input<A>(at.scale)[c] * r;
  return {factor, std::fma(-m, factor, l.input<A>(at.bias)[c])};
}

// dx, dscale and dbias of channel c from g(element), the gradient behind the kink.
template <class T> struct NormGradient {
  const T* x;
  T* dx;
  Compute<T>*dscale, *dbias;
};
template <class T, class G>
void backward_channel(const Elements& e, const NormGradient<T>& n, int64_t c, double scale,
                      double mean, double inverse, G g) {
  using A = Compute<T>;
  double sum = 0, product = 0;
  e.of(c, [&](int64_t i) { sum += g(i), product += g(i) * (A(n.x[i]) - mean); });
  const double count = e.count();
  n.dscale[c] = static_cast<A>(product * inverse);
  n.dbias[c] = static_cast<A>(sum);
  e.of(c, [&](int64_t i) {
    const double centred = A(n.x[i]) - mean;
    n.dx[i] = T(static_cast<A>(
        scale * inverse * (g(i) - sum / count - centred * inverse * inverse * product / count)));
  });
}

}  // namespace trireme
