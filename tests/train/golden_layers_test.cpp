// Layers put together into the networks of ../shared/data/train_golden: losses and gradients of
// real Paddle.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "formats/safetensors.h"
#include "support/data.h"
#include "support/xz.h"
#include "trireme/autograd.h"
#include "trireme/models.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
namespace F = nn::functional;

nn::StateDict state_of(const Safetensors& file) {
  nn::StateDict state;
  for (const auto& [name, a] : file.arrays) state.emplace_back(name, Tensor(a));
  return state;
}

double relative_l2(const Array& got, const Array& want) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < want.numel(); ++i) {
    const double w = want.as<float>()[i], d = got.as<float>()[i] - w;
    difference += d * d;
    size += w * w;
  }
  return std::sqrt(difference / std::max(size, 1e-300));
}

double largest(const Array& a) {
  double most = 0;
  for (int64_t i = 0; i < a.numel(); ++i)
    most = std::max(most, static_cast<double>(std::abs(a.as<float>()[i])));
  return most;
}

// The first loss, gradients and, with plain gradient descent written out, the 20 losses.
void check(const std::string& net_name, nn::Layer& net, const Array& x) {
  const fs::path folder = test::data_folder() / "train_golden" / net_name;
  (void)net.set_state_dict(state_of(read_safetensors((folder / "init.safetensors").string())));
  const Safetensors grads = read_safetensors((folder / "grads_step1.safetensors").string());
  std::ifstream stream(folder / "golden.json");
  const nlohmann::json golden = nlohmann::json::parse(stream);
  const auto& run = golden["runs"]["sgd"];
  const Array y = test::read_xz(folder / "data.y.xz", DType::kInt64, Shape{20, 8});
  double worst_loss = 0, worst_grad = 0;
  net.train();
  for (int64_t step = 0; step < 20; ++step) {
    const auto batch = [&](const Array& a) {
      return squeeze(slice(Tensor(a), {0}, {step}, {step + 1}), {0});
    };
    const Tensor loss = F::cross_entropy(net(batch(x)), batch(y));
    net.clear_gradients();
    loss.backward();
    if (step == 0)
      for (const auto& [name, p] : net.named_parameters()) {
        const Array* want = grads.find(name);
        if (want == nullptr) want = grads.find("grad." + name);
        ASSERT_NE(want, nullptr) << name;
        ASSERT_TRUE(p.grad().defined()) << name;
        const Array got = p.grad().numpy();
        if (name.ends_with("k_proj.bias")) {
          EXPECT_LT(largest(got), 1e-6) << name;
        } else {
          EXPECT_LT(relative_l2(got, *want), 1e-5) << name;
          worst_grad = std::max(worst_grad, relative_l2(got, *want));
        }
      }
    const no_grad guard;
    for (Tensor& p : net.parameters())
      p.set_value(p - p.grad() * static_cast<double>(run["lr"][static_cast<size_t>(step)]));
    const double want = run["loss"][static_cast<size_t>(step)], got = loss.item();
    worst_loss = std::max(worst_loss, std::abs(got - want) / want);
  }
  EXPECT_LT(worst_loss, 1e-5);
  std::printf("%s: losses within %.2g, gradients of step 1 within %.2g\n", net_name.c_str(),
              worst_loss, worst_grad);
}

struct GoldenLeNet : nn::Layer {
  nn::Conv2D conv1{1, 6, 5, {.padding = 2}}, conv2{6, 16, 5};
  nn::Linear fc1{400, 120}, fc2{120, 84}, fc3{84, 10};
  GoldenLeNet() {
    add_sublayers("conv1", conv1, "conv2", conv2, "fc1", fc1, "fc2", fc2, "fc3", fc3);
  }
  Tensor forward(const Tensor& in) override {
    Tensor x = F::max_pool2d(F::relu(conv1(in)), 2, 2);
    x = flatten(F::max_pool2d(F::relu(conv2(x)), 2, 2), 1);
    return fc3(F::relu(fc2(F::relu(fc1(x)))));
  }
};

TEST(GoldenLayers, LeNet) {
  TRI_NEEDS_DATA("train_golden/lenet");
  GoldenLeNet net;
  Array x = test::read_xz(test::data_folder() / "train_golden/lenet/data.x.xz", DType::kInt8,
                          Shape{20, 8, 1, 28, 28})
                .to(DType::kFloat32);
  for (int64_t i = 0; i < x.numel(); ++i) x.as<float>()[i] /= 64;
  check("lenet", net, x);
}

TEST(GoldenLayers, Transformer) {
  TRI_NEEDS_DATA("train_golden/transformer");
  models::EncoderClassifier net({.vocab_size = 200,
                                 .width = 64,
                                 .layers = 2,
                                 .heads = 4,
                                 .feedforward = 128,
                                 .classes = 8,
                                 .positions = 16,
                                 .activation = "relu"});
  check("transformer", net,
        test::read_xz(test::data_folder() / "train_golden/transformer/data.x.xz", DType::kInt64,
                      Shape{20, 8, 16}));
}

}  // namespace
}  // namespace trireme
