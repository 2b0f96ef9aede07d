// Preparing and running plans.
#include "runtime/plan.h"

#include <algorithm>
#include <cstring>

#include "base/stage_timer.h"
#include "passes/pass.h"

namespace trireme {
namespace {

constexpr size_t kAlign = 64;
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

bool is_leaf(const Node& n) { return n.op == &kData || n.op == &kConstant; }

// A graph inside an attribute runs as a kernel whose scratch memory is its arena.
Kernel subgraph_kernel(const Graph& graph, ModelCache* cache) {
  const auto plan = std::make_shared<const Plan>(copy_graph(graph), cache);
  return {[plan, inputs = graph.inputs.size(), outputs = graph.outputs.size()](const Launch& l) {
            plan->run({l.in, inputs}, {l.out, outputs}, static_cast<char*>(l.scratch));
          },
          static_cast<size_t>(plan->arena_bytes())};
}

}  // namespace

Plan::Plan(std::unique_ptr<Graph> graph, ModelCache* cache) : graph_(std::move(graph)) {
  const StageTimer timer("prepare");
  place(*graph_);
  size_t scratch = 0;
  for (const auto& n : graph_->nodes) {
    if (is_leaf(*n)) continue;
    const Source first = n->inputs.empty() ? Source{} : source_of(n->inputs[0]);
    const Source result = source_of(n->out());
    const bool placed = result.kind != Source::kAbsent && result.kind != Source::kConstant;
    if (n->op->view && placed && first.kind == result.kind && first.offset == result.offset)
      continue;  // renames memory
    if (n->op->cpu == nullptr)
      fail(Code::kUnimplemented, '[' + std::string(n->op->name) + "] has no CPU kernel", n->where);
    Step step{n.get(), {}, {}, {}};
    try {
      step.kernel = n->op->cpu(Prepare{
          *n, cache, nullptr, [cache](const Graph& g) { return subgraph_kernel(g, cache); }});
    } catch (const Error& e) {
      if (n->where.empty() || !e.location().empty()) throw;
      throw e.at(n->where);
    }
    scratch = std::max(scratch, step.kernel.scratch);
    for (const Value* v : n->inputs) step.in.push_back(source_of(v));
    for (const auto& v : n->outputs) step.out.push_back(source_of(v.get()));
    steps_.push_back(std::move(step));
  }
  scratch_offset_ = aligned(static_cast<size_t>(planned_peak_bytes_));
  arena_bytes_ = static_cast<int64_t>(scratch_offset_ + aligned(scratch));
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
  const MemoryPlan plan = plan_memory(graph);
  planned_peak_bytes_ = plan.arena_bytes;
  intermediate_bytes_ = plan.total_bytes;
  for (size_t i = 0; i < graph.inputs.size(); ++i)
    where_[graph.inputs[i]] = {Source::kInput, static_cast<int64_t>(i), nullptr};
  for (const auto& n : graph.nodes)
    if (const Array* t = n->op == &kConstant ? constant_of(n->out()) : nullptr;
        t && !where_.contains(n->out()))
      where_[n->out()] = {Source::kConstant, 0, const_cast<void*>(t->data())};
  std::unordered_map<const Value*, Source> roots;
  for (const MemoryPlan::Place& p : plan.places)
    roots[p.value] = p.output >= 0 ? Source{Source::kOutput, p.output, nullptr}
                                   : Source{Source::kArena, p.offset, nullptr};
  for (const auto& [value, root] : plan.root)
    where_[value] = roots.contains(root) ? roots.at(root) : where_.at(root);
}

Plan::Source Plan::source_of(const Value* v) const { return v ? where_.at(v) : Source{}; }

void Plan::run(std::span<void* const> inputs, std::span<void* const> outputs, char* arena,
               Profiler* profiler) const {
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
  std::vector<void*> pointers;
  for (const Step& step : steps_) {
    pointers.clear();
    for (const Source& s : step.in) pointers.push_back(pointer(s));
    for (const Source& s : step.out) pointers.push_back(pointer(s));
    const Launch launch{pointers.data(), pointers.data() + step.in.size(), arena + scratch_offset_};
    if (profiler == nullptr) {
      step.kernel.run(launch);
      continue;
    }
    const double start = Profiler::now_us();
    step.kernel.run(launch);
    profiler->add(*step.node, start, Profiler::now_us() - start);
  }
  for (const Copy& c : copies_) std::memcpy(outputs[c.output], pointer(c.from), c.bytes);
}

}  // namespace trireme
