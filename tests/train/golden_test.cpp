// Whole trainings against Paddle's: 20 losses, gradient norms, weights; nets put together from
// operators.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "device/precision.h"
#include "formats/safetensors.h"
#include "ops/conv.h"
#include "ops/cross_entropy.h"
#include "ops/index.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "runtime/call.h"
#include "support/data.h"
#include "support/gpu.h"
#include "support/xz.h"
#include "trireme/autograd.h"
#include "trireme/device.h"
#include "trireme/ops.h"
#include "trireme/optimizer.h"

namespace trireme::optimizer {
namespace {

using Json = nlohmann::json;

struct Case {
  std::string net;
  Json golden;
  Array x, y;
  Safetensors init, final_tensors, gradients;

  explicit Case(const std::string& name) : net(name) {
    const auto folder = test::data_folder() / "train_golden" / name;
    golden = Json::parse(std::ifstream(folder / "golden.json"));
    const auto shape = [&](const char* which) {
      const auto dims = golden["data"][which]["shape"].get<std::vector<int64_t>>();
      return Shape(dims);
    };
    const bool pictures = golden["data"]["x"]["dtype"] == "int8";
    x = test::read_xz(folder / "data.x.xz", pictures ? DType::kInt8 : DType::kInt64, shape("x"));
    if (pictures) {
      x = x.to(DType::kFloat32);
      for (int64_t i = 0; i < x.numel(); ++i) x.as<float>()[i] /= 64;
    }
    y = test::read_xz(folder / "data.y.xz", DType::kInt64, shape("y"));
    init = read_safetensors((folder / "init.safetensors").string());
    final_tensors = read_safetensors((folder / "final_tensors.safetensors").string());
    gradients = read_safetensors((folder / "grads_step1.safetensors").string());
  }

  static Array batch(const Array& all, int64_t step) {
    Shape shape;
    for (int d = 1; d < all.shape().rank(); ++d) shape.push_back(all.shape()[d]);
    Array a(all.dtype(), shape);
    std::memcpy(a.data(),
                static_cast<const char*>(all.data()) + static_cast<size_t>(step) * a.bytes(),
                a.bytes());
    return a;
  }
};

class Net {
 public:
  explicit Net(const Case& c) : lenet_(c.net == "lenet") {
    for (const auto& [name, paddle] : c.golden["paddle_names"].items()) {
      const Array* value = c.init.find(name);
      EXPECT_NE(value, nullptr) << name;
      Tensor t(*value);
      t = Tensor(t.clone().numpy());
      t.set_name(paddle.get<std::string>());
      t.set_stop_gradient(false);
      index_[name] = all.size();
      all.emplace_back(name, t);
    }
  }
  std::vector<Tensor> parameters() const {
    std::vector<Tensor> list;
    for (const auto& [name, t] : all) list.push_back(t);
    return list;
  }
  Tensor loss(const Array& x, const Array& y) {
    std::vector<Tensor> in = parameters();
    in.emplace_back(x);
    in.emplace_back(y.reshaped({y.numel(), 1}));
    return call_list(
        [&](const std::vector<Value*>& v) {
          values_ = v;
          Value* logits = lenet_ ? lenet(v[all.size()]) : transformer(v[all.size()]);
          Value* each = ops::cross_entropy_with_softmax(logits, v.back())[1];
          return std::vector<Value*>{ops::reduce(ops::mean_op, each, {}, false)};
        },
        in)[0];
  }
  std::vector<std::pair<std::string, Tensor>> all;

