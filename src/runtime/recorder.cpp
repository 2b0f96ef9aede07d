// Recording operators and their history, flushing what is pending.
#include "runtime/recorder.h"

#include <algorithm>

#include "base/parallel.h"
#include "ops/cuda_target.h"
#include "ops/pointwise.h"
#include "passes/pass.h"
#include "runtime/amp_mode.h"

namespace trireme {
namespace {

constexpr size_t kPlansKept = 32;

thread_local std::unordered_map<Device*, std::unique_ptr<Recorder>> recorders;
thread_local Device* chosen_device = nullptr;
thread_local uint64_t sequence = 0;

}  // namespace

uint64_t next_sequence() { return ++sequence; }

namespace {

bool needs_gradient(const Value* v) { return v && v->variable && !v->variable->stop_gradient; }

Array host_copy(const Slot& slot) {
  if (slot.device->is_host())
    return {slot.type.dtype, slot.type.shape, slot.storage.data, slot.storage.owner};
  Array array(slot.type.dtype, slot.type.shape);
  slot.device->download(array.data(), slot.storage.data, array.bytes());
  return array;
}

}  // namespace

Tensor device_tensor(Device& device, const Array& array) {
  auto v = std::make_shared<Variable>();
  v->slot = std::make_shared<Slot>();
  v->slot->type = {array.dtype(), array.shape(), Layout::kPlain};
  v->slot->device = &device;
  v->slot->storage = device.upload(array.data(), static_cast<int64_t>(array.bytes()), "a tensor");
  return Tensor(std::move(v));
}

Device& current_device() {
  if (chosen_device == nullptr) chosen_device = &find_device("cpu");
  return *chosen_device;
}
void set_device(const std::string& name) { chosen_device = &find_device(name); }
const std::string& get_device() { return current_device().name(); }
Recorder& current_recorder() { return Recorder::of(current_device()); }

Recorder& Recorder::of(Device& device) {
  auto& recorder = recorders[&device];
  if (recorder == nullptr) recorder = std::make_unique<Recorder>(device);
  return *recorder;
}

void Recorder::flush_all() {
  for (auto& [device, recorder] : recorders) recorder->flush();
}

void Recorder::flush_due() {
  for (auto& [device, recorder] : recorders)
    if (!recorder->tracing_ && (recorder->due_ || recorder->pending() > 50'000)) recorder->flush();
}

Recorder::Recorder(Device& device)
    : device_(device),
      graph_(std::make_unique<Graph>()),
      // What it counts is on the host: folded constants, and on the CPU packed weights.
      cache_(std::make_unique<SharedCache>(find_device("cpu").shared_pool())) {
  Array state(DType::kInt64, Shape{2});
  state.as<int64_t>()[0] = state.as<int64_t>()[1] = 0;
  generator_ = device_tensor(device, state).variable();
}

Recorder::~Recorder() { forget({}); }

// ---- recording

std::vector<Value*> Recorder::add(const Op& op, std::vector<Value*> inputs, Attrs attrs) {
  if (const AmpMode* mode = amp_mode()) amp_cast(*mode, op, inputs);
  const bool taped = grad_enabled() && op.grad != nullptr &&
                     std::any_of(inputs.begin(), inputs.end(), needs_gradient);
  if (!taped) return graph_->add(op, std::move(inputs), std::move(attrs));
  std::vector<Value*> results = graph_->add(op, inputs, attrs);
  record_tape(op, inputs, attrs, results);
  return results;
}

Value* Recorder::add_constant(const Array& array, std::string name) {
  return graph_->add_constant(array, std::move(name));
}

void Recorder::record_tape(const Op& op, const std::vector<Value*>& inputs, const Attrs& attrs,
                           const std::vector<Value*>& results) {
  auto tape = std::make_shared<TapeNode>();
  tape->inputs.reserve(inputs.size());
  tape->outputs.reserve(results.size());
  tape->types.reserve(results.size());
  tape->sequence = next_sequence();
  tape->op = &op;
  tape->attrs = attrs;
  tape->where = current_location();
  for (Value* v : inputs) {
    TapeNode::Input in;
    if (v != nullptr) {
      if (v->variable == nullptr) (void)tensor(v);
      const Variable& var = *v->variable;
      in.slot = var.slot;
      in.needs_gradient = !var.stop_gradient;
      if (in.needs_gradient) {
        in.tape = var.tape;
        in.index = var.index;
        if (in.tape == nullptr) in.leaf = v->variable;
      }
    }
    tape->inputs.push_back(std::move(in));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    (void)tensor(results[i]);
    Variable& var = *results[i]->variable;
    tape->outputs.push_back(var.slot);
    tape->types.push_back(results[i]->type);
    if (!is_floating(results[i]->type.dtype)) continue;
    var.stop_gradient = false;
    var.tape = tape;
    var.index = static_cast<int>(i);
  }
}

Value* Recorder::value(const std::shared_ptr<Variable>& variable) {
  const std::shared_ptr<Slot>& slot = variable->slot;
  if (slot->error) throw Error(*slot->error);
  if (slot->recorder == this) return slot->value;
  if (slot->recorder != nullptr && !slot->computed()) {
    for (auto& [device, recorder] : recorders)
      if (recorder.get() == slot->recorder) recorder->flush();
    TRI_CHECK(slot->computed(),
              "[tensor] a tensor that is pending in another thread must be computed there first "
              "(read it, or call synchronize())");
  }
  TRI_CHECK(slot->device == &device_, "[tensor] expects tensors on " + device_.name() +
                                          ", got one on " + slot->device->name() +
                                          "; move it with to(\"" + device_.name() + "\")");
  Value* v = tracing_ ? graph_->add_constant(host_copy(*slot), variable->name)
                      : graph_->add_input(slot->type, variable->name);
  v->variable = variable;
  if (slot->recorder == nullptr) {  // a slot that another thread's graph reads stays bound there
    slot->recorder = this;
    slot->value = v;
  }
  inputs_.push_back(slot);
  return v;
}

std::unique_ptr<Graph> Recorder::trace(
    const std::vector<Type>& inputs, const std::vector<std::string>& names,
    const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& f) {
  flush();
  const struct Tracing {
    explicit Tracing(Recorder& r) : recorder(r) { recorder.tracing_ = true; }
    ~Tracing() {
      recorder.random_count_ = 0;
      recorder.forget({});
      recorder.tracing_ = false;
    }
    Recorder& recorder;
  } tracing(*this);
  const bool before = grad_enabled();
  set_grad_mode(false);
  graph_->fold_named = false;  // parameters stay what they are
  std::vector<Tensor> given;
  for (size_t i = 0; i < inputs.size(); ++i)
    given.push_back(tensor(graph_->add_input(inputs[i], names[i])));
  std::vector<Tensor> results;
  try {
    results = f(given);
  } catch (...) {
    set_grad_mode(before);
    throw;
  }
  set_grad_mode(before);
  for (const Tensor& t : results) graph_->outputs.push_back(value(t.variable()));
  graph_->drop_unused();
  std::unique_ptr<Graph> program = copy_graph(*graph_);
  return program;
}

Value* Recorder::value(const TapeNode::Input& input) {
  if (input.slot == nullptr) return nullptr;
  if (input.slot->recorder == this) return input.slot->value;
  if (input.leaf) return value(input.leaf);
  auto v = std::make_shared<Variable>();
  v->slot = input.slot;
  v->stop_gradient = !input.needs_gradient;
  v->tape = input.tape;
  v->index = input.index;
  return value(v);
}

Value* Recorder::output_value(const std::shared_ptr<TapeNode>& tape, size_t index) {
  TapeNode::Input as_input{tape->outputs[index], true, tape, static_cast<int>(index), nullptr};
  return value(as_input);
}

Tensor Recorder::tensor(Value* v) {
  if (v->variable == nullptr) {
    auto var = std::make_shared<Variable>();
    var->slot = std::make_shared<Slot>();
    var->slot->type = {v->type.dtype, v->type.shape, Layout::kPlain};
    var->slot->device = &device_;
    var->slot->recorder = this;
    var->slot->value = v;
    v->variable = std::move(var);
  }
  return Tensor(v->variable);
}

Value* Recorder::random_state() { return value(generator_); }

// ---- flushing

// Lets go of the variables that the graph alone holds, latest first: with them goes their history,
// which may have been all that kept earlier values. What is still held is an output.
std::vector<std::shared_ptr<Slot>> Recorder::find_outputs() {
  std::vector<std::shared_ptr<Slot>> kept, slots;
  for (auto it = graph_->nodes.rbegin(); it != graph_->nodes.rend(); ++it) {
    Node& n = **it;
    if (n.op == &kData) {  // inputs_ holds its slot
      if (n.out()->variable.use_count() == 1) n.out()->variable.reset();
      continue;
    }
    slots.clear();
    for (const auto& v : n.outputs) {
      slots.push_back(v->variable ? v->variable->slot : nullptr);
      if (v->variable.use_count() == 1) v->variable.reset();
    }
    for (size_t i = 0; i < slots.size(); ++i) {
      std::shared_ptr<Slot>& slot = slots[i];
      if (slot == nullptr || slot.use_count() == 1) continue;
      graph_->outputs.push_back(n.out(i));
      kept.push_back(slot);
    }
  }
  std::reverse(graph_->outputs.begin(), graph_->outputs.end());
  std::reverse(kept.begin(), kept.end());
  return kept;
}

// An input that nobody can see any more gives its memory to the value that replaces it.
void Recorder::find_donors() {
  graph_->donated.assign(inputs_.size(), false);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    graph_->inputs[i]->variable.reset();
    graph_->donated[i] = inputs_[i].use_count() == 1 && inputs_[i]->storage.owner.use_count() == 1;
  }
}

std::shared_ptr<Replay> Recorder::plan() {
  const int threads = num_threads();
  // Most often it is the last one again: that is seen without a hash.
  const auto fits = [&](const Entry& e) {
    return e.threads == threads && same_graph(*e.key, *graph_);
  };
  if (!plans_.empty() && fits(plans_.front())) return plans_.front().replay;
  const size_t hash = hash_of(*graph_);
  for (auto it = plans_.begin(); it != plans_.end(); ++it) {
    if (it->hash != hash || !fits(*it)) continue;
    plans_.splice(plans_.begin(), plans_, it);
    return plans_.front().replay;
  }
  std::unique_ptr<Graph> key = copy_graph(*graph_), work = copy_graph(*graph_);
  run_passes(*work, PassContext{target_of(device_.name()), cache_.get(), DType::kFloat32}, {});
  auto plan = std::make_shared<const Plan>(std::move(work), cache_.get(), &device_);
  ++stats_.plans;
  plans_.push_front(
      {hash, threads, std::move(key), std::make_shared<Replay>(std::move(plan), device_)});
  if (plans_.size() > kPlansKept) plans_.pop_back();
  return plans_.front().replay;
}

void Recorder::run(Replay& replay, const std::vector<std::shared_ptr<Slot>>& outputs) {
  const Plan& plan = replay.plan();
  if (plan.arena_bytes() > arena_bytes_) {
    arena_ = {};
    arena_bytes_ = 0;
    try {
      arena_ = device_.allocate(plan.arena_bytes(), "the intermediate values of a step");
    } catch (const Error& e) {
      const std::string largest = plan.largest_values();
      if (e.code() != Code::kResourceExhausted || largest.empty()) throw;
      fail(e.code(), e.message() + "; the step's largest values: " + largest, e.location());
    }
    arena_bytes_ = plan.arena_bytes();
  }
  std::vector<Storage> inputs;
  for (const auto& slot : inputs_) inputs.push_back(slot->storage);
  const int64_t launches = replay.launches();
  std::vector<Storage> results = replay.run(inputs, arena_, profiler_);
  stats_.recorded_launches += replay.launches() - launches;
  for (size_t k = 0; k < outputs.size(); ++k) outputs[k]->storage = std::move(results[k]);
}

void Recorder::flush() {
  TRI_CHECK(
      !tracing_,
      "[jit] a value was read while a program is being recorded; forward() must not depend on "
      "the numbers in its tensors");
  due_ = false;
  if (graph_->nodes.empty()) return;
  if (random_count_ > 0) {  // the next flush draws other numbers
    Array one(DType::kInt64, Shape{2});
    one.as<int64_t>()[0] = 0;
    one.as<int64_t>()[1] = 1;
    const BuilderScope scope(*this);
    const bool before = grad_enabled();
    set_grad_mode(false);
    generator_->slot = tensor(ops::add(random_state(), constant(one))).variable()->slot;
    set_grad_mode(before);
    random_count_ = 0;
  }
  std::vector<std::shared_ptr<Slot>> outputs = find_outputs();
  try {
    if (!outputs.empty()) {
      find_donors();
      last_ = plan();
      run(*last_, outputs);
      ++stats_.flushes;
      stats_.planned_peak_bytes = last_->plan().planned_peak_bytes();
      stats_.intermediate_bytes = last_->plan().intermediate_bytes();
      stats_.kernels = last_->plan().kernels();
    }
  } catch (const Error& e) {
    const auto shared = std::make_shared<const Error>(e);
    for (const auto& slot : outputs) slot->error = shared;
    forget(outputs);
    throw;
  }
  forget(outputs);
}

void Recorder::forget(const std::vector<std::shared_ptr<Slot>>& outputs) {
  const auto unbind = [this](Slot& slot) {
    if (slot.recorder == this) {
      slot.recorder = nullptr;
      slot.value = nullptr;
    }
  };
  for (const auto& slot : inputs_) unbind(*slot);
  for (const auto& slot : outputs) unbind(*slot);
  for (const auto& n : graph_->nodes)
    for (const auto& v : n->outputs)
      if (v->variable) unbind(*v->variable->slot);
  inputs_.clear();
  graph_ = std::make_unique<Graph>();
}

}  // namespace trireme
