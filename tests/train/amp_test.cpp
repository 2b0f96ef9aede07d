// Mixed precision: which operators are cast, the loss scale, skipped updates, half models.
#include "trireme/amp.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "runtime/call.h"
#include "trireme/autograd.h"
#include "trireme/nn.h"
#include "trireme/nn_functional.h"
#include "trireme/ops.h"
#include "trireme/optimizer.h"

namespace trireme::amp {
namespace {

Tensor wave(const Shape& shape, double phase) {
  Array a(DType::kFloat32, shape);
  for (int64_t i = 0; i < a.numel(); ++i)
    a.as<float>()[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i) + phase));
  return Tensor(a);
}

Tensor parameter(const Shape& shape, double phase, const char* name) {
  Tensor t = wave(shape, phase);
  t.set_stop_gradient(false);
  t.set_name(name);
  return t;
}

TEST(AutoCast, ColoursOfOperators) {
  const Tensor x = wave({4, 8}, 0), w = wave({8, 3}, 1);
  for (const DType half : {DType::kFloat16, DType::kBFloat16}) {
    const auto_cast guard({.dtype = half});
    const Tensor y = matmul(x, w);
    EXPECT_EQ(y.dtype(), half);        // white
    EXPECT_EQ((y + y).dtype(), half);  // follows
    EXPECT_EQ((y * 3.0).dtype(), half);
    EXPECT_EQ((y + wave({4, 3}, 2)).dtype(), DType::kFloat32);  // float32 wins
    EXPECT_EQ(exp(y).dtype(), DType::kFloat32);                 // black
    EXPECT_EQ(sum(y).dtype(), DType::kFloat32);
    EXPECT_EQ(tanh(x).dtype(), DType::kFloat32);  // nothing is half
    EXPECT_EQ(y.astype(DType::kFloat32).dtype(), DType::kFloat32);
  }
  EXPECT_EQ(matmul(x, w).dtype(), DType::kFloat32);
}

// What used to be lists of names: the parameters of norms stay float32, tables and resizes are
// float32 in O1 and follow in O2.
TEST(AutoCast, TheRuleIsTheOperatorsOwn) {
  const Tensor x = wave({2, 4, 6, 6}, 0), w = wave({4, 4, 1, 1}, 1), one = ones({4});
  for (const Level level : {Level::O1, Level::O2}) {
    const DType wide = level == Level::O1 ? DType::kFloat32 : DType::kBFloat16;
    const auto_cast guard({.level = level, .dtype = DType::kBFloat16});
    const Tensor y = nn::functional::conv2d(x, w);
    EXPECT_EQ(y.dtype(), DType::kBFloat16);
    Tensor running_mean = zeros({4}), running_var = ones({4});
    EXPECT_EQ(nn::functional::batch_norm(y, running_mean, running_var, one, one, true).dtype(),
              DType::kBFloat16);
    EXPECT_EQ(running_mean.dtype(), DType::kFloat32);
    EXPECT_EQ(nn::functional::group_norm(y, 2, 1e-5, one, one).dtype(), wide);
    EXPECT_EQ(nn::functional::interpolate(y, {.size = {9, 9}}).dtype(), wide);
    EXPECT_EQ(nn::functional::softmax(y).dtype(), wide);
    EXPECT_EQ(nn::functional::max_pool2d_with_index(x, 2)[0].dtype(), DType::kBFloat16);
  }
}

TEST(AutoCast, Float16ProductsAndConvolutionsOnTheCpu) {
  const auto near = [](const Tensor& got, const Tensor& want) {
    ASSERT_EQ(got.dtype(), DType::kFloat16);
    EXPECT_LE(max(abs(got.astype(DType::kFloat32) - want)).item(),
              2e-3 * std::max(1.0, max(abs(want)).item()));
  };
  const auto half = [](const Tensor& t) {
    Tensor h = t.astype(DType::kFloat16).detach();
    h.set_stop_gradient(false);
    return h;
  };
  const auto wide = [](const Tensor& t) {
    Tensor f = t.astype(DType::kFloat32).detach();
    f.set_stop_gradient(false);
    return f;
  };
  const auto check = [&](auto&& f, const Tensor& x, const Tensor& w) {
    const Tensor a = half(x), b = half(w), c = wide(a), d = wide(b);
    const Tensor y = f(a, b), z = f(c, d);
    near(y, z);
    sum(y.astype(DType::kFloat32)).backward();
    sum(z).backward();
    near(a.grad(), c.grad());
    near(b.grad(), d.grad());
  };
  check([](const Tensor& x, const Tensor& w) { return matmul(x, w); }, wave({5, 8}, 0),
        wave({8, 3}, 1));
  check([](const Tensor& x, const Tensor& w) { return matmul(x, w, false, true); },
        wave({2, 3, 5, 8}, 0), wave({2, 3, 7, 8}, 1));
  check([](const Tensor& x, const Tensor& w) { return nn::functional::conv2d(x, w, {}, 1, 1); },
        wave({2, 4, 6, 5}, 0), wave({8, 4, 3, 3}, 1));
  check([](const Tensor& x,
           const Tensor& w) { return nn::functional::conv2d_transpose(x, w, {}, 2); },
        wave({2, 4, 3, 5}, 0), wave({4, 6, 2, 2}, 1));
}