 private:
  Value* p(const std::string& name) const { return values_[index_.at(name)]; }
  Value* linear(Value* x, const std::string& name) const {
    return ops::add(ops::matmul(x, p(name + ".weight")), p(name + ".bias"));
  }
  Value* conv(Value* x, const std::string& name, int64_t pad) const {
    Value* y = ops::conv2d(x, p(name + ".weight"), nullptr, {.paddings = {pad, pad, pad, pad}});
    Value* b = ops::reshape(p(name + ".bias"), {1, -1, 1, 1});
    return ops::pool2d(ops::relu(ops::add(y, b)), {.kernel = {2, 2}, .strides = {2, 2}});
  }
  Value* lenet(Value* x) const {
    x = conv(conv(x, "conv1", 2), "conv2", 0);
    x = ops::reshape(x, {x->type.shape[0], -1});
    return linear(ops::relu(linear(ops::relu(linear(x, "fc1")), "fc2")), "fc3");
  }
  Value* heads(Value* x) const {
    const Shape& s = x->type.shape;
    return ops::transpose(ops::reshape(x, {s[0], s[1], 4, 16}), {0, 2, 1, 3});
  }
  Value* norm(Value* x, const std::string& name) const {
    return ops::layer_norm(x, p(name + ".weight"), p(name + ".bias"), 2, 1e-5);
  }
  Value* encoder(Value* x, const std::string& name) const {
    const std::string a = name + ".self_attn.";
    Value *q = heads(linear(x, a + "q_proj")), *k = heads(linear(x, a + "k_proj")),
          *v = heads(linear(x, a + "v_proj"));
    Value* w =
        ops::softmax(ops::matmul(ops::multiply(q, scalar(0.25)), k, nullptr, false, true), -1);
    Value* seen = ops::transpose(ops::matmul(w, v), {0, 2, 1, 3});
    const Shape& s = x->type.shape;
    seen = ops::reshape(seen, {s[0], s[1], s[2]});
    x = norm(ops::add(x, linear(seen, a + "out_proj")), name + ".norm1");
    Value* wide = ops::relu(linear(x, name + ".linear1"));
    return norm(ops::add(x, linear(wide, name + ".linear2")), name + ".norm2");
  }
  Value* transformer(Value* ids) const {
    Value* places = ops::arange(0, static_cast<double>(ids->type.shape[1]), 1, DType::kInt64);
    Value* x =
        ops::add(ops::embedding(p("emb.weight"), ids), ops::embedding(p("pos.weight"), places));
    for (const char* layer : {"enc.layers.0", "enc.layers.1"}) x = encoder(x, layer);
    return linear(ops::reduce(ops::mean_op, x, {1}, false), "fc");
  }

