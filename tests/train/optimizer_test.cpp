// Optimizers: Paddle's numbers, in place, one plan, nothing read; their state.
#include "trireme/optimizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/call.h"
#include "train/optimizer_impl.h"
#include "trireme/autograd.h"
#include "trireme/ops.h"

namespace trireme::optimizer {
namespace {

using Json = nlohmann::json;

const std::vector<Shape> kShapes{{3, 5}, {7}, {2, 2}};

// As tools/make_optimizer_goldens.py has them.
Array values(bool weight, int k, int step, const Shape& shape) {
  Array a(DType::kFloat32, shape);
  for (int64_t i = 0; i < a.numel(); ++i) {
    const auto n = static_cast<double>(i + 1);
    a.as<float>()[i] = static_cast<float>(weight ? std::cos(0.9 * n + k)
                                                 : 1.5 * std::sin(0.7 * n + 1.3 * step + k));
  }
  return a;
}

std::vector<Tensor> parameters(bool plain = true, DType dtype = DType::kFloat32) {
  std::vector<Tensor> all;
  for (int k = 0; k < 3; ++k) {
    Tensor p(values(true, k, 0, kShapes[static_cast<size_t>(k)]).to(dtype));
    p.set_name("p" + std::to_string(k));
    p.set_stop_gradient(false);
    auto info = std::make_shared<ParameterInfo>();
    if (!plain && k == 1) info->learning_rate = 0.5;
    if (!plain && k == 2) *info = {1, false, true, 0.02, 0};
    p.variable()->parameter = std::move(info);
    all.push_back(p);
  }
  return all;
}

void set_gradients(std::vector<Tensor>& params, int step, bool leave_out = false) {
  for (size_t k = 0; k < params.size(); ++k)
    if (!(leave_out && k == 1 && step % 2 == 1))
      params[k].set_grad(
          values(false, static_cast<int>(k), step, params[k].shape()).to(params[k].dtype()));
}

nn::GradClip clip_of(const std::string& name) {
  if (name == "sgd_norm") return nn::ClipGradByNorm(1.5);
  if (name == "sgd_value") return nn::ClipGradByValue(1.0, -0.6);
  const bool global = name == "sgd_all" || name == "momentum_all" || name == "adam_all" ||
                      name == "adamw_all" || name == "lamb_always";
  return global ? nn::ClipGradByGlobalNorm(2.0) : nn::GradClip{};
}

constexpr double kRate = 0.05;

std::unique_ptr<Optimizer> make_others(const std::string& name, const std::vector<Tensor>& p) {
  if (name == "adamax")
    return std::make_unique<Adamax>(
        AdamaxOptions{.learning_rate = kRate, .parameters = p, .weight_decay = 0.02});
  if (name == "rmsprop")
    return std::make_unique<RMSProp>(RMSPropOptions{.learning_rate = kRate, .parameters = p});
  if (name == "rmsprop_centered")
    return std::make_unique<RMSProp>(RMSPropOptions{.learning_rate = kRate,
                                                    .momentum = 0.8,
                                                    .centered = true,
                                                    .parameters = p,
                                                    .weight_decay = 0.02});
  if (name == "adagrad")
    return std::make_unique<Adagrad>(AdagradOptions{.learning_rate = kRate,
                                                    .parameters = p,
                                                    .weight_decay = 0.02,
                                                    .initial_accumulator_value = 0.1});
  if (name == "lamb" || name == "lamb_always")
    return std::make_unique<Lamb>(LambOptions{
        .learning_rate = kRate,
        .parameters = p,
        .grad_clip = clip_of(name),
        .exclude_from_weight_decay_fn = [](const Tensor& t) { return t.name() == "p1"; },
        .always_adapt = name == "lamb_always"});
  if (name == "adadelta")
    return std::make_unique<Adadelta>(
        AdadeltaOptions{.learning_rate = kRate, .parameters = p, .weight_decay = 0.02});
  if (name == "nadam")
    return std::make_unique<NAdam>(
        NAdamOptions{.learning_rate = kRate, .parameters = p, .weight_decay = 0.02});
  if (name == "radam")
    return std::make_unique<RAdam>(
        RAdamOptions{.learning_rate = kRate, .parameters = p, .weight_decay = 0.02});
  if (name == "rprop")
    return std::make_unique<Rprop>(
        RpropOptions{.learning_rate = kRate, .learning_rate_range = {0.001, 0.2}, .parameters = p});
  ADD_FAILURE() << "no optimizer for " << name;
  return nullptr;
}

std::unique_ptr<Optimizer> make(const std::string& name, const std::vector<Tensor>& p) {
  const auto is = [&](const char* begin) { return name.rfind(begin, 0) == 0; };
  if (is("sgd"))
    return std::make_unique<SGD>(
        SGDOptions{.learning_rate = kRate,
                   .parameters = p,
                   .weight_decay = name == "sgd_all"     ? WeightDecay(0.01)
                                   : name == "sgd_norm"  ? WeightDecay(regularizer::L1Decay{0.03})
                                   : name == "sgd_value" ? WeightDecay(regularizer::L2Decay{0.03})
                                                         : WeightDecay(),
                   .grad_clip = clip_of(name)});
  if (name == "momentum_groups")
    return std::make_unique<Momentum>(MomentumOptions{
        .learning_rate = kRate,
        .weight_decay = 0.02,
        .groups = {{.params = {p[0]}, .learning_rate = 0.3, .weight_decay = WeightDecay(0.1)},
                   {.params = {p[1], p[2]}, .grad_clip = nn::ClipGradByGlobalNorm(0.7)}}});
  if (is("momentum") || name == "nesterov")
    return std::make_unique<Momentum>(
        MomentumOptions{.learning_rate = kRate,
                        .parameters = p,
                        .use_nesterov = name == "nesterov",
                        .weight_decay = name == "momentum" ? 0.0 : 0.02,
                        .grad_clip = clip_of(name)});
  if (is("adamw"))
    return std::make_unique<AdamW>(AdamWOptions{
        .learning_rate = kRate,
        .parameters = p,
        .weight_decay = name == "adamw" ? 0.01 : 0.1,
        .apply_decay_param_fun = [&](const std::string& n) { return name == "adamw" || n != "p1"; },
        .grad_clip = clip_of(name)});
  if (is("adam") && name != "adamax")
    return std::make_unique<Adam>(AdamOptions{.learning_rate = kRate,
                                              .parameters = p,
                                              .weight_decay = name == "adam_all" ? 0.02 : 0.0,
                                              .grad_clip = clip_of(name),
                                              .amsgrad = name == "adam_amsgrad"});
  return make_others(name, p);
}

bool is_plain(const std::string& name) {
  for (const char* n : {"sgd", "momentum", "momentum_groups", "adam", "adam_missing",
                        "adam_amsgrad", "adamw", "rmsprop", "lamb", "rprop"})
    if (name == n) return true;
  return false;
}

void expect_near(const Array& got, const Json& expected, const std::string& what) {
  ASSERT_EQ(static_cast<size_t>(got.numel()), expected.size()) << what;
  for (int64_t i = 0; i < got.numel(); ++i) {
    const auto e = expected[static_cast<size_t>(i)].get<double>();
    const double g = got.as<float>()[i];
    EXPECT_LE(std::abs(g - e), 2e-6 + 4e-6 * std::abs(e))
        << what << '[' << i << "]: " << g << ' ' << e;
  }
}

Json goldens() {
  return Json::parse(std::ifstream(TRIREME_SOURCE_DIR "/tests/train/data/optimizers.json"));
}

TEST(Optimizer, AsInPaddle) {
  const Json all = goldens();
  for (const Json& c : all["cases"]) {
    const auto name = c["name"].get<std::string>();
    SCOPED_TRACE(name);
    std::vector<Tensor> p = parameters(is_plain(name));
    const auto optimizer = make(name, p);
    size_t seen = 0;
    for (int step = 0; step < 8; ++step) {
      set_gradients(p, step, name == "adam_missing");
      optimizer->step();
      optimizer->clear_grad();
      if (step != 0 && step != 4 && step != 7) continue;
      for (size_t k = 0; k < 3; ++k)
        expect_near(p[k].numpy(), c["after"][seen][k],
                    "p" + std::to_string(k) + " after step " + std::to_string(step + 1));
      ++seen;
    }
    std::map<std::string, Tensor> state;
    for (const auto& [key, t] : optimizer->state_dict().tensors) state[key] = t;
    EXPECT_EQ(state.size(), c["state"].size());
    for (const auto& [key, expected] : c["state"].items()) {
      ASSERT_TRUE(state.contains(key)) << key;
      Shape shape;
      for (const auto& d : expected[0]) shape.push_back(d.get<int64_t>());
      EXPECT_EQ(state[key].shape().str(), shape.str()) << key;
      expect_near(state[key].numpy(), expected[1], key);
    }
  }
  EXPECT_EQ(all["cases"].size(), 24U);
}

// y = relu(x w0 + b0) w1: a step with everything that a training step has.
struct Net {
  Tensor w0, b0, w1;
  Net() {
    w0 = parameter({6, 16}, 1);
    b0 = parameter({16}, 2);
    w1 = parameter({16, 3}, 3);
  }
  static Tensor parameter(const Shape& shape, int seed) {
    Tensor t(values(true, seed, 0, shape));
    t.set_name("n" + std::to_string(seed));
    t.set_stop_gradient(false);
    return t;
  }
  std::vector<Tensor> parameters() const { return {w0, b0, w1}; }
  Tensor loss(int step) const {
    const Tensor x(values(false, 9, step, {8, 6})), y(values(false, 4, step, {8, 3}));
    const Tensor d = matmul(tanh(matmul(x, w0) + b0), w1) - y;
    return mean(d * d);
  }
};

std::vector<float> flat(const std::vector<Tensor>& tensors) {
  std::vector<float> all;
  for (const Tensor& t : tensors) {
    const Array a = t.numpy().to(DType::kFloat32);
    all.insert(all.end(), a.as<float>(), a.as<float>() + a.numel());
  }
  return all;
}

// Adam with everything on: clipping, a scheduler, decay.
struct Training {
  Net net;
  lr::StepDecay rate{0.05, 3, 0.5};
  AdamW adam{{.learning_rate = rate,
              .parameters = net.parameters(),
              .grad_clip = nn::ClipGradByGlobalNorm(0.5)}};
  void step(int i) {
    const Tensor loss = net.loss(i);
    loss.backward();
    adam.step();
    adam.clear_grad();
    rate.step();
  }
};

TEST(Optimizer, OnePlanAndInPlace) {
  if (eager_mode()) GTEST_SKIP() << "every operator is a flush of its own";
  Training t;
  t.step(0);
  t.step(1);
  const int64_t plans = current_recorder().stats().plans;
  const int64_t flushes = current_recorder().stats().flushes;
  const auto memory = [&] {
    std::vector<const void*> at;
    for (const Tensor& p : t.net.parameters()) at.push_back(p.variable()->slot->storage.data);
    for (const auto& e : t.adam.impl().entries)
      for (const Tensor& s : e.states) at.push_back(s.variable()->slot->storage.data);
    at.push_back(t.adam.impl().scalars.variable()->slot->storage.data);
    return at;
  };
  const std::vector<const void*> before = memory();
  for (int i = 2; i < 12; ++i) t.step(i);
  EXPECT_EQ(current_recorder().stats().plans, plans);
  EXPECT_EQ(current_recorder().stats().flushes, flushes + 10);  // one a step
  EXPECT_EQ(memory(), before);
}

TEST(Optimizer, GradientsMayBeClearedBeforeOrBehind) {
  Training a, b;
  for (int i = 0; i < 5; ++i) {
    a.step(i);
    b.adam.clear_grad();
    b.net.loss(i).backward();
    b.adam.step();
    EXPECT_TRUE(b.net.w0.grad().defined());
    b.rate.step();
  }
  EXPECT_EQ(flat(a.net.parameters()), flat(b.net.parameters()));
}

TEST(Optimizer, ReadsBetweenBackwardAndStepChangeNothing) {
  Training a, b;
  for (int i = 0; i < 4; ++i) {
    a.step(i);
    const Tensor loss = b.net.loss(i);
    loss.backward();
    (void)loss.item();
    (void)b.net.w1.grad().numpy();
    b.adam.step();
    b.adam.clear_grad();
    b.rate.step();
  }
  const std::vector<float> x = flat(a.net.parameters()), y = flat(b.net.parameters());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-6);
}

TEST(Optimizer, GradientsAccumulate) {
  Net a, b;
  SGD one({.learning_rate = 0.1, .parameters = a.parameters()});
  SGD two({.learning_rate = 0.1, .parameters = b.parameters()});
  (a.loss(0) + a.loss(1)).backward();
  one.step();
  one.clear_grad();
  b.loss(0).backward();
  synchronize();
  b.loss(1).backward();
  two.step();
  two.clear_grad();
  const std::vector<float> x = flat(a.parameters()), y = flat(b.parameters());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-6);
}

