// Networks, optimizers and schedules by name.
#include "train/parts.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <unordered_map>

#include "formats/paddle_state.h"
#include "formats/safetensors.h"
#include "train/checkpoint.h"
#include "trireme/models.h"
#include "trireme/models_ocr.h"

namespace trireme::train {
namespace {

namespace lr = optimizer::lr;

nn::GradClip make_clip(const Config& c) {
  if (!c.has("grad_clip")) return {};
  const Config clip = c.at("grad_clip");
  if (clip.has("global_norm")) return nn::ClipGradByGlobalNorm(clip.get("global_norm", 1.0));
  if (clip.has("norm")) return nn::ClipGradByNorm(clip.get("norm", 1.0));
  if (clip.has("value")) return nn::ClipGradByValue(clip.get("value", 1.0));
  c.fail("grad_clip", "expects global_norm, norm or value");
}

lr::LRScheduler main_schedule(const std::string& name, const Config& c, double rate, int64_t total,
                              int64_t epoch) {
  // Numbers of steps may be given in epochs: "step_size: 30" with "by: epoch".
  const int64_t unit = c.get("by", "epoch") == "step" ? 1 : epoch;
  if (name == "cosine" || name == "CosineAnnealingDecay")
    return lr::CosineAnnealingDecay(rate, c.has("T_max") ? c.get("T_max", 1) * unit : total,
                                    c.get("eta_min", 0.0));
  if (name == "step" || name == "StepDecay")
    return lr::StepDecay(rate, c.get("step_size", 30) * unit, c.get("gamma", 0.1));
  if (name == "multi_step" || name == "MultiStepDecay") {
    std::vector<int64_t> milestones;
    for (const double m : c.get("milestones", std::vector<double>{}))
      milestones.push_back(static_cast<int64_t>(m) * unit);
    return lr::MultiStepDecay(rate, milestones, c.get("gamma", 0.1));
  }
  if (name == "polynomial" || name == "PolynomialDecay")
    return lr::PolynomialDecay(rate, c.has("decay_steps") ? c.get("decay_steps", 1) * unit : total,
                               c.get("end_lr", 0.0), c.get("power", 1.0));
  if (name == "exponential" || name == "ExponentialDecay")
    return lr::ExponentialDecay(rate, std::pow(c.get("gamma", 0.9), 1 / static_cast<double>(unit)));
  if (name == "one_cycle" || name == "OneCycleLR")
    return lr::OneCycleLR({.max_learning_rate = rate,
                           .total_steps = total,
                           .divide_factor = c.get("divide_factor", 25.0),
                           .end_learning_rate = c.get("end_learning_rate", rate * 1e-4),
                           .phase_pct = c.get("phase_pct", 0.3)});
  if (name == "noam" || name == "NoamDecay")
    return lr::NoamDecay(c.get("d_model", 512), c.get("warmup_steps", 4000), rate);
  c.fail("name",
         "expects constant, cosine, step, multi_step, polynomial, exponential, one_cycle or "
         "noam, got " +
             name);
}

std::vector<int64_t> default_shape(const std::string& model) {
  if (model == "lenet") return {1, 28, 28};
  if (model.starts_with("resnet_cifar")) return {3, 32, 32};
  if (model == "crnn") return {3, 32, Shape::kUnknown};
  if (model.starts_with("ppocrv4_rec")) return {3, 48, Shape::kUnknown};
  if (model.starts_with("ppocrv4_det")) return {3, Shape::kUnknown, Shape::kUnknown};
  if (model == "program") return {3, 48, Shape::kUnknown};
  return {3, 224, 224};
}

// Values of a .pdparams or safetensors file, or of a checkpoint of ours, for the parameters of the
// same name and shape; the others keep their first values.
void load_pretrained(nn::Layer& layer, const Config& c, const std::string& path) {
  std::vector<NamedArray> values;
  if (std::filesystem::is_directory(path)) {
    for (NamedArray& t : load_checkpoint(path).tensors)
      if (t.first.starts_with("model/")) values.push_back({t.first.substr(6), t.second});
  } else if (path.ends_with(".safetensors")) {
    values = read_safetensors(path).arrays;
  } else {
    for (PaddleTensor& t : read_paddle_state(path).tensors) values.emplace_back(t.key, t.array);
  }
  nn::StateDict fitting;
  const nn::StateDict own = layer.state_dict();
  for (const NamedArray& v : values)
    for (const auto& [name, t] : own)
      if (name == v.first && t.shape() == v.second.shape()) fitting.emplace_back(name, v.second);
  if (fitting.empty()) c.fail("pretrained", "has no value for any parameter of the model");
  layer.set_state_dict(fitting, false);
}

// For each class of `alphabet` the one of the same character in the dictionary that the network
// was trained with; -1 where it has none.
std::vector<int64_t> kept_classes(const std::string& dictionary,
                                  const vision::datasets::Alphabet& alphabet) {
  const auto before = vision::datasets::Alphabet::from_file(dictionary);
  std::unordered_map<std::string, int64_t> ids;
  for (int64_t i = 0; i < before.size(); ++i) ids.emplace(before.character(i), i);
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < alphabet.size(); ++i) {
    const auto it = ids.find(alphabet.character(i));
    kept.push_back(it == ids.end() ? -1 : it->second);
  }
  return kept;
}

}  // namespace

