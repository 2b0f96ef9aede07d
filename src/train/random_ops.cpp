// Random tensors: the recorder's generator is an input, so plans stay the same.
#include "train/random_ops.h"

#include "ops/random.h"
#include "runtime/call.h"

namespace trireme::nn {

Tensor random_dropout(const Tensor& x, double p, const Ints& axis, const std::string& mode) {
  Recorder& r = recorder_for({&x});
  const DropoutAttrs attrs{p, mode, axis, r.next_random()};
  return call([&](Value* v) { return ops::dropout(v, r.random_state(), attrs); }, x);
}

Tensor random_uniform(const Tensor& x, double min, double max) {
  Recorder& r = recorder_for({&x});
  RandomAttrs attrs;
  attrs.shape = {x.shape().begin(), x.shape().end()};
  attrs.dtype = x.dtype();
  attrs.min = min;
  attrs.max = max;
  attrs.index = r.next_random();
  return call([&](Value*) { return ops::uniform(r.random_state(), attrs); }, x);
}

}  // namespace trireme::nn
