// Recorder: the graph that a thread's operators on one device add to, and its flush.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "runtime/model_cache.h"
#include "runtime/replay.h"
#include "runtime/variable.h"

namespace trireme {

// Which values are kept by a flush is seen from reference counts: a handle or the history holds
// them. Everything else is the planner's.
class Recorder : public Builder {
 public:
  explicit Recorder(Device& device);
  ~Recorder() override;
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // This thread's recorder of a device.
  static Recorder& of(Device& device);
  // Flushes all of this thread's.
  static void flush_all();
  // Flushes those that flush_soon() was called for.
  static void flush_due();

  std::vector<Value*> add(const Op& op, std::vector<Value*> inputs, Attrs attrs) override;
  Value* add_constant(const Array& array, std::string name) override;

  // The variable in this graph: as the pending value that it is, or as an input.
  Value* value(const std::shared_ptr<Variable>& variable);
  // The same for a value of the history.
  Value* value(const TapeNode::Input& input);
  Value* output_value(const std::shared_ptr<TapeNode>& tape, size_t index);
  // A handle of a value of this graph.
  Tensor tensor(Value* value);

  // What f records on inputs of these types, as a program of its own: tensors that f reads become
  // named constants. Nothing is computed; f must not read values.
  std::unique_ptr<Graph> trace(
      const std::vector<Type>& inputs, const std::vector<std::string>& names,
      const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& f);
  bool tracing() const { return tracing_; }

  // Computes what is pending and kept. On an error every pending value that was kept throws it from
  // then on; donated memory is only overwritten by a run that cannot fail any more.
  void flush();
  // A step has ended: flush at the next operator, read, or clear_gradient(), after handles that the
  // caller is about to let go of are gone.
  void flush_soon() { due_ = true; }

  // The state of this recorder's generator (int64 [2]: seed, flushes) as a value, and the number of
  // the next random operator in this flush.
  Value* random_state();
  int64_t next_random() { return random_count_++; }
  void set_next_random(int64_t next) { random_count_ = next; }
  int64_t random_count() const { return random_count_; }
  Variable& generator() { return *generator_; }

  Device& device() { return device_; }
  size_t pending() const { return graph_->nodes.size(); }

  struct Stats {
    int64_t flushes = 0, plans = 0;
    int64_t planned_peak_bytes = 0, intermediate_bytes = 0;  // of the last plan that ran
    int kernels = 0;
    int64_t recorded_launches = 0;  // flushes that were one launch of a recording
  };
  const Stats& stats() const { return stats_; }
  const Plan* last_plan() const { return last_ ? &last_->plan() : nullptr; }
  void set_profiler(Profiler* profiler) { profiler_ = profiler; }

 private:
  struct Entry {
    size_t hash;
    int threads;
    std::unique_ptr<Graph> key;
    std::shared_ptr<Replay> replay;
  };
  void record_tape(const Op& op, const std::vector<Value*>& inputs, const Attrs& attrs,
                   const std::vector<Value*>& results);
  std::vector<std::shared_ptr<Slot>> find_outputs();
  void find_donors();
  std::shared_ptr<Replay> plan();
  void run(Replay& replay, const std::vector<std::shared_ptr<Slot>>& outputs);
  void forget(const std::vector<std::shared_ptr<Slot>>& outputs);  // starts a new graph

  Device& device_;
  std::unique_ptr<Graph> graph_;
  std::vector<std::shared_ptr<Slot>> inputs_;  // of the graph's inputs
  std::list<Entry> plans_;                     // most recent first
  std::unique_ptr<SharedCache> cache_;
  Storage arena_;
  int64_t arena_bytes_ = 0;
  std::shared_ptr<Variable> generator_;
  int64_t random_count_ = 0;
  bool due_ = false, tracing_ = false;
  Stats stats_;
  std::shared_ptr<Replay> last_;
  Profiler* profiler_ = nullptr;
};

// The recorder of the current device.
Recorder& current_recorder();
Device& current_device();

}  // namespace trireme
