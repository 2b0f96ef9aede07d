// Optimizers: Paddle's numbers, in place, one plan, nothing read; their state.
#include "trireme/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "runtime/recorder.h"
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
    return std::make_unique<Rprop>(RpropOptions{
        .learning_rate = kRate, .learning_rate_range = {0.001, 0.2}, .parameters = p});
  ADD_FAILURE() << "no optimizer for " << name;
  return nullptr;
}

std::unique_ptr<Optimizer> make(const std::string& name, const std::vector<Tensor>& p) {
  const auto is = [&](const char* begin) { return name.rfind(begin, 0) == 0; };
  if (is("sgd"))
    return std::make_unique<SGD>(SGDOptions{
        .learning_rate = kRate,
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
        .apply_decay_param_fun =
            [&](const std::string& n) { return name == "adamw" || n != "p1"; },
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
    EXPECT_LE(std::abs(g - e), 2e-6 + 4e-6 * std::abs(e)) << what << '[' << i << "]: " << g << ' ' << e;
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

}  // namespace
}  // namespace trireme::optimizer
