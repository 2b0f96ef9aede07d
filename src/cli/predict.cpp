// trireme predict: one run on .npy files.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "base/npy.h"
#include "cli/model_options.h"
#include "cli/verbs.h"
#include "trireme/error.h"

namespace trireme::cli {
namespace {

struct Request : ModelOptions {
  std::vector<std::string> inputs;
  std::string output, trace;
};

void predict(const Request& r) {
  inference::Config config = r.config();
  if (!r.trace.empty()) config.enable_profile(r.trace);
  (void)announced_precision(config);
  const auto predictor = inference::create_predictor(config);
  std::vector<Array> in;
  for (const std::string& file : by_input(r.inputs, predictor->inputs(), "--input"))
    in.push_back(read_npy(file));
  const std::vector<Array> out = predictor->run(in);
  std::filesystem::create_directories(r.output);
  for (size_t k = 0; k < out.size(); ++k) {
    const std::string file =
        (std::filesystem::path(r.output) / (std::to_string(k) + ".npy")).string();
    write_npy(file, out[k]);
    std::cout << k << "  " << predictor->outputs()[k].name << "  " << name_of(out[k].dtype())
              << "  " << out[k].shape().str() << "  " << file << '\n';
  }
}

}  // namespace

void add_predict(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("predict", "Run a model once on .npy files");
  auto r = std::make_shared<Request>();
  r->add_to(*verb);
  verb->add_option("--input", r->inputs,
                   "NAME=FILE.npy for each input; NAME= may be left out when there is one")
      ->required();
  verb->add_option("--output", r->output, "Folder for 0.npy, 1.npy, ...")->required();
  verb->add_option("--trace", r->trace, "Write a Chrome trace of the run's nodes to this file");
  verb->callback([r] { predict(*r); });
}

}  // namespace trireme::cli
