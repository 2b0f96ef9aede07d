// trireme bench: how long a model takes at a shape, on random inputs.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "cli/model_options.h"
#include "cli/verbs.h"
#include "trireme/device.h"
#include "trireme/error.h"
#include "trireme/tensor.h"
#include "trireme/trainer.h"

namespace trireme::cli {
namespace {

struct Request : ModelOptions {
  std::vector<std::string> shapes, ranges;
  int repeat = 0;
  bool json = false, profile = false;
  train::BenchOptions train;
};

double now_ms() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

struct Range {
  int64_t low = 0, high = 2;
};

Range range_of(const Request& r, const std::string& input) {
  for (const std::string& s : r.ranges) {
    if (!s.starts_with(input + '=')) continue;
    Range range;
    const int fields =
        std::sscanf(s.c_str() + input.size() + 1, "%ld:%ld", &range.low, &range.high);
    TRI_CHECK(fields == 2 && range.low < range.high, "--int-range expects NAME=LOW:HIGH, got " + s);
    return range;
  }
  return {};
}

Array random_tensor(DType dtype, const Shape& shape, Range range, std::mt19937& random) {
  if (is_floating(dtype)) {
    Array t(DType::kFloat32, shape);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < t.numel(); ++i) t.as<float>()[i] = normal(random);
    return t.to(dtype);
  }
  Array t(DType::kInt64, shape);
  std::uniform_int_distribution<int64_t> uniform(range.low, range.high - 1);
  for (int64_t i = 0; i < t.numel(); ++i) t.as<int64_t>()[i] = uniform(random);
  return t.to(dtype);
}

// The shapes of a run that packs the weights before the one that is measured: another length, or
// another batch.
std::vector<Shape> neighbours(const std::vector<Shape>& shapes,
                              const std::vector<inference::TensorInfo>& inputs) {
  std::vector<Shape> other = shapes;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const Shape& declared = inputs[i].shape;
    const int last = declared.rank() - 1;
    if (last > 0 && declared[last] < 0) other[i][last] += 32;
    else if (last >= 0 && declared[0] < 0) other[i][0] += 1;
  }
  return other;
}

int64_t rss_peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

