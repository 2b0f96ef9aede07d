// Tensor's methods: reading computes what is pending, updating rebinds.
#include "trireme/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "ops/assign.h"
#include "ops/pointwise.h"
#include "runtime/call.h"
#include "trireme/autograd.h"

namespace trireme {
namespace {

const Variable& variable_of(const Tensor& t) {
  TRI_CHECK(t.defined(), "[tensor] the tensor is empty");
  return *t.variable();
}

std::string element(const Array& doubles, DType dtype, int64_t i) {
  const double v = doubles.as<double>()[i];
  if (dtype == DType::kBool) return v != 0 ? "true" : "false";
  char text[32];
  std::snprintf(text, sizeof text, is_floating(dtype) ? "%.6g" : "%.0f", v);
  return text;
}

void print(std::string& out, const Array& doubles, DType dtype, const Shape& shape, int axis,
           int64_t offset, int64_t stride) {
  if (axis == shape.rank()) {
    out += element(doubles, dtype, offset);
    return;
  }
  constexpr int64_t kEdge = 3;
  const int64_t n = shape[axis], inner = n > 0 ? stride / n : 0;
  const bool shorten = n > 2 * kEdge && doubles.numel() > 200;
  out += '[';
  for (int64_t i = 0; i < n; ++i) {
    if (i > 0) {
      out += ',';
      out += axis + 1 < shape.rank() ? '\n' + std::string(static_cast<size_t>(axis) + 1, ' ')
                                     : std::string(" ");
    }
    if (shorten && i == kEdge) {
      out += "...";
      i = n - kEdge - 1;
      continue;
    }
    print(out, doubles, dtype, shape, axis + 1, offset + i * inner, inner);
  }
  out += ']';
}

}  // namespace

Slot& computed(const Tensor& t) {
  Slot& slot = *variable_of(t).slot;
  Recorder::flush_due();
  if (!slot.computed() && !slot.error && slot.recorder != nullptr) {
    Recorder& own = Recorder::of(*slot.device);
    TRI_CHECK(slot.recorder == &own,
              "[tensor] a tensor that is pending in another thread must be computed there first");
    own.flush();
  }
  if (slot.error) throw Error(*slot.error);
  if (!slot.computed()) fail(Code::kInternal, "[tensor] a pending value was lost");
  return slot;
}

Tensor::Tensor(const Array& array) {
  TRI_CHECK(array.defined() || array.numel() == 0, "[tensor] the array is empty");
  Recorder::flush_due();
  Device& device = current_device();
  variable_ = std::make_shared<Variable>();
  variable_->slot = std::make_shared<Slot>();
  Slot& slot = *variable_->slot;
  slot.type = {array.dtype(), array.shape(), Layout::kPlain};
  slot.device = &device;
  if (device.is_host() && array.owner()) {
    slot.storage = {const_cast<void*>(array.data()), array.owner()};
    return;
  }
  slot.storage = device.upload(array.data(), static_cast<int64_t>(array.bytes()), "a tensor");
}

const Shape& Tensor::shape() const { return variable_of(*this).slot->type.shape; }
DType Tensor::dtype() const { return variable_of(*this).slot->type.dtype; }
const std::string& Tensor::device() const { return variable_of(*this).slot->device->name(); }
const std::string& Tensor::name() const { return variable_of(*this).name; }
void Tensor::set_name(std::string name) {
  (void)variable_of(*this);
  variable_->name = std::move(name);
}

int64_t Tensor::size(int axis) const {
  const Shape& s = shape();
  TRI_CHECK(axis >= -s.rank() && axis < s.rank(),
            "[tensor] axis expects a value in [" + std::to_string(-s.rank()) + ", " +
                std::to_string(s.rank()) + "), got " + std::to_string(axis));
  return s[axis < 0 ? axis + s.rank() : axis];
}

Array Tensor::numpy() const {
  Slot& slot = computed(*this);
  if (slot.device->is_host())
    return {slot.type.dtype, slot.type.shape, slot.storage.data, slot.storage.owner};
  Array array(slot.type.dtype, slot.type.shape);
  slot.device->download(array.data(), slot.storage.data, array.bytes());
  return array;
}

double Tensor::item() const {
  TRI_CHECK(numel() == 1, "[item] expects a tensor with one element, got shape " + shape().str());
  return *numpy().to(DType::kFloat64).as<double>();
}

std::string Tensor::str() const {
  if (!defined()) return "Tensor()";
  std::string out = "Tensor(shape=" + shape().str() + ", dtype=" + std::string(name_of(dtype())) +
                    ", place=" + device() +
                    ", stop_gradient=" + (stop_gradient() ? "True" : "False") + ",\n";
  const Array doubles = numpy().to(DType::kFloat64);
  print(out, doubles, dtype(), shape(), 0, 0, doubles.numel());
  return out + ')';
}

bool Tensor::stop_gradient() const { return variable_of(*this).stop_gradient; }
bool Tensor::is_leaf() const { return variable_of(*this).tape == nullptr; }

void Tensor::set_stop_gradient(bool stop) {
  const Variable& v = variable_of(*this);
  if (v.stop_gradient == stop) return;
  TRI_CHECK(stop || is_floating(dtype()),
            "[tensor] gradients are of floating tensors; this is " + std::string(name_of(dtype())));
  variable_->stop_gradient = stop;
  if (stop) variable_->tape = nullptr;
}

Tensor Tensor::grad() const { return Tensor(variable_of(*this).grad); }

void Tensor::set_grad(const Tensor& gradient) {
  TRI_CHECK(gradient.shape() == shape(),
            "[set_grad] expects shape " + shape().str() + ", got " + gradient.shape().str());
  variable_->grad = gradient.variable();
}

void Tensor::clear_gradient() {
  (void)variable_of(*this);
  variable_->grad = nullptr;
}

void Tensor::backward(const Tensor& gradient, bool retain_graph) const {
  trireme::backward({*this}, {gradient}, retain_graph);
}

Tensor Tensor::detach() const {
  const Variable& v = variable_of(*this);
  if (v.slot->computed() || v.slot->error) {  // another slot with the same memory
    auto copy = std::make_shared<Variable>();
    copy->slot = std::make_shared<Slot>(*v.slot);
    copy->slot->recorder = nullptr;
    copy->slot->value = nullptr;
    copy->name = v.name;
    return Tensor(std::move(copy));
  }
  const no_grad guard;
  return call([](Value* x) { return ops::assign(x); }, *this);
}

Tensor Tensor::clone() const {
  return call([](Value* x) { return ops::assign(x); }, *this);
}

void Tensor::retain_grads() {
  if (is_leaf()) return;
  register_hook(*this, [weak = std::weak_ptr<Variable>(variable_)](const Tensor& g) {
    if (const auto v = weak.lock()) v->grad = g.variable();
    return Tensor();
  });
}

void Tensor::set_value(const Tensor& value) {
  TRI_CHECK(value.shape() == shape() && value.dtype() == dtype(),
            "[set_value] expects " + variable_of(*this).slot->type.str() + ", got " +
                variable_of(value).slot->type.str());
  // A handle of its own, so that later updates of either leave the other alone.
  const Tensor own = value.variable().use_count() > 1 ? value.detach() : value;
  rebind(variable_, own.variable()->slot);
}

void rebind(const std::shared_ptr<Variable>& variable, std::shared_ptr<Slot> slot) {
  // The old value may stand in a graph, and in the history: it gets a variable of its own, by which
  // the flush finds it.
  const std::shared_ptr<Slot>& old = variable->slot;
  if (old && old != slot && old->recorder && old->value && old->value->variable == variable) {
    auto stays = std::make_shared<Variable>();
    stays->slot = old;
    stays->stop_gradient = variable->stop_gradient;
    stays->tape = variable->tape;
    stays->index = variable->index;
    old->value->variable = std::move(stays);
  }
  variable->slot = std::move(slot);
  const Slot& s = *variable->slot;
  if (s.recorder != nullptr && s.value != nullptr) s.value->variable = variable;
}

Tensor Tensor::astype(DType dtype) const {
  return call([dtype](Value* x) { return ops::cast(x, dtype); }, *this);
}

Tensor Tensor::to(const std::string& name) const {
  Device& target = find_device(name);
  if (variable_of(*this).slot->device == &target) return *this;
  const Array array = numpy();
  auto v = std::make_shared<Variable>();
  v->slot = std::make_shared<Slot>();
  v->slot->type = {array.dtype(), array.shape(), Layout::kPlain};
  v->slot->device = &target;
  v->slot->storage = target.upload(array.data(), static_cast<int64_t>(array.bytes()), "a tensor");
  v->name = this->name();
  v->stop_gradient = stop_gradient();
  return Tensor(std::move(v));
}

void synchronize() {
  Recorder::flush_all();
  current_device().synchronize();
}

void seed(uint64_t value) { set_rng_state({value, 0}); }

std::vector<uint64_t> get_rng_state() {
  Recorder::flush_all();
  Tensor state{std::make_shared<Variable>()};
  *state.variable() = current_recorder().generator();
  const Array a = state.numpy();
  return {static_cast<uint64_t>(a.as<int64_t>()[0]), static_cast<uint64_t>(a.as<int64_t>()[1])};
}

void set_rng_state(const std::vector<uint64_t>& state) {
  TRI_CHECK(state.size() == 2, "[set_rng_state] expects what get_rng_state() gave");
  Recorder::flush_all();
  Array a(DType::kInt64, Shape{2});
  for (int i = 0; i < 2; ++i)
    a.as<int64_t>()[i] = static_cast<int64_t>(state[static_cast<size_t>(i)]);
  current_recorder().generator().slot = Tensor(a).variable()->slot;
}

}  // namespace trireme
