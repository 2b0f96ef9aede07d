// Shared options.
#include "cli/model_options.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "trireme/error.h"

namespace trireme::cli {

void ModelOptions::add_to(CLI::App& verb) {
  verb.add_option("model", model, "A folder or a program file (inference.pdmodel, inference.json)")
      ->required();
  verb.add_option("--params", params, "The parameters' file, when it is not beside the program");
  verb.add_option("--device", device, "Where to run: cpu, gpu:0")->capture_default_str();
  verb.add_option("--threads", threads, "CPU threads; 0: one a core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_precision(verb, precision);
  verb.add_option("--float32-ops", float32_ops,
                  "Types of operators that stay float32, by commas: conv2d,depthwise_conv2d")
      ->delimiter(',');
  verb.add_option("--memory-limit", memory_limit,
                  "Hard cap in MiB on weights and working memory; 0: none");
}

inference::Config ModelOptions::config() const {
  inference::Config c(model, params);
  c.set_device(device);
  c.set_cpu_math_library_num_threads(threads);
  c.set_memory_limit_mib(memory_limit);
  c.set_precision(precision_of(precision));
  c.exp_disable_mixed_precision_ops(float32_ops);
  return c;
}

void add_precision(CLI::App& verb, std::string& precision) {
  verb.add_option("--precision", precision,
                  "float32; bfloat16, where the CPU is faster in it; on a GPU also float16")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
      ->capture_default_str();
}

inference::Precision precision_of(const std::string& name) {
  return name == "bfloat16"  ? inference::Precision::kBFloat16
         : name == "float16" ? inference::Precision::kFloat16
                             : inference::Precision::kFloat32;
}

std::string announced_precision(const inference::Config& config) {
  const inference::Precision p = inference::computed_precision(config);
  const bool half = inference::half_products(config);
  if (p != config.precision())
    std::cerr << "trireme: bfloat16 would be slower than float32 on this processor (it has no "
                 "AMX): computing in float32"
              << (half ? ", products of weights in float16\n" : "\n");
  if (half) return "float32, products in float16";
  return p == inference::Precision::kBFloat16  ? "bfloat16"
         : p == inference::Precision::kFloat16 ? "float16"
                                               : "float32";
}

std::vector<std::string> by_input(const std::vector<std::string>& given,
                                  const std::vector<inference::TensorInfo>& inputs,
                                  const std::string& option) {
  std::vector<std::string> values(inputs.size());
  std::vector<bool> set(inputs.size(), false);
  for (const std::string& pair : given) {
    size_t at = inputs.size();
    std::string value = pair;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!pair.starts_with(inputs[i].name + '=')) continue;
      at = i;
      value = pair.substr(inputs[i].name.size() + 1);
    }
    if (at == inputs.size() && inputs.size() == 1 && pair.find('=') == std::string::npos) at = 0;
    std::string names;
    for (const auto& i : inputs) names.append(names.empty() ? "" : ", ").append(i.name);
    TRI_CHECK(at < inputs.size(),
              option + ' ' + pair + " names no input of the model; it has: " + names);
    TRI_CHECK(!set[at], option + " is given twice for input '" + inputs[at].name + '\'');
    values[at] = value;
    set[at] = true;
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    TRI_CHECK(set[i],
              option + " is missing for input '" + inputs[i].name + "' " + inputs[i].shape.str());
  return values;
}

}  // namespace trireme::cli