// Milliseconds of a run by its work on the GPU: inputs lie there, results stay there, and the host
// waits only at the end of a window of runs. The median of windows.
double device_ms(inference::Predictor& predictor, const std::vector<Array>& in,
                 const std::string& device, double estimate) {
  constexpr int kWindows = 9;
  set_device(device);
  for (size_t i = 0; i < in.size(); ++i)
    predictor.get_input_handle(predictor.inputs()[i].name)->share_external_data(Tensor(in[i]));
  const int each = std::clamp(static_cast<int>(300 / std::max(estimate, 0.01)), 3, 2000);
  std::vector<double> times;
  for (int w = 0; w <= kWindows; ++w) {
    const double start = now_ms();
    for (int i = 0; i < each; ++i) predictor.run();
    synchronize();
    if (w > 0) times.push_back((now_ms() - start) / each);  // the first one warms up
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

nlohmann::ordered_json measure(const Request& r) {
  inference::Config config = r.config();
  if (r.profile) config.enable_profile();
  const std::string precision = announced_precision(config);
  const double start = now_ms();
  const auto predictor = inference::create_predictor(config);
  const double load_ms = now_ms() - start;
  std::vector<Shape> shapes;
  for (const std::string& s : by_input(r.shapes, predictor->inputs(), "--shape"))
    shapes.push_back(shape_from_text(s));
  std::mt19937 random(1);
  std::vector<Array> in;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const auto& info = predictor->inputs()[i];
    in.push_back(random_tensor(info.dtype, shapes[i], range_of(r, info.name), random));
  }
  predictor->warm_up(neighbours(shapes, predictor->inputs()));
  for (size_t i = 0; i < in.size(); ++i)
    predictor->get_input_handle(predictor->inputs()[i].name)->share_external_data(in[i]);
  const auto timed = [&] {
    const double t = now_ms();
    predictor->run();
    for (const auto& o : predictor->outputs())
      (void)predictor->get_output_handle(o.name)->tensor();  // a GPU's result is fetched here
    return now_ms() - t;
  };
  const double first_run_ms = timed();
  const double plan_ms = predictor->stats().plan_ms;
  double steady = timed();
  for (int i = 0; i < 2; ++i) steady = std::min(steady, timed());
  const int repeat = r.repeat > 0
                         ? r.repeat
                         : std::clamp(static_cast<int>(2000 / std::max(steady, 0.01)), 10, 1000);
  // The peak is that of steady runs: autotuning's buffers are gone by now.
  if (r.device != "cpu") device::cuda::reset_max_memory_allocated(-1);
  std::vector<double> times;
  for (int i = 0; i < repeat; ++i) times.push_back(timed());
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const auto stats = predictor->stats();
  if (r.profile) std::cerr << predictor->profile();
  nlohmann::ordered_json j;
  j["median_ms"] = median;
  j["p99_ms"] = times[std::min(times.size() - 1, times.size() * 99 / 100)];
  j["min_ms"] = times.front();
  double throughput_ms = median;
  if (r.device != "cpu") {
    throughput_ms = device_ms(*predictor, in, r.device, median);
    j["device_ms"] = throughput_ms;
    j["peak_bytes"] = device::cuda::max_memory_allocated(-1);
  }
  j["samples_per_s"] =
      static_cast<double>(shapes.empty() || shapes[0].rank() == 0 ? 1 : shapes[0][0]) * 1e3 /
      throughput_ms;
  j["precision"] = precision;
  j["first_run_ms"] = first_run_ms;
  j["plan_ms"] = plan_ms;
  j["load_ms"] = load_ms;
  j["planned_peak_bytes"] = stats.planned_peak_bytes;
  j["intermediate_bytes"] = stats.intermediate_bytes;
  j["weight_bytes"] = stats.weight_bytes;
  j["rss_peak_bytes"] = rss_peak_bytes();
  j["kernels"] = stats.kernels;
  j["runs"] = repeat;
  return j;
}

nlohmann::ordered_json measure_training(const Request& r) {
  train::BenchOptions o = r.train;
  o.device = r.device;
  o.threads = r.threads;
  o.profile = r.profile;
  if (r.repeat > 0) o.steps = r.repeat;
  if (!r.shapes.empty()) {
    const Shape sample = shape_from_text(r.shapes[0]);
    o.shape.assign(sample.begin(), sample.end());
  }
  const train::BenchResult b = train::bench(o);
  if (r.profile) std::cerr << b.table;
  nlohmann::ordered_json j;
  j["network"] = o.network;
  j["samples_per_s"] = b.samples_per_s;
  j["best_samples_per_s"] = b.best_samples_per_s;
  j["step_ms"] = b.step_ms;
  j["first_step_ms"] = b.first_step_ms;
  if (r.profile) j["host_ms"] = b.host_ms;
  j["planned_peak_bytes"] = b.planned_peak_bytes;
  j["peak_bytes"] = b.peak_bytes;
  j["intermediate_bytes"] = b.intermediate_bytes;
  j["arena_bytes"] = b.arena_bytes;
  j["parameter_bytes"] = b.parameter_bytes;
  j["rss_peak_bytes"] = rss_peak_bytes();
  j["steps"] = b.steps;
  j["kernels"] = b.kernels;
  j["plans"] = b.plans;
  j["loss"] = b.loss;
  return j;
}

void bench(const Request& r) {
  const bool training = !r.train.network.empty();
  const auto need = [](bool met, const char* what) {
    if (!met) throw CLI::ValidationError("bench", what);
  };
  need(training != !r.model.empty(), "expects a model, or --train with a network");
  need(training || !r.shapes.empty(), "expects --shape for the model's inputs");
  need(!training || r.shapes.size() <= 1, "expects one --shape with --train");
  const nlohmann::ordered_json j = training ? measure_training(r) : measure(r);
  if (r.json) {
    std::cout << j.dump() << '\n';
    return;
  }
  for (const auto& [key, value] : j.items()) std::cout << key << ": " << value.dump() << '\n';
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* verb =
      app.add_subcommand("bench", "Time a model, or a training step, on random inputs");
  auto r = std::make_shared<Request>();
  r->add_to(*verb);
  verb->get_option("model")->required(false);
  verb->add_option("--train", r->train.network,
                   "Time training steps of a network instead: lenet, resnet18, resnet50, encoder, "
                   "bert_base, crnn");
  verb->add_option("--batch", r->train.batch, "Samples of a training step")
      ->check(CLI::PositiveNumber);
  verb->add_option("--amp", r->train.amp, "Mixed precision of training")
      ->check(CLI::IsMember({"O0", "O1", "O2"}));
  verb->add_option("--dtype", r->train.dtype, "float16, bfloat16, or tf32 on GPUs, with --amp")
      ->check(CLI::IsMember({"float16", "bfloat16", "tf32"}));
  verb->add_option("--optimizer", r->train.optimizer, "Of training steps")
      ->check(CLI::IsMember({"momentum", "adam", "adamw"}));
  verb->add_option("--steps", r->train.steps, "Timed training steps; 0: about three seconds' worth")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--shape", r->shapes,
                   "NAME=1x3x640x640 for each input; NAME= may be left out when there is one. With "
                   "--train: of one sample, 3x224x224");
  verb->add_option("--int-range", r->ranges, "NAME=LOW:HIGH for integer inputs (HIGH excluded)");
  verb->add_option("--repeat", r->repeat, "Timed runs; 0: about two seconds' worth")
      ->check(CLI::NonNegativeNumber);
  verb->add_flag("--json", r->json, "Print one JSON object");
  verb->add_flag("--profile", r->profile, "Print the time of each node to stderr");
  verb->callback([r] { bench(*r); });
}

}  // namespace trireme::cli
