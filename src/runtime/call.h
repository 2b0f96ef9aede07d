// call(): from an operator on values to a function on tensors.
#pragma once

#include <vector>

#include "runtime/recorder.h"

namespace trireme {

bool eager_mode();  // TRIREME_EAGER=1: a flush behind every function

// The recorder of these tensors' device, after a flush that was due. Tensors may be empty (absent);
// without any the current device decides.
Recorder& recorder_for(std::initializer_list<const Tensor*> tensors);
Recorder& recorder_for(const std::vector<Tensor>& tensors);

namespace detail {
inline Tensor wrap(Recorder& r, Value* v) { return r.tensor(v); }
std::vector<Tensor> wrap(Recorder& r, const std::vector<Value*>& vs);
inline Value* in(Recorder& r, const Tensor& t) {
  return t.defined() ? r.value(t.variable()) : nullptr;
}
std::vector<Value*> in(Recorder& r, const std::vector<Tensor>& ts);
}  // namespace detail

// f(values...) on the recorder of the tensors: f gets a Value* each (null for an empty tensor) and
// returns Value* or a vector of them. At the first call of a step the flush of the last one
// happens.
template <class F, class... Ts> auto call(F&& f, const Ts&... tensors) {
  Recorder& r = recorder_for({&tensors...});
  const BuilderScope scope(r);
  auto result = detail::wrap(r, f(detail::in(r, tensors)...));
  if (eager_mode() && !r.tracing()) r.flush();
  return result;
}

// The same for a list of tensors.
template <class F> auto call_list(F&& f, const std::vector<Tensor>& tensors) {
  Recorder& r = recorder_for(tensors);
  const BuilderScope scope(r);
  auto result = detail::wrap(r, f(detail::in(r, tensors)));
  if (eager_mode() && !r.tracing()) r.flush();
  return result;
}

}  // namespace trireme