TEST(Optimizer, GoesOnFromItsState) {
  Training a, b;
  for (int i = 0; i < 4; ++i) a.step(i);
  const State state = a.adam.state_dict();
  for (size_t k = 0; k < 3; ++k) {
    Tensor to = b.net.parameters()[k];
    to.set_value(a.net.parameters()[k].clone());
  }
  b.adam.set_state_dict(state);
  for (int i = 4; i < 8; ++i) {
    a.step(i);
    b.step(i);
  }
  EXPECT_EQ(flat(a.net.parameters()), flat(b.net.parameters()));
  // What was saved is what was then.
  EXPECT_EQ(state.tensors.size(), 12U);
  EXPECT_NEAR(state.tensors[2].second.item(), std::pow(0.9, 5), 1e-6);
  EXPECT_EQ(state.LR_Scheduler.size(), 2U);
  State damaged = state;
  damaged.tensors.erase(damaged.tensors.begin() + 1);
  EXPECT_THROW(b.adam.set_state_dict(damaged), Error);
}

TEST(Optimizer, MastersOfHalfPrecisionParameters) {
  for (const DType half : {DType::kBFloat16, DType::kFloat16}) {
    std::vector<Tensor> p = parameters(true, half), q = parameters();
    for (size_t k = 0; k < 3; ++k) q[k].set_value(p[k].astype(DType::kFloat32));
    Adam low({.learning_rate = 0.05, .parameters = p, .multi_precision = true});
    Adam wide({.learning_rate = 0.05, .parameters = q});
    for (int step = 0; step < 6; ++step) {
      set_gradients(p, step);
      for (size_t k = 0; k < 3; ++k) q[k].set_grad(p[k].grad().astype(DType::kFloat32));
      low.step();
      low.clear_grad();
      wide.step();
      wide.clear_grad();
    }
    const State state = low.state_dict();
    ASSERT_EQ(state.master_weights.size(), 3U);
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(flat({state.master_weights[k].second}), flat({q[k]}));
      EXPECT_EQ(p[k].dtype(), half);
      EXPECT_EQ(flat({p[k]}), flat({q[k].astype(half)}));
    }
    EXPECT_EQ(state.master_weights[0].first, "p0");
    EXPECT_EQ(state.tensors[0].first, "p0_fp32_master_0_moment1_0");
    Adam again({.learning_rate = 0.05, .parameters = p, .multi_precision = true});
    again.set_state_dict(state);
    EXPECT_EQ(flat({again.state_dict().master_weights[1].second}), flat({q[1]}));
  }
}

