// Autograd: what flows back, what is kept, what is let go.
#include "trireme/autograd.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/call.h"
#include "runtime/recorder.h"
#include "trireme/ops.h"

namespace trireme {
namespace {

Tensor leaf(const std::vector<float>& values) {
  Tensor t = to_tensor(values);
  t.set_stop_gradient(false);
  return t;
}
float at(const Tensor& t, int64_t i) { return t.numpy().as<float>()[i]; }

template <class F> std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return {};
}

TEST(Autograd, ChainsAndSums) {
  const Tensor x = leaf({1, 2, 3});
  sum(x * x * 2.0 + x).backward();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(at(x.grad(), i), 4.0F * static_cast<float>(i + 1) + 1);
}

TEST(Autograd, Accumulates) {
  Tensor x = leaf({1, 2});
  sum(x * 3.0).backward();
  (void)x.grad().numpy();
  sum(x * 4.0).backward();
  EXPECT_EQ(at(x.grad(), 1), 7);
  x.clear_gradient();
  EXPECT_FALSE(x.grad().defined());
}

TEST(Autograd, AFlushBetweenForwardAndBackwardLosesNothing) {
  const Tensor w = leaf({0.5F, -1});
  const Tensor loss = sum(exp(w * 2.0));
  const double seen = loss.item();
  EXPECT_NEAR(seen, std::exp(1.0) + std::exp(-2.0), 1e-6);
  loss.backward();
  EXPECT_NEAR(at(w.grad(), 0), 2 * std::exp(1.0), 1e-5);
  EXPECT_NEAR(at(w.grad(), 1), 2 * std::exp(-2.0), 1e-6);
}

TEST(Autograd, IntermediateValuesAreNotKept) {
  if (eager_mode()) GTEST_SKIP() << "nothing is pending in eager mode";
  const Tensor w = leaf({1, 2});
  const Tensor loss = sum(exp(exp(w)));
  loss.backward();
  (void)w.grad().numpy();
  EXPECT_EQ(current_recorder().last_plan()->graph().outputs.size(), 2U);  // the loss, w's gradient
}

TEST(Autograd, TheHistoryIsLetGo) {
  const Tensor x = leaf({1});
  const Tensor y = exp(x);
  y.backward();
  EXPECT_NE(error_of([&] { y.backward(); }).find("retain_graph"), std::string::npos);
  const Tensor z = exp(x);
  z.backward({}, true);
  z.backward();
  EXPECT_NEAR(at(x.grad(), 0), 3 * std::exp(1.0), 1e-5);
}

TEST(Autograd, AFailedFlushPoisonsWhatWasPending) {
  if (eager_mode()) GTEST_SKIP() << "nothing is pending in eager mode";
  static const Op broken{.name = "broken",
                         .infer = [](const Infer& i) { i.out(i.dtype(0), i.shape(0)); },
                         .cpu = [](const Prepare&) -> Kernel {
                           fail(Code::kResourceExhausted, "[broken] no memory");
                         }};
  const Tensor x = leaf({1, 2});
  const Tensor bad = call([](Value* v) { return record1(broken, {v}); }, x);
  const Tensor other = x * 2.0;
  EXPECT_NE(error_of([&] { (void)other.numpy(); }).find("no memory"), std::string::npos);
  EXPECT_NE(error_of([&] { (void)bad.numpy(); }).find("no memory"), std::string::npos);
  EXPECT_NE(error_of([&] { (void)(bad + 1.0); }).find("no memory"), std::string::npos);
  EXPECT_EQ(at(x, 1), 2);  // leaves and what is recorded from now on are well
  EXPECT_EQ(at(x * 3.0, 1), 6);
}

TEST(Autograd, AStateUpdatedTwiceBeforeAFlushKeepsWhatTheHistoryReads) {
  const Tensor w = leaf({3, 4});
  Tensor state = to_tensor(std::vector<float>{1, 2});
  const Tensor y = w * state;
  state.set_value(state + 1.0);
  const Tensor z = w * state;
  state.set_value(state + 1.0);
  EXPECT_EQ(at(state, 0), 3);  // a flush
  sum(y + z).backward();
  EXPECT_EQ(at(w.grad(), 0), 3);
  EXPECT_EQ(at(w.grad(), 1), 5);
}

TEST(Autograd, StopsWhereItIsTold) {
  const Tensor x = leaf({2});
  const Tensor y = x * x;
  sum(y.detach() * x).backward();
  EXPECT_EQ(at(x.grad(), 0), 4);
  {
    const no_grad guard;
    EXPECT_TRUE((x * 2.0).stop_gradient());
    const enable_grad inner;
    EXPECT_FALSE((x * 2.0).stop_gradient());
  }
  EXPECT_NE(error_of([&] { y.detach().backward(); }).find("stop_gradient"), std::string::npos);
  EXPECT_NE(error_of([&] {
              (leaf({1, 2}) * 1.0).backward();
            }).find("one element"),
            std::string::npos);
}

TEST(Grad, OfAnyTensors) {
  const Tensor x = leaf({3}), unused = leaf({1});
  const Tensor y = x * x, z = y * y;
  const std::vector<Tensor> g = grad({z}, {y, x}, {.retain_graph = true});
  EXPECT_EQ(at(g[0], 0), 18);
  EXPECT_EQ(at(g[1], 0), 108);
  EXPECT_FALSE(x.grad().defined());
  EXPECT_NE(error_of([&] { grad({z}, {unused}, {.retain_graph = true}); }).find("allow_unused"),
            std::string::npos);
  EXPECT_FALSE(grad({z}, {unused}, {.allow_unused = true})[0].defined());
}

TEST(Grad, OfGradients) {
  const Tensor x = leaf({2});
  const Tensor y = x * x * x;
  const Tensor first = grad({y}, {x}, {.create_graph = true})[0];
  const Tensor second = grad({first}, {x}, {.create_graph = true})[0];
  const Tensor third = grad({second}, {x})[0];
  EXPECT_EQ(at(first, 0), 12);
  EXPECT_EQ(at(second, 0), 12);
  EXPECT_EQ(at(third, 0), 6);
}

TEST(Hooks, SeeAndChangeGradients) {
  const Tensor x = leaf({1, 2});
  Tensor y = x * 2.0;
  float seen = 0;
  register_hook(y, [&](const Tensor& g) {
    seen = at(g, 0);  // reading flushes in the middle of the walk
    return g * 10.0;
  });
  register_hook(x, [](const Tensor& g) { return g + 1.0; });
  y.retain_grads();
  sum(y * 3.0).backward();
  EXPECT_EQ(seen, 3);
  EXPECT_EQ(at(y.grad(), 0), 30);
  EXPECT_EQ(at(x.grad(), 1), 61);
}

struct Cube : PyLayer {
  std::vector<Tensor> forward(const std::vector<Tensor>& in) override {
    save_for_backward({in[0]});
    return {in[0] * in[0] * in[0]};
  }
  std::vector<Tensor> backward(const std::vector<Tensor>& g) override {
    const Tensor x = saved_tensor()[0];
    return {g[0] * x * x * 3.0};
  }
};

TEST(PyLayer, HasItsOwnBackward) {
  const Tensor x = leaf({2});
  const Tensor y = PyLayer::apply<Cube>({x * 1.0})[0];
  sum(y * 2.0).backward();
  EXPECT_EQ(at(y, 0), 8);
  EXPECT_EQ(at(x.grad(), 0), 24);
}

TEST(Recompute, GivesTheSameGradientsAndKeepsLess) {
  const Tensor w = leaf({0.5F, 0.25F});
  const auto deep = [&](const std::vector<Tensor>& in) {
    Tensor h = in[0];
    for (int i = 0; i < 6; ++i) h = tanh(h * w + 0.1);
    return std::vector<Tensor>{h};
  };
  const Tensor x = leaf({1, 2});
  sum(deep({x})[0]).backward();
  const Array want = w.grad().numpy(), want_x = x.grad().numpy();
  Tensor(w).clear_gradient();
  Tensor(x).clear_gradient();
  sum(recompute(deep, {x})[0]).backward();
  EXPECT_EQ(at(w.grad(), 0), want.as<float>()[0]);
  EXPECT_EQ(at(w.grad(), 1), want.as<float>()[1]);
  EXPECT_EQ(at(x.grad(), 1), want_x.as<float>()[1]);
}

}  // namespace
}  // namespace trireme
