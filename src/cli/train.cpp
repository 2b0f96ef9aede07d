// trireme train and trireme export: a network from a config, and out of a checkpoint.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/model_options.h"
#include "cli/verbs.h"
#include "trireme/jit.h"
#include "trireme/models.h"
#include "trireme/trainer.h"

namespace trireme::cli {
namespace {

struct TrainRequest {
  std::string config;
  train::RunOptions options;
};

struct ExportRequest {
  std::string checkpoint, network, shape = "-1x3x224x224", dtype = "float32";
  std::string format = "pdmodel", output;
};

void export_network(const ExportRequest& r) {
  const std::shared_ptr<nn::Layer> network = models::create(r.network);
  jit::save(*network, r.output, {{shape_from_text(r.shape), dtype_from_name(r.dtype), "x"}},
            {.format = r.format});
}

void export_model(const ExportRequest& r) {
  if (r.checkpoint.empty() == r.network.empty())
    throw CLI::ValidationError("export", "expects a checkpoint, or --network");
  if (r.network.empty()) train::export_checkpoint(r.checkpoint, r.format, r.output);
  else export_network(r);
}

void report(const train::RunResult& result) {
  if (result.interrupted) {
    std::printf("stopped after step %lld; saved in %s; --resume auto goes on\n",
                static_cast<long long>(result.steps), result.checkpoint.c_str());
    return;
  }
  std::printf("steps %lld\n", static_cast<long long>(result.steps));
  for (const auto& [name, v] : result.evaluation) std::printf("%s %.4f\n", name.c_str(), v);
  std::printf("checkpoint %s\n", result.checkpoint.c_str());
  if (!result.exported.empty()) std::printf("exported %s\n", result.exported.c_str());
}

}  // namespace

void add_train(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("train", "Train a network as a YAML file says");
  auto r = std::make_shared<TrainRequest>();
  verb->add_option("config", r->config, "The file (docs/training.md; examples/*.yaml)")->required();
  verb->add_option("--set", r->options.overrides, "key.sub=value: lays a value over the file's")
      ->allow_extra_args(false);
  verb->add_option("--output", r->options.output, "Folder for checkpoints, logs and the export");
  verb->add_option("--resume", r->options.resume,
                   "auto: go on from the newest whole checkpoint in the output; or a folder");
  verb->add_option("--max-steps", r->options.max_steps, "Stop behind this step")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--device", r->options.device, "cpu or gpu:N");
  verb->add_option("--threads", r->options.threads, "Threads of the CPU")
      ->check(CLI::PositiveNumber);
  verb->callback([r] { report(train::run(r->config, r->options)); });
}

void add_export(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("export", "Write a checkpoint as an inference model");
  auto r = std::make_shared<ExportRequest>();
  verb->add_option("checkpoint", r->checkpoint, "A folder checkpoints/step-N");
  verb->add_option(
      "--network", r->network,
      "An untrained network instead, to measure with: resnet50, mobilenet_v3_small, ...");
  verb->add_option("--shape", r->shape, "With --network: its input's, -1 for what may vary")
      ->capture_default_str();
  verb->add_option("--dtype", r->dtype, "With --network: its input's")
      ->check(CLI::IsMember({"float32", "int64"}))
      ->capture_default_str();
  verb->add_option("--format", r->format, "pdmodel, pir or onnx")
      ->check(CLI::IsMember({"pdmodel", "pir", "onnx"}))
      ->capture_default_str();
  verb->add_option("--output", r->output, "Folder for the files")->required();
  verb->callback([r] { export_model(*r); });
}

}  // namespace trireme::cli
