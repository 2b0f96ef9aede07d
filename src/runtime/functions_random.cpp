// The functions of trireme/random.h: the recorder's generator is an input of each operator.
#include "trireme/random.h"

#include <algorithm>

#include "ops/random.h"
#include "runtime/call.h"
#include "trireme/manipulation.h"

namespace trireme {
namespace {

template <class F> Tensor drawn(RandomAttrs attrs, F&& make) {
  Recorder& r = recorder_for({});
  attrs.index = r.next_random();
  return call([&] { return make(r.random_state(), attrs); });
}

}  // namespace

Tensor uniform(const Ints& shape, DType dtype, double min, double max) {
  return drawn({.shape = shape, .dtype = dtype, .min = min, .max = max}, &ops::uniform);
}
Tensor rand(const Ints& shape, DType dtype) { return uniform(shape, dtype, 0, 1); }
Tensor normal(double mean, double std, const Ints& shape, DType dtype) {
  return drawn({.shape = shape, .dtype = dtype, .min = mean, .max = std}, &ops::gaussian);
}
Tensor randn(const Ints& shape, DType dtype) { return normal(0, 1, shape, dtype); }
Tensor standard_normal(const Ints& shape, DType dtype) { return normal(0, 1, shape, dtype); }
Tensor randint(int64_t low, int64_t high, const Ints& shape, DType dtype) {
  TRI_CHECK(low < high, "[randint] expects low < high, got " + std::to_string(low) + " and " +
                            std::to_string(high));
  return drawn({.shape = shape, .dtype = dtype, .low = low, .high = high}, &ops::randint);
}
Tensor randperm(int64_t n, DType dtype) {
  return drawn({}, [&](Value* state, const RandomAttrs& a) {
    return ops::randperm(state, n, dtype, a.index);
  });
}
Tensor bernoulli(const Tensor& x) {
  Recorder& r = recorder_for({&x});
  const int64_t index = r.next_random();
  return call([&](Value* v) { return ops::bernoulli(v, r.random_state(), index); }, x);
}

Tensor multinomial(const Tensor& x, int64_t num_samples, bool replacement) {
  TRI_CHECK((x.ndim() == 1 || x.ndim() == 2) && is_floating(x.dtype()),
            "[multinomial] x expects floating weights of rank 1 or 2, got " + x.shape().str());
  const int64_t classes = x.size(-1);
  TRI_CHECK(num_samples > 0 && classes > 0 && (replacement || num_samples <= classes),
            "[multinomial] num_samples expects 1 to " + std::to_string(classes) + ", got " +
                std::to_string(num_samples));
  Ints shape(x.shape().begin(), x.shape().end());
  const Tensor weights = x.detach();
  if (replacement) {  // where uniform numbers fall among the running sums
    shape.back() = num_samples;
    const Tensor sums = cumsum(weights, -1);
    const Tensor total = slice(sums, {-1}, {classes - 1}, {classes});
    const Tensor at = searchsorted(sums, rand(shape, x.dtype()) * total, true);
    return minimum(at, full({}, static_cast<double>(classes - 1), DType::kInt64));
  }
  // The largest of log(weight) plus noise of the Gumbel distribution.
  const Tensor noise = uniform(shape, x.dtype(), 1e-30, 1);
  return topk(log(weights) - log(-log(noise)), num_samples, -1)[1];
}

}  // namespace trireme
