// weight_norm and spectral_norm against real Paddle, in training, saved and removed.
#include <filesystem>

#include "support/temp.h"
#include "train/goldens.h"
#include "trireme/autograd.h"
#include "trireme/jit.h"
#include "trireme/math.h"
#include "trireme/models.h"
#include "trireme/nn.h"
#include "trireme/nn_utils.h"
#include "trireme/optimizer.h"
#include "trireme/random.h"

namespace trireme {
namespace {

namespace utils = nn::utils;
using test::In;

nn::Linear linear() { return {4, 3, {.bias_attr = nn::no_param()}}; }
nn::Conv2D conv() { return {2, 3, 2, {.bias_attr = nn::no_param()}}; }

template <class L> Tensor normed(L layer, std::optional<int64_t> dim, const In& x) {
  utils::weight_norm(layer, "weight", dim);
  layer.add_parameter("weight_v", x[1]);
  layer.add_parameter("weight_g", x[2]);
  return layer(x[0]);
}

template <class L> Tensor spectral(L layer, int64_t rounds, const In& x) {
  utils::spectral_norm(layer, "weight", rounds);
  for (const auto& [name, t] : layer.named_buffers())
    Tensor(t).set_value(full({t.numel()}, 1 / std::sqrt(t.numel())));
  layer.add_parameter("weight_orig", x[1]);
  return layer(x[0]);
}

TEST(WeightNorms, AreAsPaddles) {
  test::check_functions(
      test::load_golden("tensors.json"),
      {{"weight_norm0", [](const In& x) { return normed(linear(), 0, x); }},
       {"weight_norm1", [](const In& x) { return normed(linear(), 1, x); }},
       {"weight_norm_all", [](const In& x) { return normed(linear(), std::nullopt, x); }},
       {"weight_norm_conv", [](const In& x) { return normed(conv(), 0, x); }},
       {"spectral_norm", [](const In& x) { return spectral(linear(), 2, x); }},
       {"spectral_norm_conv", [](const In& x) { return spectral(conv(), 1, x); }}});
}

// The optimizer moves g and v, the weight follows; removed, the weight is a parameter again.
TEST(WeightNorms, TrainAndAreRemoved) {
  seed(2);
  nn::Linear layer = linear();
  const Tensor x = uniform({8, 4}, DType::kFloat32, -1, 1), before = layer(x).detach();
  utils::weight_norm(layer, "weight", 1);
  std::vector<std::string> names;
  for (const auto& [name, t] : layer.state_dict()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"weight_v", "weight_g"}));
  EXPECT_LE(max(abs(layer(x) - before)).item(), 1e-6);
  optimizer::SGD sgd({.learning_rate = 0.1, .parameters = layer.parameters()});
  double first = 0, last = 0;
  for (int i = 0; i < 20; ++i) {
    const Tensor loss = mean(square(layer(x) - 1.0));
    loss.backward();
    sgd.step();
    sgd.clear_grad();
    last = loss.item();
    if (i == 0) first = last;
  }
  EXPECT_LT(last, 0.9 * first);
  const Tensor want = layer(x).detach();
  utils::remove_weight_norm(layer);
  EXPECT_EQ(layer.parameters().size(), 1U);
  EXPECT_EQ(layer.state_dict()[0].first, "weight");
  const Tensor y = layer(x);
  EXPECT_LE(max(abs(y - want)).item(), 1e-6);
  sum(y).backward();
  EXPECT_TRUE(layer.weight.grad().defined());
  EXPECT_THROW(utils::remove_weight_norm(layer), Error);
  EXPECT_THROW(utils::weight_norm(layer, "bias"), Error);
  EXPECT_THROW(utils::weight_norm(layer, "weight", 2), Error);
}

TEST(WeightNorms, SpectralNormIsOneAfterEnoughRounds) {
  seed(3);
  nn::Conv2D layer = conv();
  utils::spectral_norm(layer, "weight", 50);
  const Tensor x = uniform({1, 2, 4, 4}, DType::kFloat32, -1, 1);
  (void)layer(x);
  const Tensor s = linalg::svd(reshape(layer.weight.detach(), {3, 8}))[1];
  EXPECT_NEAR(s.numpy().as<float>()[0], 1, 1e-4);
  layer.eval();
  const Tensor want = layer(x).detach();
  const test::TempFolder folder;
  jit::save(layer, folder / "net", {{{-1, 2, 4, 4}}});
  const auto program = models::from_program(folder / "net");
  program->eval();
  const no_grad guard;
  EXPECT_LE(max(abs((*program)(x)-want)).item(), 1e-5);
  EXPECT_LE(max(abs(layer(x) - want)).item(), 1e-6);  // after an export as before
}

}  // namespace
}  // namespace trireme
