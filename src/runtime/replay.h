// Replay: runs one plan again and again; on a GPU the second time as one recording of the whole.
#pragma once

#include <memory>
#include <vector>

#include "runtime/plan.h"

namespace trireme {

// A recording (a CUDA graph) holds addresses, so what it reads and writes must stay in its place:
//   - an input whose memory an output takes over (a parameter) comes back at the same address by
//     itself; so does one that nobody changes;
//   - an input that was seen to move (a batch) has a home in the recording: its bytes are copied
//     there on the device before the launch;
//   - an output has a home that is handed out as it is. When the one of the last launch is still
//     held by somebody, this run goes without the recording, and the next recording keeps its home
//     for itself and gives copies away.
// An address that differs from the recorded one otherwise (parameters that were loaded, a larger
// arena) makes the plan run without the recording once, and be recorded anew at the next.
// Of one thread.
class Replay {
 public:
  Replay(std::shared_ptr<const Plan> plan, Device& device);

  const Plan& plan() const { return *plan_; }

  // The outputs, in memory of their own or, where the plan says so, in that of donated inputs.
  std::vector<Storage> run(const std::vector<Storage>& inputs, const Storage& arena,
                           Profiler* profiler);

  bool recorded() const { return recording_ != nullptr; }
  int64_t launches() const { return launches_; }  // of recordings

 private:
  struct Input {
    void* address = nullptr;  // at the last run, or as it is recorded
    bool taken_over = false;  // an output lies in its memory
    bool moves = false;       // then `home` is what the recording reads
    Storage home;
  };
  struct Output {
    bool held = false;  // was still held when the next run came
    Storage home;
    std::weak_ptr<const void> given;  // what was handed out of it last
  };

  std::vector<Storage> run_plain(const std::vector<Storage>& inputs, const Storage& arena,
                                 Profiler* profiler);
  bool fits(const std::vector<Storage>& inputs, const Storage& arena);
  bool same_as_before(const std::vector<Storage>& inputs, const Storage& arena);
  void record(const std::vector<Storage>& inputs, const Storage& arena);
  Storage hand_out(Output& output);
  std::vector<Storage> launch(const std::vector<Storage>& inputs);
  void forget();

  std::shared_ptr<const Plan> plan_;
  Device& device_;
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
  const void* arena_ = nullptr;
  std::unique_ptr<Recording> recording_;
  int runs_ = 0, recordings_ = 0;
  bool gave_up_ = false;
  int64_t launches_ = 0;
};

// Whether plans are recorded at all: not with TRIREME_DISABLE=record.
bool records_plans();

}  // namespace trireme