  bool lenet_;
  std::map<std::string, size_t> index_;
  std::vector<Value*> values_;
};

struct Run {
  std::unique_ptr<Optimizer> optimizer;
  lr::LRScheduler scheduler;
};

Run make(const std::string& name, const Json& r, const std::vector<Tensor>& p) {
  const double rate = r.contains("learning_rate") ? r["learning_rate"].get<double>() : 0;
  const auto adamw = [&](LearningRate given, bool clip) {
    return std::make_unique<AdamW>(AdamWOptions{
        .learning_rate = given,
        .beta2 = r["beta2"],
        .parameters = p,
        .weight_decay = r["weight_decay"],
        .apply_decay_param_fun =
            [clip](const std::string& n) { return clip || n.find(".b_") == std::string::npos; },
        .grad_clip = clip ? nn::ClipGradByGlobalNorm(0.5) : nn::GradClip{}});
  };
  if (name == "sgd")
    return {std::make_unique<SGD>(SGDOptions{.learning_rate = rate, .parameters = p}), {}};
  if (name == "momentum" || name == "nesterov")
    return {std::make_unique<Momentum>(
                MomentumOptions{.learning_rate = rate,
                                .parameters = p,
                                .use_nesterov = name == "nesterov",
                                .weight_decay = name == "momentum" ? 0.0005 : 0.0}),
            {}};
  if (name == "adam")
    return {std::make_unique<Adam>(AdamOptions{.learning_rate = rate, .parameters = p}), {}};
  if (name == "adamw") return {adamw(rate, false), {}};
  // The schedulers' numbers stand in the golden as a sentence: they are in the learning rates.
  if (name == "adamw_clip_warmup_cosine") {
    const double top = r["lr"][5];
    lr::LinearWarmup s(lr::CosineAnnealingDecay(top, 20, 1e-5), 5, 0, top);
    return {adamw(s, true), s};
  }
  const lr::StepDecay s(r["lr"][0].get<double>(), 6, 0.5);
  return {std::make_unique<SGD>(SGDOptions{
              .learning_rate = s, .parameters = p, .grad_clip = nn::ClipGradByGlobalNorm(1)}),
          s};
}

void expect_state(const Json& expected, const State& state) {
  if (!expected.is_object()) return;
  EXPECT_EQ(expected.size(), state.tensors.size());
  std::map<std::string, Tensor> got;
  for (const auto& [key, t] : state.tensors) got[key.substr(0, key.rfind('_'))] = t;
  for (const auto& [key, e] : expected.items()) {
    if (key.find("k_proj") != std::string::npos || !e.is_object()) continue;
    const auto it =
        got.find(key.substr(0, key.rfind('_')));  // Paddle numbers them over the process
    ASSERT_NE(it, got.end()) << key;
    const Array a = it->second.numpy();
    double squares = 0;
    for (int64_t i = 0; i < a.numel(); ++i) squares += std::pow(a.as<float>()[i], 2);
    const double norm = e["l2"];
    EXPECT_NEAR(std::sqrt(squares), norm, 1e-3 * norm + 1e-7) << key;
  }
}

// What results may differ by, relative but for the weights: at least so much.
struct Limits {
  double loss = 1e-5, gradients = 1e-5, norm = 1e-4, weights = 1e-5;
};

void expect_gradients(const Case& c, const Net& net, const Limits& limits) {
  for (const auto& [key, t] : net.all) {
    const Array* expected = c.gradients.find(key);
    ASSERT_NE(expected, nullptr) << key;
    const Array got = t.grad().numpy();
    double distance = 0, size = 0, worst = 0;
    for (int64_t i = 0; i < got.numel(); ++i) {
      const double e = expected->as<float>()[i], d = got.as<float>()[i] - e;
      distance += d * d;
      size += e * e;
      worst = std::max(worst, std::abs(d));
    }
    if (key.find("k_proj.bias") != std::string::npos) EXPECT_LE(worst, 1e-6) << key;
    else EXPECT_LE(std::sqrt(distance / size), limits.gradients) << key;
  }
}

void train(const Case& c, const std::string& name, const Json& r, const Limits& limits) {
  SCOPED_TRACE(c.net + ' ' + name);
  Net net(c);
  Run run = make(name, r, net.parameters());
  const double loss_tolerance =
      std::max(limits.loss, 10 * r["loss_max_relative_noise"].get<double>());
  int64_t plans = 0;
  for (int step = 0; step < 20; ++step) {
    const double rate = r["lr"][static_cast<size_t>(step)];
    EXPECT_NEAR(run.optimizer->get_lr(), rate, 1e-12 * rate + 1e-18);
    const Tensor loss = net.loss(Case::batch(c.x, step), Case::batch(c.y, step));
    loss.backward();
    if (step == 0 && name == "sgd") expect_gradients(c, net, limits);
    run.optimizer->step();
    const Tensor norm = run.optimizer->grad_norm();
    run.optimizer->clear_grad();
    if (run.scheduler.defined()) run.scheduler.step();
    const double expected = r["loss"][static_cast<size_t>(step)];
    EXPECT_NEAR(loss.item(), expected, loss_tolerance * std::abs(expected)) << "step " << step;
    if (norm.defined()) {
      const double e = r["grad_norm_before_clip"][static_cast<size_t>(step)];
      EXPECT_NEAR(norm.item(), e, limits.norm * e) << "step " << step;
    }
    if (step == 1) plans = current_recorder().stats().plans;
  }
  EXPECT_EQ(current_recorder().stats().plans, plans);
  const bool adam = name.rfind("adam", 0) == 0;
  for (const auto& [key, t] : net.all) {
    if (adam && key.find("k_proj.bias") != std::string::npos) continue;
    const Json& about = r["weights_after"][key];
    const double tolerance = std::max(limits.weights, 20 * about["max_abs_noise"].get<double>());
    const Array got = t.numpy();
    for (size_t i = 0; i < about["head"].size(); ++i)
      EXPECT_NEAR(got.as<float>()[i], about["head"][i].get<double>(), tolerance) << key;
    const Array* expected = c.final_tensors.find(name + '/' + key);  // of some weights
    if (expected == nullptr) continue;
    double worst = 0;
    for (int64_t i = 0; i < got.numel(); ++i)
      worst = std::max<double>(worst, std::abs(got.as<float>()[i] - expected->as<float>()[i]));
    EXPECT_LE(worst, tolerance) << key;
  }
  expect_state(r["optimizer_state_after"], run.optimizer->state_dict());
}

void train_all(const std::string& net, const Limits& limits) {
  const Case c(net);
  int runs = 0;
  for (const auto& [name, r] : c.golden["runs"].items()) {
    train(c, name, r, limits);
    ++runs;
  }
  EXPECT_EQ(runs, 7);
}

class TrainGolden : public testing::TestWithParam<const char*> {};

TEST_P(TrainGolden, SevenRuns) {
  const std::string folder = std::string("train_golden/") + GetParam();
  TRI_NEEDS_DATA(folder);
  train_all(GetParam(), {});
}

INSTANTIATE_TEST_SUITE_P(Nets, TrainGolden, testing::Values("lenet", "transformer"));

class GpuTrainGolden : public testing::TestWithParam<const char*> {};

TEST_P(GpuTrainGolden, SevenRuns) {
  TRI_NEEDS_GPU();
  const std::string folder = std::string("train_golden/") + GetParam();
  TRI_NEEDS_DATA(folder);
  const bool tf32 = allows_tf32(Products::kConvolutions);
  allow_tf32(Products::kConvolutions, false);
  set_device("gpu:0");
  train_all(GetParam(), {.loss = 1e-4, .gradients = 1e-4, .norm = 1e-3, .weights = 1e-3});
  set_device("cpu");
  allow_tf32(Products::kConvolutions, tf32);
}

INSTANTIATE_TEST_SUITE_P(Gpu, GpuTrainGolden, testing::Values("lenet", "transformer"));

}  // namespace
}  // namespace trireme::optimizer
