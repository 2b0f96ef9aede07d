// Finding the recorder that serves some tensors.
#include "runtime/call.h"

#include <cstdlib>

namespace trireme {

bool eager_mode() {
  static const bool on = [] {
    const char* value = std::getenv("TRIREME_EAGER");
    return value != nullptr && *value != '\0' && *value != '0';
  }();
  return on;
}

Recorder& recorder_for(std::initializer_list<const Tensor*> tensors) {
  Recorder::flush_due();
  for (const Tensor* t : tensors)
    if (t->defined()) return Recorder::of(*t->variable()->slot->device);
  return current_recorder();
}

Recorder& recorder_for(const std::vector<Tensor>& tensors) {
  Recorder::flush_due();
  for (const Tensor& t : tensors)
    if (t.defined()) return Recorder::of(*t.variable()->slot->device);
  return current_recorder();
}

namespace detail {

std::vector<Tensor> wrap(Recorder& r, const std::vector<Value*>& vs) {
  std::vector<Tensor> result;
  for (Value* v : vs) result.push_back(v ? r.tensor(v) : Tensor());
  return result;
}

std::vector<Value*> in(Recorder& r, const std::vector<Tensor>& ts) {
  std::vector<Value*> result;
  for (const Tensor& t : ts) result.push_back(in(r, t));
  return result;
}

}  // namespace detail
}  // namespace trireme
