// The training loop: from a config to a trained, exported, resumable model.
#include "trireme/trainer.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/parallel.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "train/event_file.h"
#include "train/parts.h"
#include "train/task.h"
#include "trireme/amp.h"
#include "trireme/autograd.h"
#include "trireme/jit.h"
#include "trireme/ops.h"

namespace trireme::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

volatile std::sig_atomic_t stop_asked = 0;
extern "C" void ask_to_stop(int) { stop_asked = 1; }

// SIGTERM and SIGINT ask for a stop while this lives; a second one ends the process as usual.
class StopSignals {
 public:
  StopSignals() {
    stop_asked = 0;
    struct sigaction action {};
    action.sa_handler = ask_to_stop;
    action.sa_flags = SA_RESETHAND | SA_RESTART;
    sigaction(SIGTERM, &action, &before_[0]);
    sigaction(SIGINT, &action, &before_[1]);
  }
  ~StopSignals() {
    sigaction(SIGTERM, &before_[0], nullptr);
    sigaction(SIGINT, &before_[1], nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  struct sigaction before_[2]{};
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Settings {
  int64_t seed, epochs, accumulate, log_every, eval_every, save_every;
  int keep_last;
  std::string output, device, export_format;
  bool amp, fp16;
  amp::AutoCastOptions cast;
};

Settings read_settings(const Config& c, const RunOptions& options) {
  Settings s;
  s.seed = c.get("seed", 0);
  s.epochs = c.get("epochs", 1);
  s.accumulate = std::max<int64_t>(1, c.get("accumulate_steps", 1));
  s.log_every = std::max<int64_t>(1, c.get("log_every", 10));
  s.eval_every = c.get("eval_every", 0);  // steps; 0: each epoch
  s.save_every = c.get("save_every", 0);  // the same
  s.keep_last = static_cast<int>(c.get("keep_last", 3));
  s.output = c.get("output", "output/" + c.get("name", "train"));
  s.device = c.get("device", "cpu");
  if (!options.output.empty()) s.output = options.output;
  if (!options.device.empty()) s.device = options.device;
  const int64_t threads = c.get("threads", 0);
  if (options.threads > 0 || threads > 0)
    set_num_threads(options.threads > 0 ? options.threads : static_cast<int>(threads));
  const Config amp = c.maybe("amp");
  const std::string level = amp.get("level", amp ? "O1" : "O0");
  if (level != "O0" && level != "O1" && level != "O2")
    amp.fail("level", "expects O0, O1 or O2, got " + level);
  s.cast.level = level == "O2" ? amp::Level::O2 : amp::Level::O1;
  s.amp = level != "O0";
  s.cast.dtype = dtype_from_name(amp.get("dtype", "bfloat16"));
  s.fp16 = s.amp && s.cast.dtype == DType::kFloat16;
  s.export_format = c.get("export", "pdmodel");
  return s;
}

class Trainer {
 public:
  Trainer(const Config& config, const RunOptions& options, const std::string& base)
      : config_(config),
        options_(options),
        settings_(read_settings(config, options)),
        data_(make_data(config.at("data"), static_cast<uint64_t>(settings_.seed), base,
                        settings_.device != "cpu")) {
    set_device(settings_.device);
    seed(static_cast<uint64_t>(settings_.seed));
    model_ = make_model(config.at("model"), data_.num_classes, base, data_.alphabet.get());
    task_ = make_task(config, data_);
    steps_per_epoch_ = std::max<int64_t>(1, data_.train_loader->size() / settings_.accumulate);
    total_steps_ = steps_per_epoch_ * settings_.epochs;
    schedule_ = make_schedule(config.maybe("lr"), total_steps_, steps_per_epoch_);
    if (settings_.amp && settings_.cast.level == amp::Level::O2)
      amp::decorate(*model_.layer, {.level = settings_.cast.level, .dtype = settings_.cast.dtype});
    optimizer_ = make_optimizer(config.maybe("optimizer"), schedule_, model_.layer->parameters());
    if (settings_.fp16) scaler_.emplace();
    config.check_unused();
    if (options.max_steps >= 0) total_steps_ = std::min(total_steps_, options.max_steps);
  }

  RunResult run() {
    fs::create_directories(settings_.output);
    std::ofstream(settings_.output + "/config.yaml") << config_.text();
    resume();
    log_.open(settings_.output + "/log.jsonl", std::ios::app);
    if (!log_)
      fail(Code::kInvalidArgument, "[train] cannot write the file",
           settings_.output + "/log.jsonl");
    events_.emplace(settings_.output + "/tensorboard");
    Progress progress(total_steps_);
    progress_ = &progress;
    progress.line(std::to_string(model_.layer->num_parameters()) + " parameters, " +
                  std::to_string(data_.train->size()) + " samples, " +
                  std::to_string(total_steps_) + " steps");
    const StopSignals signals;
    model_.layer->train();
    window_start_ = now();
    while (step_ < total_steps_ && !stop_asked) one_step();
    result_.interrupted = stop_asked != 0;
    if (saved_step_ != step_ || !fs::exists(result_.checkpoint)) save();
    if (!result_.interrupted) {
      if (data_.eval && evaluated_step_ != step_) evaluate();
      if (data_.test) test();
      export_model();
    }
    report_skips();
    progress_ = nullptr;
    result_.steps = step_;
    return result_;
  }

 private:
  static std::vector<Tensor> tensors(const io::Batch& batch, Pixels& pixels) {
    std::vector<Tensor> all;
    for (const Array& a : batch) all.emplace_back(a);
    if (pixels.left()) all.at(0) = normalize_pixels(all[0], pixels);
    return all;
  }

  // One update of the parameters, from `accumulate` batches.
  void one_step() {
    for (int64_t k = 0; k < settings_.accumulate; ++k) {
      io::Batch batch;
      if (!data_.train_loader->next(batch) && !data_.train_loader->next(batch))
        fail(Code::kInvalidArgument, "[train] the data gives no batch");
      backward(tensors(batch, data_.train_pixels));
      samples_ += batch.at(0).shape()[0];
    }
    if (scaler_) {
      scaler_->step(*optimizer_);
      scaler_->update();
    } else {
      optimizer_->step();
    }
    optimizer_->clear_grad();
    schedule_.step();
    ++step_;
    const bool epoch_ended = step_ % steps_per_epoch_ == 0;
    if (step_ % settings_.log_every == 0 || step_ == total_steps_) log();
    if (data_.eval && (settings_.eval_every > 0 ? step_ % settings_.eval_every == 0 : epoch_ended))
      evaluate();
    const bool due = settings_.save_every > 0 ? step_ % settings_.save_every == 0 : epoch_ended;
    if (due && saved_step_ != step_) save();  // the best one was saved when it was evaluated
  }

  void backward(const std::vector<Tensor>& batch) {
    Tensor loss;
    {
      std::optional<amp::auto_cast> guard;
      if (settings_.amp) guard.emplace(settings_.cast);
      loss = task_->loss(task_->predict(*model_.layer, batch), batch);
    }
    // The sum stays on the device: it is read when it is logged, not at each step.
    const Tensor seen = loss.detach().astype(DType::kFloat32);
    loss_sum_ = loss_sum_.defined() ? loss_sum_ + seen : seen;
    ++loss_count_;
    if (settings_.accumulate > 1) loss = loss / static_cast<double>(settings_.accumulate);
    (scaler_ ? scaler_->scale(loss) : loss).backward();
  }

  int64_t epoch() const { return (step_ + steps_per_epoch_ - 1) / steps_per_epoch_; }

  void log() {
    if (!loss_sum_.defined()) return;
    const double loss = loss_sum_.item() / static_cast<double>(loss_count_);
    const double t = now();
    Scalars s{{"loss", loss},
              {"lr", optimizer_->get_lr()},
              {"samples_per_s", static_cast<double>(samples_) / std::max(1e-9, t - window_start_)}};
    write(s, "train/");
    progress_->update(step_, epoch(), s);
    loss_sum_ = {};
    loss_count_ = 0;
    samples_ = 0;
    window_start_ = now();
    if (!std::isfinite(loss))
      progress_->line("step " + std::to_string(step_) + ": the loss is " + std::to_string(loss));
  }

  void write(const Scalars& scalars, const std::string& prefix) {
    Json line{{"step", step_}, {"epoch", epoch()}};
    Scalars named;
    for (const auto& [name, v] : scalars) {
      line[name] = std::isfinite(v) ? Json(v) : Json(nullptr);
      named.emplace_back(prefix + name, v);
    }
    log_ << line.dump() << '\n' << std::flush;
    events_->add(step_, named);
  }

  Scalars judge(io::DataLoader& loader, Pixels& pixels, const std::string& part) {
    model_.layer->eval();
    task_->reset();
    {
      const no_grad guard;
      io::Batch batch;
      while (loader.next(batch)) {
        std::optional<amp::auto_cast> cast;
        if (settings_.amp) cast.emplace(settings_.cast);
        task_->update(task_->predict(*model_.layer, tensors(batch, pixels)).numpy(), batch);
      }
    }
    model_.layer->train();
    const Scalars metrics = task_->accumulate();
    std::string text = "step " + std::to_string(step_) + ' ' + part + ':';
    for (const auto& [name, v] : metrics) text += ' ' + name + ' ' + std::to_string(v);
    progress_->line(text);
    return metrics;
  }

  // Once, of the weights that are exported: nothing is chosen by it.
  void test() {
    result_.test = judge(*data_.test_loader, data_.test_pixels, "test");
    Scalars named;
    for (const auto& [name, v] : result_.test) named.emplace_back("test_" + name, v);
    write(named, "test/");
  }

  void evaluate() {
    const double start = now();
    const Scalars metrics = judge(*data_.eval_loader, data_.eval_pixels, "eval");
    result_.evaluation = metrics;
    evaluated_step_ = step_;
    write(metrics, "eval/");
    if (!metrics.empty() && (!have_best_ || metrics[0].second > result_.best)) {
      have_best_ = true;
      result_.best = metrics[0].second;
      save();
      mark_best(settings_.output + "/checkpoints", step_, result_.best);
    }
    window_start_ += now() - start;
  }

  // ---- checkpoints

  // The optimizer names its state after the parameters' own names, which count the layers that the
  // process made; a checkpoint has the network's names, which are the same in every run.
  std::string renamed(const std::string& name, bool to_network) const {
    std::string best_from, best_to;
    for (const auto& [path, t] : model_.layer->state_dict()) {
      const std::string& from = to_network ? t.name() : path;
      if (from.size() <= best_from.size() || !name.starts_with(from)) continue;
      if (name.size() > from.size() && name[from.size()] != '_') continue;
      best_from = from;
      best_to = to_network ? path : t.name();
    }
    return best_to + name.substr(best_from.size());
  }

  void save() {
    const double start = now();
    std::vector<NamedArray> tensors;
    for (const auto& [name, t] : model_.layer->state_dict())
      tensors.push_back({"model/" + name, t.numpy()});
    const optimizer::State state = optimizer_->state_dict();
    for (const auto& [name, t] : state.tensors)
      tensors.push_back({"optimizer/" + renamed(name, true), t.numpy()});
    for (const auto& [name, t] : state.master_weights)
      tensors.push_back({"master/" + renamed(name, true), t.numpy()});
    if (loss_sum_.defined()) tensors.push_back({"trainer/loss_sum", loss_sum_.numpy()});
    Json json;
    json["step"] = step_;
    json["epoch"] = epoch();
    const io::DataLoader::State loader = data_.train_loader->state();
    json["loader"] = {
        {"epoch", loader.epoch}, {"batch", loader.batch}, {"skipped", loader.skipped}};
    for (const auto& [name, v] : schedule_.state_dict()) json["lr_scheduler"][name] = v;
    if (scaler_)
      for (const auto& [name, v] : scaler_->state_dict()) json["scaler"][name] = v;
    json["rng"] = get_rng_state();
    json["loss_count"] = loss_count_;
    if (have_best_) json["best"] = result_.best;
    json["num_classes"] = data_.num_classes;
    json["classes"] = data_.classes;
    json["config"] = config_.text();
    result_.checkpoint = save_checkpoint(settings_.output + "/checkpoints", step_, tensors,
                                         json.dump(), {.keep_last = settings_.keep_last})
                             .path;
    saved_step_ = step_;
    window_start_ += now() - start;
  }

  void resume() {
    if (options_.resume.empty()) return;
    std::string path = options_.resume;
    if (path == "auto") {
      std::vector<std::string> skipped;
      const auto latest = latest_checkpoint(settings_.output + "/checkpoints", &skipped);
      for (const std::string& why : skipped) std::fprintf(stderr, "trireme: %s\n", why.c_str());
      if (!latest) return;
      path = latest->path;
    }
    const CheckpointContent content = load_checkpoint(path);
    const Json json = Json::parse(content.state_json);
    nn::StateDict model;
    optimizer::State state;
    for (const NamedArray& t : content.tensors) {
      if (t.first.starts_with("model/")) model.emplace_back(t.first.substr(6), Tensor(t.second));
      if (t.first.starts_with("optimizer/"))
        state.tensors.emplace_back(renamed(t.first.substr(10), false), Tensor(t.second));
      if (t.first.starts_with("master/"))
        state.master_weights.emplace_back(renamed(t.first.substr(7), false), Tensor(t.second));
      if (t.first == "trainer/loss_sum") loss_sum_ = Tensor(t.second);
    }
    model_.layer->set_state_dict(model);
    optimizer::lr::State rates;
    for (const auto& [name, v] : json.at("lr_scheduler").items())
      rates.emplace_back(name, v.get<double>());
    schedule_.set_state_dict(rates);
    optimizer_->set_state_dict(state);
    if (scaler_ && json.contains("scaler")) {
      std::vector<std::pair<std::string, double>> scaler;
      for (const auto& [name, v] : json.at("scaler").items())
        scaler.emplace_back(name, v.get<double>());
      scaler_->load_state_dict(scaler);
    }
    const Json& loader = json.at("loader");
    data_.train_loader->set_state({loader.at("epoch"), loader.at("batch"), loader.at("skipped")});
    set_rng_state(json.at("rng").get<std::vector<uint64_t>>());
    loss_count_ = json.at("loss_count");
    if (json.contains("best")) {
      have_best_ = true;
      result_.best = json.at("best");
    }
    step_ = saved_step_ = content.step;
    result_.checkpoint = path;
    std::fprintf(stderr, "resumed from %s\n", path.c_str());
  }

  void export_model();

  void report_skips() {
    const int64_t skipped = result_.skipped = data_.train_loader->skipped();
    if (skipped == 0) return;
    progress_->line(std::to_string(skipped) + " samples were skipped, the first because:");
    for (const std::string& why : data_.train_loader->skips()) progress_->line("  " + why);
  }

  const Config config_;
  const RunOptions options_;
  const Settings settings_;
  Data data_;
  Model model_;
  std::unique_ptr<Task> task_;
  optimizer::lr::LRScheduler schedule_;
  std::unique_ptr<optimizer::Optimizer> optimizer_;
  std::optional<amp::GradScaler> scaler_;
  int64_t steps_per_epoch_ = 1, total_steps_ = 0, step_ = 0, saved_step_ = -1, evaluated_step_ = -1;
  Tensor loss_sum_;
  int64_t loss_count_ = 0, samples_ = 0;
  double window_start_ = 0;
  bool have_best_ = false;
  std::ofstream log_;
  std::optional<EventFile> events_;
  Progress* progress_ = nullptr;
  RunResult result_;
};

void write_model(Model& model, const std::string& format, const std::string& output) {
  std::vector<int64_t> shape{Shape::kUnknown};
  shape.insert(shape.end(), model.input_shape.begin(), model.input_shape.end());
  model.layer->eval();
  jit::save(*model.layer, output, {{Shape(shape), DType::kFloat32, "x"}}, {.format = format});
}

void Trainer::export_model() {
  if (settings_.export_format == "none") return;
  result_.exported = settings_.output + "/export";
  write_model(model_, settings_.export_format, result_.exported);
  if (!data_.classes.empty()) {
    std::ofstream labels(result_.exported + "/labels.txt");
    for (const std::string& name : data_.classes) labels << name << '\n';
  }
  if (data_.alphabet) {
    std::ofstream characters(result_.exported + "/dict.txt");
    for (int64_t i = 1; i < data_.alphabet->size(); ++i)
      characters << data_.alphabet->character(i) << '\n';
  }
}

}  // namespace

RunResult run(const std::string& config_file, const RunOptions& options) {
  Config config = Config::from_file(config_file);
  for (const std::string& o : options.overrides) config.set(o);
  return Trainer(config, options, fs::path(config_file).parent_path().string()).run();
}

void export_checkpoint(const std::string& checkpoint, const std::string& format,
                       const std::string& output) {
  const CheckpointContent content = load_checkpoint(checkpoint);
  const Json json = Json::parse(content.state_json);
  Config config = Config::from_text(json.at("config").get<std::string>(), checkpoint);
  for (const char* first_weights : {"model.pretrained=null", "model.released=null"})
    config.set(first_weights);  // need not be there any more
  Model model = make_model(config.at("model"), json.at("num_classes").get<int64_t>(), ".");
  nn::StateDict state;
  for (const NamedArray& t : content.tensors)
    if (t.first.starts_with("model/")) state.emplace_back(t.first.substr(6), Tensor(t.second));
  model.layer->set_state_dict(state);
  write_model(model, format, output);
}

}  // namespace trireme::train