TEST(AutoCast, ListsLevelsAndNesting) {
  const Tensor x = wave({4, 8}, 0), w = wave({8, 3}, 1);
  const auto_cast guard(
      {.dtype = DType::kBFloat16, .custom_white_list = {"tanh"}, .custom_black_list = {"matmul"}});
  EXPECT_EQ(matmul(x, w).dtype(), DType::kFloat32);
  EXPECT_EQ(tanh(x).dtype(), DType::kBFloat16);
  {
    const auto_cast inner({.level = Level::O2, .dtype = DType::kBFloat16});
    EXPECT_EQ(exp(matmul(x, w)).dtype(), DType::kBFloat16);
    const auto_cast off({.enable = false});
    EXPECT_EQ(tanh(x).dtype(), DType::kFloat32);
  }
  EXPECT_EQ(tanh(x).dtype(), DType::kBFloat16);
  EXPECT_THROW(auto_cast({.dtype = DType::kInt32}), Error);
  EXPECT_THROW(auto_cast({.custom_white_list = {"exp"}, .custom_black_list = {"exp"}}), Error);
}

struct Net {
  Tensor w0 = parameter({8, 16}, 0.3, "w0"), b0 = parameter({16}, 0.2, "b0"),
         w1 = parameter({16, 4}, 0.9, "w1");
  std::vector<Tensor> parameters() const { return {w0, b0, w1}; }
  Tensor loss(int step) const {
    const Tensor d = matmul(tanh(matmul(wave({8, 8}, step), w0) + b0), w1) - wave({8, 4}, step + 5);
    return mean(d * d);
  }
};

TEST(AutoCast, GradientsAreThoseOfFloat32WithinItsPrecision) {
  const Net a, b;
  a.loss(1).backward();
  {
    const auto_cast guard({.dtype = DType::kBFloat16});
    b.loss(1).backward();
  }
  for (size_t k = 0; k < 3; ++k) {
    const Tensor g = b.parameters()[k].grad(), e = a.parameters()[k].grad();
    EXPECT_EQ(g.dtype(), DType::kFloat32);
    const double distance = std::sqrt(sum((g - e) * (g - e)).item() / sum(e * e).item());
    EXPECT_LE(distance, 3e-2) << k;
    EXPECT_GT(distance, 0) << k;
  }
}

// One float32 training and one with a scaler: powers of two change nothing.
TEST(GradScaler, ScalesAndUnscales) {
  const Net a, b, c;
  optimizer::Momentum plain({.learning_rate = 0.1,
                             .parameters = a.parameters(),
                             .grad_clip = nn::ClipGradByGlobalNorm(0.5)});
  optimizer::Momentum fused({.learning_rate = 0.1,
                             .parameters = b.parameters(),
                             .grad_clip = nn::ClipGradByGlobalNorm(0.5)});
  optimizer::Momentum apart({.learning_rate = 0.1,
                             .parameters = c.parameters(),
                             .grad_clip = nn::ClipGradByGlobalNorm(0.5)});
  GradScaler s({.incr_every_n_steps = 3}), u({.incr_every_n_steps = 3});
  for (int i = 0; i < 8; ++i) {
    a.loss(i).backward();
    plain.step();
    plain.clear_grad();
    const Tensor scaled = s.scale(b.loss(i));
    scaled.backward();
    s.minimize(fused, scaled);
    fused.clear_grad();
    u.scale(c.loss(i)).backward();
    u.unscale_(apart);
    EXPECT_THROW(u.unscale_(apart), Error);
    u.step(apart);
    u.update();
    apart.clear_grad();
  }
  EXPECT_EQ(s.get_loss_scaling(), 65536 * 4.0);  // twice three good steps
  EXPECT_EQ(u.get_loss_scaling(), 65536 * 4.0);
  for (size_t k = 0; k < 3; ++k) {
    const Tensor e = a.parameters()[k];
    EXPECT_LE(max(abs(b.parameters()[k] - e)).item(), 1e-6);
    EXPECT_LE(max(abs(c.parameters()[k] - e)).item(), 1e-6);
  }
}