Model make_model(const Config& c, int64_t num_classes, const std::string& base,
                 const vision::datasets::Alphabet* alphabet) {
  const auto found = [&base](std::string path) {
    if (const char* home = std::getenv("HOME"); home != nullptr && path.starts_with("~/"))
      path = home + path.substr(1);
    const std::filesystem::path beside = std::filesystem::path(base) / path;
    return !path.empty() && !std::filesystem::exists(path) && std::filesystem::exists(beside)
               ? beside.string()
               : path;
  };
  Model model;
  const std::string name = c.need("name");
  const int64_t classes = c.get("num_classes", num_classes);
  if (name == "program") {
    models::ProgramOptions options;
    options.params = found(c.get("params", ""));
    options.num_classes = classes;
    if (const std::string before = c.get("dictionary", ""); !before.empty() && alphabet)
      options.kept_classes = kept_classes(found(before), *alphabet);
    model.layer = models::from_program(found(c.need("path")), options);
  } else {
    models::Options options;
    options.num_classes = classes;
    options.scale = c.get("scale", 1.0);
    options.size = c.get("size", "small");
    options.batch_norm = c.get("batch_norm", false);
    options.in_channels = c.get("in_channels", 3);
    options.dropout = c.get("dropout", -1.0);
    model.layer = models::create(name, options);
  }
  for (const double d : c.get("input_shape", std::vector<double>{}))
    model.input_shape.push_back(static_cast<int64_t>(d));
  if (model.input_shape.empty()) model.input_shape = default_shape(name);
  if (const std::string path = c.get("released", ""); !path.empty())
    models::load_released(*model.layer, found(path));
  if (const std::string path = c.get("pretrained", ""); !path.empty())
    load_pretrained(*model.layer, c, found(path));
  return model;
}

lr::LRScheduler make_schedule(const Config& c, int64_t total_steps, int64_t steps_per_epoch) {
  const double rate = c.get("learning_rate", 0.001);
  const std::string name = c.get("name", "constant");
  int64_t warmup = name == "noam" || name == "NoamDecay" ? 0 : c.get("warmup_steps", 0);
  warmup =
      std::max(warmup, static_cast<int64_t>(std::llround(c.get("warmup_epochs", 0.0) *
                                                         static_cast<double>(steps_per_epoch))));
  lr::LRScheduler schedule =
      name == "constant" ? lr::LRScheduler(lr::LambdaDecay(rate, [](int64_t) { return 1.0; }))
                         : main_schedule(name, c, rate, std::max<int64_t>(1, total_steps - warmup),
                                         std::max<int64_t>(1, steps_per_epoch));
  if (warmup > 0)
    schedule = lr::LinearWarmup(schedule, warmup, c.get("warmup_start_lr", 0.0), rate);
  return schedule;
}

