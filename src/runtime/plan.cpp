// Preparing and running plans.
#include "runtime/plan.h"

#include <algorithm>
#include <cstring>

#include "base/stage_timer.h"
#include "device/caching_allocator.h"
#include "ops/cuda_target.h"
#include "passes/pass.h"

namespace trireme {
namespace {

constexpr size_t kAlign = 256;
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

bool is_leaf(const Node& n) { return n.op == &kData || n.op == &kConstant; }

// A graph inside an attribute runs as a kernel whose scratch memory is its arena.
Kernel subgraph_kernel(const Graph& graph, ModelCache* cache, Device* device) {
  const auto plan = std::make_shared<const Plan>(copy_graph(graph), cache, device);
  return {[plan, inputs = graph.inputs.size(), outputs = graph.outputs.size()](const Launch& l) {
            plan->run({l.in, inputs}, {l.out, outputs}, static_cast<char*>(l.scratch), nullptr,
                      l.stream);
          },
          static_cast<size_t>(plan->arena_bytes())};
}

// A value's memory is never handed to a device that cannot run the operator: that is an error, not
// a detour over the CPU.
[[noreturn]] void no_kernel(const Node& n, const Device* device) {
  const std::string name(n.op->name);
  if (device == nullptr) fail(Code::kUnimplemented, '[' + name + "] has no CPU kernel", n.where);
  fail(Code::kUnimplemented,
       '[' + name + "] has no kernel for " + device->name() + " yet; move its inputs with " +
           "to(\"cpu\") and compute it there, or use set_device(\"cpu\")",
       n.where);
}

}  // namespace

Plan::Plan(std::unique_ptr<Graph> graph, ModelCache* cache, Device* device)
    : graph_(std::move(graph)), device_(device && !device->is_host() ? device : nullptr) {
  const StageTimer timer("prepare");
  if (device_ != nullptr) device_->activate();
  place(*graph_);
  for (const auto& n : graph_->nodes)
    if (!is_leaf(*n)) prepare_step(*n, cache);
  if (device_ != nullptr) upload_constants(cache);
  size_t scratch = 0;
  for (const Step& s : steps_) scratch = std::max(scratch, s.kernel.scratch);
  scratch_offset_ = aligned(static_cast<size_t>(planned_peak_bytes_));
  arena_bytes_ = static_cast<int64_t>(scratch_offset_ + aligned(scratch));
  place_outputs();
}

void Plan::prepare_step(const Node& n, ModelCache* cache) {
  const Source first = n.inputs.empty() ? Source{} : source_of(n.inputs[0]);
  const Source result = source_of(n.out());
  const bool placed = result.kind != Source::kAbsent && result.kind != Source::kConstant;
  if (n.op->view && placed && first.kind == result.kind && first.offset == result.offset)
    return;  // renames memory
  const auto prepare = device_ == nullptr ? n.op->cpu : n.op->cuda;
  if (prepare == nullptr) no_kernel(n, device_);
  Prepare p{n,
            cache,
            device_,
            [cache, d = device_](const Graph& g) { return subgraph_kernel(g, cache, d); },
            {}};
  if (device_ != nullptr)
    p.upload = [d = device_](const Array& a) {
      return d->upload(a.data(), static_cast<int64_t>(a.bytes()), "a packed weight").owner;
    };
  Step step{&n, {}, {}, {}};
  try {
    step.kernel = prepare(p);
  } catch (const Error& e) {
    if (n.where.empty() || !e.location().empty()) throw;
    throw e.at(n.where);
  }
  for (const Value* v : n.inputs) step.in.push_back(source_of(v));
  if (device_ != nullptr)
    for (const size_t i : p.unread) step.in[i] = {};
  for (const auto& v : n.outputs) step.out.push_back(source_of(v.get()));
  steps_.push_back(std::move(step));
}

void Plan::place_outputs() {
  donors_.assign(graph_->outputs.size(), -1);
  std::vector<bool> given(graph_->inputs.size(), false);
  for (size_t k = 0; k < graph_->outputs.size(); ++k) {
    const Source s = source_of(graph_->outputs[k]);
    if (s.kind == Source::kInput && graph_->outputs[k]->node->op != &kData &&
        is_donated(static_cast<size_t>(s.offset)) && !given[static_cast<size_t>(s.offset)]) {
      donors_[k] = static_cast<int>(s.offset);
      given[static_cast<size_t>(s.offset)] = true;
      continue;
    }
    if (s.kind == Source::kOutput && s.offset == static_cast<int64_t>(k)) continue;
    copies_.push_back({s, k, graph_->outputs[k]->type.bytes()});
  }
}

void Plan::place(const Graph& graph) {
  const MemoryPlan plan = plan_memory(graph, &target_of(device_ ? device_->name() : "cpu"));
  planned_peak_bytes_ = plan.arena_bytes;
  intermediate_bytes_ = plan.total_bytes;
  for (size_t i = 0; i < graph.inputs.size(); ++i)
    where_[graph.inputs[i]] = {Source::kInput, static_cast<int64_t>(i), nullptr};
  for (const auto& n : graph.nodes)
    if (const Array* t = n->op == &kConstant ? constant_of(n->out()) : nullptr;
        t && !where_.contains(n->out()))
      where_[n->out()] = {Source::kConstant, 0, const_cast<void*>(t->data())};
  std::unordered_map<const Value*, Source> roots;
  for (const MemoryPlan::Place& p : plan.places) {
    roots[p.value] = p.output >= 0 ? Source{Source::kOutput, p.output, nullptr}
                                   : Source{Source::kArena, p.offset, nullptr};
    if (p.output < 0) large_.push_back({Profiler::label(*p.value->node), p.bytes});
  }
  const size_t kept = std::min<size_t>(large_.size(), 8);
  std::partial_sort(large_.begin(), large_.begin() + static_cast<std::ptrdiff_t>(kept),
                    large_.end(), [](const Large& a, const Large& b) { return a.bytes > b.bytes; });
  large_.resize(kept);
  for (const auto& [value, root] : plan.root)
    where_[value] = roots.contains(root) ? roots.at(root) : where_.at(root);
}

// Those that a step reads or that are results; once for all plans that share the cache.
void Plan::upload_constants(ModelCache* cache) {
  std::unordered_map<const void*, const Array*> constants;
  for (const auto& n : graph_->nodes)
    if (const Array* t = n->op == &kConstant ? constant_of(n->out()) : nullptr)
      constants[t->data()] = t;
  std::unordered_map<const void*, void*> there;
  const auto move = [&](Source& source) {
    if (source.kind != Source::kConstant) return;
    if (const auto it = there.find(source.data); it != there.end()) {
      source.data = it->second;
      return;
    }
    const Array& t = *constants.at(source.data);
    const auto upload = [&] {
      const Storage s = device_->upload(t.data(), static_cast<int64_t>(t.bytes()), "a constant");
      return Array(t.dtype(), t.shape(), s.data, s.owner);
    };
    const Array copy =
        cache == nullptr
            ? upload()
            : cache->get("constant " + std::to_string(reinterpret_cast<uintptr_t>(t.data())), {t},
                         upload, false);
    held_.push_back(copy.owner());
    source.data = there[t.data()] = const_cast<void*>(copy.data());
  };
  for (Step& step : steps_)
    for (Source& source : step.in) move(source);
  for (const Value* v : graph_->outputs) move(where_.at(v));
}

std::string Plan::largest_values(size_t count) const {
  std::string text;
  for (size_t i = 0; i < large_.size() && i < count; ++i)
    text += (i == 0 ? "" : ", ") + large_[i].name + ' ' + bytes_text(large_[i].bytes);
  return text;
}

Plan::Source Plan::source_of(const Value* v) const { return v ? where_.at(v) : Source{}; }

void Plan::run(std::span<void* const> inputs, std::span<void* const> outputs, char* arena,
               Profiler* profiler, void* stream) const {
  const auto pointer = [&](const Source& s) -> void* {
    switch (s.kind) {
      case Source::kAbsent: return nullptr;
      case Source::kArena: return arena + s.offset;
      case Source::kConstant: return s.data;
      case Source::kInput: return inputs[static_cast<size_t>(s.offset)];
      case Source::kOutput: return outputs[static_cast<size_t>(s.offset)];
    }
    return nullptr;
  };
  std::unique_ptr<Timer> timer;
  if (device_ != nullptr) {
    device_->activate();
    if (stream == nullptr) stream = device_->stream();
    if (profiler != nullptr) timer = device_->timer();
  }
  std::vector<void*> pointers;
  for (const Step& step : steps_) {
    pointers.clear();
    for (const Source& s : step.in) pointers.push_back(pointer(s));
    for (const Source& s : step.out) pointers.push_back(pointer(s));
    const Launch launch{pointers.data(), pointers.data() + step.in.size(), arena + scratch_offset_,
                        stream};
    if (profiler == nullptr) {
      step.kernel.run(launch);
      continue;
    }
    if (timer != nullptr) {
      if (&step == steps_.data()) timer->mark();
      device_->begin_range(Profiler::label(*step.node).c_str());
      step.kernel.run(launch);
      device_->end_range();
      timer->mark();
      continue;
    }
    const double start = Profiler::now_us();
    step.kernel.run(launch);
    profiler->add(*step.node, start, Profiler::now_us() - start);
  }
  for (const Copy& c : copies_) {
    if (device_ != nullptr) device_->copy(outputs[c.output], pointer(c.from), c.bytes, stream);
    else std::memcpy(outputs[c.output], pointer(c.from), c.bytes);
  }
  if (timer == nullptr) return;
  const double start = Profiler::now_us();
  const std::vector<double> times = timer->read_us();
  for (size_t i = 0; i + 1 < times.size(); ++i)
    profiler->add(*steps_[i].node, start + times[i], times[i + 1] - times[i]);
}

}  // namespace trireme
