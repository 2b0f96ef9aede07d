// Options that the verbs working on one model share.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "trireme/inference.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}

namespace trireme::cli {

struct ModelOptions {
  std::string model, params, device = "cpu", precision = "float32";
  std::vector<std::string> float32_ops;
  int threads = 0;
  int64_t memory_limit = 0;

  void add_to(CLI::App& verb);
  inference::Config config() const;
};

// --precision, and what it means.
void add_precision(CLI::App& verb, std::string& precision);
inference::Precision precision_of(const std::string& name);
// The name of what the model is computed in; a note on stderr when that is not what was asked for.
std::string announced_precision(const inference::Config& config);

// "NAME=VALUE" pairs matched with the model's inputs, in their order; with one input "NAME=" may be
// left out. Throws kInvalidArgument naming `option` for names that do not exist or inputs without a
// value.
std::vector<std::string> by_input(const std::vector<std::string>& given,
                                  const std::vector<inference::TensorInfo>& inputs,
                                  const std::string& option);

}  // namespace trireme::cli
