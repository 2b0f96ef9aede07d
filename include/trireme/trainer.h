// Training from a file: data, model, loss, optimizer, schedule; checkpoints, logs, export.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace trireme::train {

// What the command line lays over the file; empty: the file's own, or its defaults.
struct RunOptions {
  std::vector<std::string> overrides{};  // "optimizer.lr.learning_rate=0.1"
  std::string output{};                  // folder
  std::string resume{};    // "auto": the newest whole checkpoint of the output, if any
  int64_t max_steps = -1;  // stop (and save) behind this step
  std::string device{};
  int threads = 0;
};

struct RunResult {
  int64_t steps = 0;         // done in all, before a resume too
  bool interrupted = false;  // SIGTERM or SIGINT: everything is saved, --resume auto goes on
  int64_t skipped = 0;       // broken samples that were left out (data.on_error: skip)
  double best = 0;           // of the best evaluation's first metric; 0 without one
  std::vector<std::pair<std::string, double>> evaluation;  // the last one
  std::vector<std::pair<std::string, double>> test;        // of data.test, at the end
  std::string checkpoint, exported;                        // folders
};

// Trains as CONFIG says (docs/training.md has every key). Writes OUTPUT/checkpoints/step-N,
// OUTPUT/log.jsonl (an object a logged step), OUTPUT/tensorboard, OUTPUT/export,
// OUTPUT/config.yaml. While it runs SIGTERM and SIGINT save at the next step and return. Throws
// Error for a config that means nothing, data that is not there, a folder that cannot be written.
RunResult run(const std::string& config_file, const RunOptions& options = {});

// Writes a checkpoint's network as an inference model: format "pdmodel", "pir" or "onnx".
void export_checkpoint(const std::string& checkpoint, const std::string& format,
                       const std::string& output);

// ---- how fast a training step is: data that is made once and stays on the device

struct BenchOptions {
  std::string network;           // lenet, resnet18, resnet50, encoder, bert_base, crnn
  int64_t batch = 0;             // 0: 16
  std::vector<int64_t> shape{};  // of a sample, e.g. {3, 224, 224}, {64}; empty: the network's own
  std::string amp = "O0";        // O1, O2
  std::string dtype = "bfloat16";  // of amp: or float16; tf32 (products of float32) on GPUs alone
  std::string optimizer = "momentum";  // or adam, adamw
  std::string device = "cpu";
  int threads = 0;       // of the CPU; 0: one a core
  int64_t steps = 0;     // timed ones; 0: about three seconds' worth
  bool profile = false;  // fills `table`; makes steps slower
};

struct BenchResult {
  double samples_per_s = 0;  // the median of windows of steps
  double best_samples_per_s = 0, step_ms = 0, first_step_ms = 0;
  double host_ms = 0;              // of a step, what is not spent in kernels: only with profile
  int64_t steps = 0;               // timed
  int64_t plans = 0;               // made until the end: more than a few means that steps differ
  int kernels = 0;                 // of a step's plan
  int64_t planned_peak_bytes = 0;  // of a step's values: intermediate, inputs and results
  int64_t intermediate_bytes = 0;  // intermediate ones, if none shared memory
  int64_t arena_bytes = 0, parameter_bytes = 0;
  int64_t peak_bytes = 0;  // of the device's memory pool, since the process began
  double loss = 0;         // of the last step
  std::string table;
};

// Times whole steps: forward, loss, backward, Momentum(0.01, 0.9), clear_grad(). Throws
// kInvalidArgument for a network or a shape that there is not.
BenchResult bench(const BenchOptions& options);

}  // namespace trireme::train
