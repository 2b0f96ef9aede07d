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
  double best = 0;           // of the best evaluation's first metric; 0 without one
  std::vector<std::pair<std::string, double>> evaluation;  // the last one
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

}  // namespace trireme::train