std::unique_ptr<optimizer::Optimizer> make_optimizer(const Config& c,
                                                     const optimizer::LearningRate& rate,
                                                     const std::vector<Tensor>& parameters) {
  std::string name = c.get("name", "momentum");
  std::transform(name.begin(), name.end(), name.begin(), [](char ch) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(ch)));
  });
  const double decay = c.get("weight_decay", name == "adamw" ? 0.01 : 0.0);
  const nn::GradClip clip = make_clip(c);
  const bool masters = c.get("multi_precision", false);
  const double beta1 = name.starts_with("ad") || name == "lamb" ? c.get("beta1", 0.9) : 0;
  const double beta2 = name.starts_with("ad") || name == "lamb" ? c.get("beta2", 0.999) : 0;
  // Paddle's option, as a switch: weights decay, biases and norms' vectors do not.
  const bool skip_vectors = c.get("no_decay_vectors", false);
  if (name == "sgd")
    return std::make_unique<optimizer::SGD>(optimizer::SGDOptions{.learning_rate = rate,
                                                                  .parameters = parameters,
                                                                  .weight_decay = decay,
                                                                  .grad_clip = clip,
                                                                  .multi_precision = masters});
  if (name == "momentum")
    return std::make_unique<optimizer::Momentum>(
        optimizer::MomentumOptions{.learning_rate = rate,
                                   .momentum = c.get("momentum", 0.9),
                                   .parameters = parameters,
                                   .use_nesterov = c.get("nesterov", false),
                                   .weight_decay = decay,
                                   .grad_clip = clip,
                                   .multi_precision = masters});
  if (name == "adam")
    return std::make_unique<optimizer::Adam>(
        optimizer::AdamOptions{.learning_rate = rate,
                               .beta1 = beta1,
                               .beta2 = beta2,
                               .epsilon = c.get("epsilon", 1e-8),
                               .parameters = parameters,
                               .weight_decay = decay,
                               .grad_clip = clip,
                               .multi_precision = masters});
  if (name == "adamw") {
    optimizer::AdamWOptions options{.learning_rate = rate,
                                    .beta1 = beta1,
                                    .beta2 = beta2,
                                    .epsilon = c.get("epsilon", 1e-8),
                                    .parameters = parameters,
                                    .weight_decay = decay,
                                    .grad_clip = clip,
                                    .multi_precision = masters};
    if (skip_vectors) {
      std::vector<std::string> vectors;
      for (const Tensor& t : parameters)
        if (t.ndim() <= 1) vectors.push_back(t.name());
      options.apply_decay_param_fun = [vectors](const std::string& p) {
        return std::find(vectors.begin(), vectors.end(), p) == vectors.end();
      };
    }
    return std::make_unique<optimizer::AdamW>(options);
  }
  if (name == "rmsprop")
    return std::make_unique<optimizer::RMSProp>(
        optimizer::RMSPropOptions{.learning_rate = rate,
                                  .rho = c.get("rho", 0.95),
                                  .momentum = c.get("momentum", 0.0),
                                  .parameters = parameters,
                                  .weight_decay = decay,
                                  .grad_clip = clip});
  if (name == "adagrad")
    return std::make_unique<optimizer::Adagrad>(optimizer::AdagradOptions{
        .learning_rate = rate, .parameters = parameters, .weight_decay = decay, .grad_clip = clip});
  if (name == "adamax")
    return std::make_unique<optimizer::Adamax>(optimizer::AdamaxOptions{.learning_rate = rate,
                                                                        .beta1 = beta1,
                                                                        .beta2 = beta2,
                                                                        .parameters = parameters,
                                                                        .weight_decay = decay,
                                                                        .grad_clip = clip});
  if (name == "lamb")
    return std::make_unique<optimizer::Lamb>(optimizer::LambOptions{.learning_rate = rate,
                                                                    .lamb_weight_decay = decay,
                                                                    .beta1 = beta1,
                                                                    .beta2 = beta2,
                                                                    .parameters = parameters,
                                                                    .grad_clip = clip});
  c.fail("name",
         "expects sgd, momentum, adam, adamw, rmsprop, adagrad, adamax or lamb, got " + name);
}

}  // namespace trireme::train
