// How fast a training step is, on data that stays on the device.
#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <random>

#include "base/parallel.h"
#include "device/device.h"
#include "device/precision.h"
#include "runtime/recorder.h"
#include "trireme/amp.h"
#include "trireme/error.h"
#include "trireme/models.h"
#include "trireme/ops.h"
#include "trireme/optimizer.h"
#include "trireme/trainer.h"

namespace trireme::train {
namespace {

namespace F = nn::functional;

constexpr int kWindows = 7;
constexpr int64_t kTextLength = 10;  // of the labels of lines

struct Net {
  std::vector<int64_t> shape;  // of a sample
  int64_t classes = 0;         // 0: each place's word is to be told
  int64_t vocabulary = 0;      // 0: pictures
  bool lines = false;
};
const std::map<std::string, Net>& nets() {
  static const std::map<std::string, Net> all = {
      {"lenet", {{1, 28, 28}, 10}},        {"resnet18", {{3, 224, 224}, 1000}},
      {"resnet50", {{3, 224, 224}, 1000}}, {"encoder", {{64}, 2, 5000}},
      {"bert_base", {{128}, 0, 30522}},    {"crnn", {{3, 32, 160}, 6625, 0, true}},
  };
  return all;
}

double now_ms() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

Tensor ids(const std::vector<int64_t>& shape, int64_t low, int64_t high, std::mt19937& random) {
  Array a(DType::kInt64, Shape(shape));
  std::uniform_int_distribution<int64_t> uniform(low, high - 1);
  for (int64_t i = 0; i < a.numel(); ++i) a.as<int64_t>()[i] = uniform(random);
  return Tensor(a);
}

Tensor pictures(const std::vector<int64_t>& shape, std::mt19937& random) {
  Array a(DType::kFloat32, Shape(shape));
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < a.numel(); ++i) a.as<float>()[i] = normal(random);
  return Tensor(a);
}

class Bench {
 public:
  explicit Bench(const BenchOptions& options) : options_(options), net_(net_of(options)) {
    batch_ = options.batch > 0 ? options.batch : 16;
    std::vector<int64_t> shape{batch_};
    const std::vector<int64_t>& sample = options.shape.empty() ? net_.shape : options.shape;
    TRI_CHECK(sample.size() == net_.shape.size(),
              "[bench] " + options.network + " expects a --shape like " + Shape(net_.shape).str() +
                  ", got " + Shape(sample).str());
    shape.insert(shape.end(), sample.begin(), sample.end());
    if (options.threads > 0) set_num_threads(options.threads);
    set_device(options.device);
    seed(1);
    set_precision();
    std::mt19937 random(1);
    x_ = net_.vocabulary > 0 ? ids(shape, 0, net_.vocabulary, random) : pictures(shape, random);
    label_ = net_.lines          ? ids({batch_, kTextLength}, 1, net_.classes, random)
             : net_.classes == 0 ? ids(shape, 0, net_.vocabulary, random)
                                 : ids({batch_}, 0, net_.classes, random);
    make_model(sample);
  }

