// plan_memory: lifetimes, then offsets in one arena, largest values first into the lowest gap that
// fits.
#include <algorithm>
#include <unordered_set>

#include "passes/pass.h"

namespace trireme {
namespace {

constexpr int64_t kAlign = 64;

int64_t rounded(int64_t bytes) {
  return std::max<int64_t>((bytes + kAlign - 1) / kAlign * kAlign, kAlign);
}

// The donated inputs, each with the last node that reads it or a view of it.
std::unordered_map<const Value*, int> donors_of(const Graph& graph) {
  std::unordered_map<const Value*, int> donors;
  for (size_t k = 0; k < graph.donated.size(); ++k)
    if (graph.donated[k]) donors[graph.inputs[k]] = -1;
  if (donors.empty()) return donors;
  std::unordered_map<const Value*, const Value*> views;
  const auto read = [&](const Value* v, int at) {
    const auto view = views.find(v);
    const auto it = donors.find(view == views.end() ? v : view->second);
    if (it != donors.end()) it->second = std::max(it->second, at);
  };
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& n = *graph.nodes[i];
    for (const Value* v : n.inputs)
      if (v) read(v, static_cast<int>(i));
    if (!n.op->view) continue;
    const auto view = views.find(n.inputs[0]);
    views[n.out()] = view == views.end() ? n.inputs[0] : view->second;
  }
  for (const Value* v : graph.outputs) read(v, static_cast<int>(graph.nodes.size()));
  return donors;
}

}  // namespace

MemoryPlan plan_memory(const Graph& graph, const Target* target) {
  MemoryPlan plan;
  std::unordered_map<const Value*, int> last;
  const int end = static_cast<int>(graph.nodes.size());
  for (int i = 0; i < end; ++i)
    for (const Value* v : graph.nodes[static_cast<size_t>(i)]->inputs)
      if (v) last[v] = i;
  for (const Value* v : graph.outputs) last[v] = end;

  // Views use their input's memory, so that lives as long as they do; results may take over an
  // input that dies there.
  std::unordered_map<const Value*, size_t> slot;  // of roots, into plan.places
  const auto root_of = [&](const Value* v) {
    const auto it = plan.root.find(v);
    return it == plan.root.end() ? nullptr : it->second;
  };
  // The input whose memory output k may take over. What the target names must not be read by the
  // node under another name as well.
  const auto overwritten = [&](const Node& n, size_t k) -> const Value* {
    if (static_cast<int>(k) < n.op->in_place) return k < n.inputs.size() ? n.inputs[k] : nullptr;
    const int at = k == 0 && target != nullptr ? target->overwrites(n) : -1;
    if (at < 0) return nullptr;
    const Value* over = n.inputs[static_cast<size_t>(at)];
    const auto memory = [&](const Value* v) { return root_of(v) ? root_of(v) : v; };
    const auto same = [&](const Value* v) { return v && memory(v) == memory(over); };
    return std::count_if(n.inputs.begin(), n.inputs.end(), same) == 1 ? over : nullptr;
  };
  std::unordered_map<const Value*, int> donors = donors_of(graph);
  for (int i = 0; i < end; ++i) {
    const Node& n = *graph.nodes[static_cast<size_t>(i)];
    if (n.op == &kData || n.op == &kConstant) continue;
    if (n.op->view && n.inputs[0]->node->op == &kData) plan.root[n.inputs[0]] = n.inputs[0];
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      const Value* v = n.out(k);
      const int until = last.contains(v) ? last.at(v) : i;
      const int64_t bytes = rounded(static_cast<int64_t>(v->type.bytes()));
      plan.total_bytes += n.op->view ? 0 : bytes;
      const Value* taken = nullptr;
      const Value* over = overwritten(n, k);
      if (const auto donor = donors.find(over && over->type == v->type ? over : nullptr);
          donor != donors.end() && donor->second <= i) {
        plan.root[v] = over;
        donors.erase(donor);
        continue;
      }
      if (k == 0 && n.op->view) taken = root_of(n.inputs[0]);
      if (const Value* source = over ? root_of(over) : nullptr;
          source && slot.contains(source) && plan.places[slot.at(source)].last <= i &&
          plan.places[slot.at(source)].bytes == bytes && over->type.dtype == v->type.dtype &&
          over->type.layout == v->type.layout)
        taken = source;
      if (taken) {
        if (slot.contains(taken)) {
          MemoryPlan::Place& p = plan.places[slot.at(taken)];
          p.last = std::max(p.last, until);
        }
        plan.root[v] = taken;
        continue;
      }
      plan.root[v] = v;
      slot[v] = plan.places.size();
      plan.places.push_back({v, 0, bytes, i, until});
    }
    // A view lengthens its source's life before the next node asks.
    for (const Value* v : n.inputs)
      if (const Value* r = v ? root_of(v) : nullptr; r && slot.contains(r)) {
        MemoryPlan::Place& p = plan.places[slot.at(r)];
        p.last = std::max(p.last, i);
      }
  }

  for (size_t k = 0; k < graph.outputs.size(); ++k) {
    const Value* r = root_of(graph.outputs[k]);
    if (r == nullptr || !slot.contains(r) || plan.places[slot.at(r)].output >= 0)
      continue;  // a leaf, an input's memory, or a second name: copied or renamed at the end
    plan.places[slot.at(r)].output = static_cast<int>(k);
  }

  std::vector<size_t> by_size;
  for (size_t i = 0; i < plan.places.size(); ++i)
    if (plan.places[i].output < 0) by_size.push_back(i);
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](size_t a, size_t b) { return plan.places[a].bytes > plan.places[b].bytes; });
  std::vector<size_t> placed;  // by offset
  for (size_t i : by_size) {
    MemoryPlan::Place& p = plan.places[i];
    int64_t offset = 0;
    for (size_t k : placed) {
      const MemoryPlan::Place& q = plan.places[k];
      if (q.last < p.first || p.last < q.first) continue;
      if (offset + p.bytes <= q.offset) break;
      offset = std::max(offset, q.offset + q.bytes);
    }
    p.offset = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + p.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](size_t a, size_t b) {
                                     return plan.places[a].offset < plan.places[b].offset;
                                   }),
                  i);
  }
  return plan;
}

}  // namespace trireme