TEST(Optimizer, Float64) {
  std::vector<Tensor> p = parameters(true, DType::kFloat64), q = parameters();
  Lamb a({.learning_rate = 0.05, .parameters = p, .grad_clip = nn::ClipGradByGlobalNorm(2)});
  Lamb b({.learning_rate = 0.05, .parameters = q, .grad_clip = nn::ClipGradByGlobalNorm(2)});
  for (int step = 0; step < 4; ++step) {
    set_gradients(p, step);
    set_gradients(q, step);
    a.step();
    b.step();
  }
  const std::vector<float> x = flat(p), y = flat(q);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 2e-6);
}

// Tensors longer than a chunk, not donated and donated: the same numbers as small ones.
TEST(Optimizer, LongTensors) {
  const int64_t n = 40'001;
  Tensor p(values(true, 1, 0, {n}));
  p.set_stop_gradient(false);
  Momentum m({.learning_rate = 0.1, .parameters = {p}, .grad_clip = nn::ClipGradByGlobalNorm(3)});
  Array w = values(true, 1, 0, {n});
  std::vector<float> velocity(static_cast<size_t>(n), 0);
  for (int step = 0; step < 3; ++step) {
    const Array g = values(false, 0, step, {n});
    const Array held = p.numpy();  // so that the first update cannot be in place
    p.set_grad(g);
    m.step();
    m.clear_grad();
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += std::pow(g.as<float>()[i], 2);
    const double factor = 3 / std::sqrt(squares);
    EXPECT_NEAR(m.grad_norm().item(), std::sqrt(squares), 1e-3);
    for (int64_t i = 0; i < n; ++i) {
      float& v = velocity[static_cast<size_t>(i)];
      v = static_cast<float>(0.9 * v + g.as<float>()[i] * factor);
      w.as<float>()[i] -= 0.1F * v;
    }
  }
  const Array got = p.numpy();
  for (int64_t i = 0; i < n; i += 7) ASSERT_NEAR(got.as<float>()[i], w.as<float>()[i], 1e-5) << i;
}