  BenchResult run() {
    BenchResult r;
    Recorder& recorder = current_recorder();
    const int64_t plans = recorder.stats().plans;  // of earlier ones in this process
    double start = now_ms();
    step();
    synchronize();
    r.first_step_ms = now_ms() - start;
    for (int i = 0; i < 2; ++i) step();
    synchronize();
    start = now_ms();
    step();
    synchronize();
    const double estimate = std::max(0.01, now_ms() - start);
    const int64_t wanted =
        options_.steps > 0 ? options_.steps
                           : std::clamp<int64_t>(static_cast<int64_t>(3000 / estimate), 7, 20'000);
    const int64_t windows = std::min<int64_t>(kWindows, wanted);
    const int64_t each = (wanted + windows - 1) / windows;
    Profiler profiler;
    if (options_.profile) recorder.set_profiler(&profiler);
    recorder.device().pool().reset_peak();  // of steady steps: autotuning's buffers are gone
    std::vector<double> times;
    for (int64_t w = 0; w < windows; ++w) {
      start = now_ms();
      for (int64_t i = 0; i < each; ++i) step();
      synchronize();
      times.push_back((now_ms() - start) / static_cast<double>(each));
    }
    recorder.set_profiler(nullptr);
    r.steps = each * windows;
    if (options_.profile) {
      double sum = 0;
      for (const double t : times) sum += t;
      r.host_ms =
          sum / static_cast<double>(windows) - profiler.total_ms() / static_cast<double>(r.steps);
      r.table = profiler.table();
    }
    std::sort(times.begin(), times.end());
    r.step_ms = times[times.size() / 2];
    r.samples_per_s = static_cast<double>(batch_) * 1e3 / r.step_ms;
    r.best_samples_per_s = static_cast<double>(batch_) * 1e3 / times.front();
    describe(recorder, r);
    r.plans -= plans;
    r.loss = loss_.item();  // last: it is a plan of its own
    return r;
  }

 private:
  static const Net& net_of(const BenchOptions& options) {
    const auto it = nets().find(options.network);
    if (it != nets().end()) return it->second;
    std::string known;
    for (const auto& [name, net] : nets()) known += (known.empty() ? "" : ", ") + name;
    fail(Code::kInvalidArgument,
         "[bench] --train expects one of " + known + ", got " + options.network);
  }

  void set_precision() {
    if (options_.amp == "O0") return;
    TRI_CHECK(options_.amp == "O1" || options_.amp == "O2",
              "[bench] amp expects O0, O1 or O2, got " + options_.amp);
    if (options_.dtype == "tf32") {
      if (options_.device == "cpu")
        fail(Code::kUnavailable,
             "[bench] tf32 is a precision of GPUs; cpu has float32, bfloat16, float16");
      for (const Products p : {Products::kConvolutions, Products::kMatrices}) allow_tf32(p, true);
      return;
    }
    cast_.emplace();
    cast_->level = options_.amp == "O2" ? amp::Level::O2 : amp::Level::O1;
    cast_->dtype = dtype_from_name(options_.dtype);
    if (cast_->dtype == DType::kFloat16) scaler_.emplace();
  }

  void make_model(const std::vector<int64_t>& sample) {
    if (options_.network == "bert_base") {  // positions for longer texts, too
      models::BertOptions bert;
      bert.max_position_embeddings = std::max<int64_t>(512, sample[0]);
      bert.dropout = 0;
      model_ = std::make_shared<models::BertForMaskedLM>(bert);
    } else {
      models::Options o;
      o.num_classes = net_.classes;
      model_ = models::create(options_.network, o);
    }
    model_->train();
    optimizer_ = make_optimizer();
    if (cast_ && cast_->level == amp::Level::O2)
      amp::decorate(*model_, *optimizer_, {.level = cast_->level, .dtype = cast_->dtype});
  }

  std::unique_ptr<optimizer::Optimizer> make_optimizer() const {
    using namespace optimizer;  // NOLINT: three of its classes
    const bool wide = cast_ && cast_->level == amp::Level::O2;
    const std::vector<Tensor> all = model_->parameters();
    if (options_.optimizer == "momentum")
      return std::make_unique<Momentum>(MomentumOptions{
          .learning_rate = 0.01, .momentum = 0.9, .parameters = all, .multi_precision = wide});
    if (options_.optimizer == "adam")
      return std::make_unique<Adam>(
          AdamOptions{.learning_rate = 1e-3, .parameters = all, .multi_precision = wide});
    if (options_.optimizer == "adamw")
      return std::make_unique<AdamW>(
          AdamWOptions{.learning_rate = 1e-4, .parameters = all, .multi_precision = wide});
    fail(Code::kInvalidArgument,
         "[bench] optimizer expects momentum, adam or adamw, got " + options_.optimizer);
  }

  Tensor loss() {
    std::optional<amp::auto_cast> guard;
    if (cast_) guard.emplace(*cast_);
    const Tensor y = net_.vocabulary > 0 ? (*model_)(std::vector<Tensor>{x_}) : (*model_)(x_);
    if (!net_.lines) return F::cross_entropy(y, label_);
    const Tensor steps = full({batch_}, static_cast<double>(y.shape()[1]), DType::kInt64);
    const Tensor lengths = full({batch_}, static_cast<double>(kTextLength), DType::kInt64);
    return F::ctc_loss(transpose(y, {1, 0, 2}), label_, steps, lengths, 0, "mean", false, true);
  }

  void step() {
    const Tensor l = loss();
    loss_ = l.detach();
    (scaler_ ? scaler_->scale(l) : l).backward();
    if (scaler_) {
      scaler_->step(*optimizer_);
      scaler_->update();
    } else {
      optimizer_->step();
    }
    optimizer_->clear_grad();
  }

  void describe(const Recorder& recorder, BenchResult& r) const {
    const Recorder::Stats& stats = recorder.stats();
    r.plans = stats.plans;
    r.kernels = stats.kernels;
    r.planned_peak_bytes = stats.planned_peak_bytes;
    r.intermediate_bytes = stats.intermediate_bytes;
    if (recorder.last_plan() != nullptr) r.arena_bytes = recorder.last_plan()->arena_bytes();
    for (const Tensor& p : model_->parameters())
      r.parameter_bytes += p.numel() * static_cast<int64_t>(size_of(p.dtype()));
    r.peak_bytes = current_recorder().device().pool().peak();
  }

  const BenchOptions options_;
  const Net& net_;
  int64_t batch_ = 0;
  Tensor x_, label_, loss_;
  std::shared_ptr<nn::Layer> model_;
  std::unique_ptr<optimizer::Optimizer> optimizer_;
  std::optional<amp::AutoCastOptions> cast_;
  std::optional<amp::GradScaler> scaler_;
};

}  // namespace

BenchResult bench(const BenchOptions& options) { return Bench(options).run(); }

}  // namespace trireme::train