TEST(GradScaler, SkipsWhatIsNotFinite) {
  const Net net;
  optimizer::Adam adam({.learning_rate = 0.1, .parameters = net.parameters()});
  GradScaler scaler({.init_loss_scaling = 1024});
  const auto step = [&](float poison) {
    Array one(DType::kFloat32, Shape{});
    *one.as<float>() = poison;
    const Tensor scaled = scaler.scale(net.loss(0) * Tensor(one));
    scaled.backward();
    scaler.minimize(adam, scaled);
    adam.clear_grad();
  };
  step(1);
  step(1);
  const double before = sum(net.w0).item(), scale = scaler.get_loss_scaling();
  const int64_t plans = current_recorder().stats().plans;
  step(std::numeric_limits<float>::infinity());
  EXPECT_EQ(current_recorder().stats().plans, plans);  // the same plan, nothing was read
  EXPECT_EQ(sum(net.w0).item(), before);
  EXPECT_EQ(scaler.get_loss_scaling(), scale / 2);
  step(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(scaler.get_loss_scaling(), scale / 4);
  EXPECT_NEAR(adam.state_dict().tensors[2].second.item(), std::pow(0.9, 3), 1e-6);  // two steps
  step(1);
  EXPECT_NE(sum(net.w0).item(), before);
}

void expect_one_flush(bool cast, const GradScalerOptions& options) {
  const Net net;
  optimizer::AdamW adam({.learning_rate = 0.01,
                         .parameters = net.parameters(),
                         .grad_clip = nn::ClipGradByGlobalNorm(1)});
  GradScaler scaler(options);
  const auto step = [&](int i) {
    const auto_cast guard({.enable = cast, .dtype = DType::kBFloat16});
    const Tensor scaled = scaler.scale(net.loss(i));
    scaled.backward();
    scaler.minimize(adam, scaled);
    adam.clear_grad();
  };
  step(0);
  step(1);
  const auto before = current_recorder().stats();
  for (int i = 2; i < 7; ++i) step(i);
  EXPECT_EQ(current_recorder().stats().flushes, before.flushes + 5);
  EXPECT_EQ(current_recorder().stats().plans, before.plans);
  EXPECT_TRUE(scaler.is_enable());
}

TEST(GradScaler, AStepIsOneFlush) {
  if (eager_mode()) GTEST_SKIP() << "every operator is a flush of its own";
  expect_one_flush(false, {});
  expect_one_flush(true, {.init_loss_scaling = 128, .use_dynamic_loss_scaling = false});
}

TEST(GradScaler, StateAndBfloat16) {
  GradScaler a({.init_loss_scaling = 256, .incr_every_n_steps = 4}), b;
  const Net net;
  optimizer::SGD sgd({.learning_rate = 0.01, .parameters = net.parameters()});
  for (int i = 0; i < 6; ++i) {
    const Tensor scaled = a.scale(net.loss(i));
    scaled.backward();
    a.minimize(sgd, scaled);
    sgd.clear_grad();
  }
  b.load_state_dict(a.state_dict());
  EXPECT_EQ(b.state_dict(), a.state_dict());
  EXPECT_EQ(a.state_dict()[0].second, 512);
  EXPECT_EQ(a.state_dict()[5].second, 2);
  EXPECT_THROW(b.load_state_dict({}), Error);
  GradScaler off;
  const auto_cast guard({.dtype = DType::kBFloat16});
  const Tensor loss = net.loss(0);
  EXPECT_EQ(off.scale(loss).variable(), loss.variable());
  EXPECT_FALSE(off.is_enable());
}

struct Linear : nn::Layer {
  Tensor weight, bias;
  explicit Linear(const char* type) : Layer(type) {
    const nn::Initializer fill = [](const Shape& s, DType) { return wave(s, 0.4).numpy(); };
    weight = create_parameter("weight", {8, 4}, {}, fill);
    bias = create_parameter("bias", {4}, {}, fill, true);
  }
};

TEST(Decorate, HalfParametersWithMasters) {
  Linear linear("linear"), norm("batch_norm");
  nn::Layer model;
  model.add_sublayers("linear", linear, "norm", norm);
  optimizer::AdamW adam({.learning_rate = 0.001, .parameters = linear.parameters()});
  decorate(model, adam, {.dtype = DType::kBFloat16});
  EXPECT_EQ(linear.weight.dtype(), DType::kBFloat16);
  EXPECT_EQ(norm.weight.dtype(), DType::kFloat32);
  const double before = sum(linear.weight.astype(DType::kFloat32)).item();
  double first = 0, last = 0;
  for (int i = 0; i < 10; ++i) {
    const auto_cast guard({.level = Level::O2, .dtype = DType::kBFloat16});
    const Tensor y = matmul(wave({3, 8}, 1), linear.weight) + linear.bias;
    const Tensor loss = mean(y.astype(DType::kFloat32) * y.astype(DType::kFloat32));
    loss.backward();
    EXPECT_EQ(linear.weight.grad().dtype(), DType::kBFloat16);
    adam.step();
    adam.clear_grad();
    (i == 0 ? first : last) = loss.item();
  }
  EXPECT_LT(last, first);
  EXPECT_NE(sum(linear.weight.astype(DType::kFloat32)).item(), before);
  EXPECT_EQ(adam.state_dict().master_weights.size(), 2U);
}

}  // namespace
}  // namespace trireme::amp