TEST(Optimizer, ChecksItsArguments) {
  const std::vector<Tensor> p = parameters();
  EXPECT_THROW(SGD({.learning_rate = 0.1}), Error);
  EXPECT_THROW(SGD({.learning_rate = 0.1, .parameters = {p[0], p[0]}}), Error);
  EXPECT_THROW(SGD({.learning_rate = 0.1, .parameters = p, .groups = {{.params = p}}}), Error);
  SGD sgd({.learning_rate = lr::StepDecay(0.1, 3), .parameters = p});
  EXPECT_THROW(sgd.set_lr(0.3), Error);
  SGD plain({.learning_rate = 0.1, .parameters = p});
  plain.step();  // no gradients: nothing happens
  plain.set_lr(0.3);
  EXPECT_EQ(plain.get_lr(), 0.3);
}

TEST(SlowOptimizer, MomentumRunsAtMemorySpeed) {
  std::vector<Tensor> p;
  for (int k = 0; k < 60; ++k) {
    p.emplace_back(Array(DType::kFloat32, {195'000}));
    std::fill_n(p.back().variable()->slot->storage.data
                    ? static_cast<float*>(p.back().variable()->slot->storage.data)
                    : nullptr,
                195'000, 1.0F);
    p.back().set_stop_gradient(false);
  }
  Momentum m({.learning_rate = 0.1, .parameters = p});
  std::vector<Tensor> gradients;
  for (int k = 0; k < 60; ++k) gradients.push_back(full({195'000}, 0.01));
  synchronize();
  double best = 1e9;
  for (int i = 0; i < 12; ++i) {
    for (size_t k = 0; k < p.size(); ++k) p[k].set_grad(gradients[k]);
    const auto start = std::chrono::steady_clock::now();
    m.step();
    m.clear_grad();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  const double gigabytes = 60 * 195'000 * 4.0 * 5 / 1e9;
  std::printf("momentum, 11.7 M parameters: %.2f ms, %.1f GB/s\n", best, gigabytes / best * 1e3);
  EXPECT_LT(best, 200);
}

}  // namespace
}  // namespace trireme::optimizer
