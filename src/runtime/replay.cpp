// Recording plans and launching the recordings.
#include "runtime/replay.h"

#include "base/switches.h"
#include "trireme/error.h"

namespace trireme {
namespace {

constexpr int kMostRecordings = 16;  // then the addresses never settle

}  // namespace

bool records_plans() {
  static const bool on = !is_disabled("record");
  return on;
}

Replay::Replay(std::shared_ptr<const Plan> plan, Device& device)
    : plan_(std::move(plan)),
      device_(device),
      inputs_(plan_->graph().inputs.size()),
      outputs_(plan_->graph().outputs.size()),
      gave_up_(device.is_host() || !records_plans()) {
  for (size_t k = 0; k < outputs_.size(); ++k)
    if (const int donor = plan_->donor_of(k); donor >= 0)
      inputs_[static_cast<size_t>(donor)].taken_over = true;
}

std::vector<Storage> Replay::run(const std::vector<Storage>& inputs, const Storage& arena,
                                 Profiler* profiler) {
  if (gave_up_ || profiler != nullptr) return run_plain(inputs, arena, profiler);
  if (recording_ != nullptr && !fits(inputs, arena)) {
    forget();
    (void)same_as_before(inputs, arena);
  } else if (recording_ == nullptr && same_as_before(inputs, arena)) {
    record(inputs, arena);
  }
  if (recording_ != nullptr) return launch(inputs);
  return run_plain(inputs, arena, nullptr);
}

std::vector<Storage> Replay::run_plain(const std::vector<Storage>& inputs, const Storage& arena,
                                       Profiler* profiler) {
  std::vector<Storage> results(outputs_.size());
  std::vector<void*> in, out;
  for (const Storage& s : inputs) in.push_back(s.data);
  for (size_t k = 0; k < results.size(); ++k) {
    const int donor = plan_->donor_of(k);
    results[k] =
        donor >= 0 ? inputs[static_cast<size_t>(donor)]
                   : device_.allocate(static_cast<int64_t>(plan_->graph().outputs[k]->type.bytes()),
                                      "a tensor");
    out.push_back(results[k].data);
  }
  plan_->run(in, out, static_cast<char*>(arena.data), profiler);
  return results;
}

// Whether the recording serves these addresses. What keeps it from that is remembered for the next.
bool Replay::fits(const std::vector<Storage>& inputs, const Storage& arena) {
  bool good = arena_ == arena.data;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs_[i].home.data != nullptr || inputs_[i].address == inputs[i].data) continue;
    inputs_[i].moves = !inputs_[i].taken_over;
    good = false;
  }
  for (Output& o : outputs_) {
    if (o.home.data == nullptr || o.held || o.given.expired()) continue;
    // State that comes back as an input is copied out of the way before it is overwritten.
    bool returns = false;
    for (size_t i = 0; i < inputs.size(); ++i)
      returns = returns || (inputs[i].data == o.home.data && plan_->is_donated(i) &&
                            inputs_[i].home.data != nullptr);
    if (returns) continue;
    o.held = true;
    good = false;
  }
  return good;
}

// Notes where things are now; true when a run came before that had the arena, and the inputs that
// are taken over, in the same places.
bool Replay::same_as_before(const std::vector<Storage>& inputs, const Storage& arena) {
  bool same = runs_++ > 0 && arena_ == arena.data;
  arena_ = arena.data;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs_[i].address != inputs[i].data) {
      if (inputs_[i].taken_over) same = false;
      else if (inputs_[i].address != nullptr) inputs_[i].moves = true;
    }
    inputs_[i].address = inputs[i].data;
  }
  return same;
}

void Replay::record(const std::vector<Storage>& inputs, const Storage& arena) {
  gave_up_ = ++recordings_ > kMostRecordings;
  if (gave_up_) return;
  const auto home = [&](const Value* v, const char* what) {
    return device_.allocate(static_cast<int64_t>(v->type.bytes()), what);
  };
  const Graph& graph = plan_->graph();
  try {
    std::vector<void*> in, out;
    for (size_t i = 0; i < inputs.size(); ++i) {
      Input& input = inputs_[i];
      if (input.moves) input.home = home(graph.inputs[i], "an input of a recorded step");
      in.push_back(input.moves ? input.home.data : inputs[i].data);
    }
    for (size_t k = 0; k < outputs_.size(); ++k) {
      const int donor = plan_->donor_of(k);
      if (donor < 0) outputs_[k].home = home(graph.outputs[k], "an output of a recorded step");
      out.push_back(donor >= 0 ? in[static_cast<size_t>(donor)] : outputs_[k].home.data);
    }
    recording_ = device_.record([plan = plan_, in, out, arena](void* stream) {
      plan->run(in, out, static_cast<char*>(arena.data), nullptr, stream);
    });
  } catch (const Error& e) {  // no memory for the homes: it goes on without
    if (e.code() != Code::kResourceExhausted) throw;
  }
  if (recording_ != nullptr) return;
  gave_up_ = true;
  forget();
}

// As if it were memory of its own, so that whoever holds it alone may donate it.
Storage Replay::hand_out(Output& output) {
  const std::shared_ptr<const void> given(output.home.data, [keep = output.home.owner](auto*) {});
  output.given = given;
  return {output.home.data, given};
}

std::vector<Storage> Replay::launch(const std::vector<Storage>& inputs) {
  const auto& graph = plan_->graph();
  std::vector<Storage> results(outputs_.size());
  for (size_t k = 0; k < results.size(); ++k) {  // first what may fail
    if (const int donor = plan_->donor_of(k); donor >= 0)
      results[k] = inputs[static_cast<size_t>(donor)];
    else if (outputs_[k].held)
      results[k] =
          device_.allocate(static_cast<int64_t>(graph.outputs[k]->type.bytes()), "a tensor");
    else results[k] = hand_out(outputs_[k]);
  }
  device_.activate();
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs_[i].home.data != nullptr)
      device_.copy(inputs_[i].home.data, inputs[i].data, graph.inputs[i]->type.bytes());
  recording_->launch();
  ++launches_;
  for (size_t k = 0; k < results.size(); ++k)
    if (outputs_[k].held && plan_->donor_of(k) < 0)
      device_.copy(results[k].data, outputs_[k].home.data, graph.outputs[k]->type.bytes());
  return results;
}

void Replay::forget() {
  recording_.reset();
  for (Input& i : inputs_) {
    i.home = {};
    i.address = nullptr;
  }
  for (Output& o : outputs_) o.home = {};
  arena_ = nullptr;
  runs_ = 0;
}

}  // namespace trireme
