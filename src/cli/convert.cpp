// trireme convert: a model into another format, or a training file of Paddle's from or to
// safetensors.
#include <CLI/CLI.hpp>

#include "cli/verbs.h"
#include "trireme/convert.h"

namespace trireme::cli {
namespace {

struct Request {
  std::string model, format, output;
  ConvertOptions options;
};

}  // namespace

void add_convert(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("convert", "Write a model in another format");
  auto r = std::make_shared<Request>();
  verb->add_option("model", r->model,
                   "A model's folder or program file; or a .pdparams, .pdopt or .safetensors file")
      ->required();
  verb->add_option("--params", r->options.params,
                   "The parameters' file, when it is not beside the program");
  verb->add_option("--format", r->format,
                   "pdmodel, pir or onnx; of training files pdparams, pdopt or safetensors")
      ->check(CLI::IsMember({"pdmodel", "pir", "onnx", "pdparams", "pdopt", "safetensors"}))
      ->required();
  verb->add_option("--output", r->output, "Folder for the files")->required();
  verb->add_option("--shape", r->options.shapes,
                   "NAME=-1x3x48x192: what an input's shape is declared as, -1 unknown");
  verb->callback([r] { convert(r->model, r->format, r->output, r->options); });
}

}  // namespace trireme::cli
