// Tensors: pending until read, kept while held, updated in place, plans found again.
#include "trireme/tensor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/call.h"
#include "runtime/recorder.h"
#include "trireme/autograd.h"
#include "trireme/ops.h"

namespace trireme {
namespace {

Tensor vec(const std::vector<float>& values) { return to_tensor(values); }
float at(const Tensor& t, int64_t i) { return t.numpy().as<float>()[i]; }

TEST(Tensor, ComputesWhenRead) {
  if (eager_mode()) GTEST_SKIP() << "nothing is pending in eager mode";
  const Tensor x = vec({1, 2, 3});
  const Tensor y = x * 2.0 + x;
  EXPECT_GT(current_recorder().pending(), 0U);
  EXPECT_EQ(at(y, 2), 9);
  EXPECT_EQ(current_recorder().pending(), 0U);
  EXPECT_EQ(sum(y).item(), 18);
}

TEST(Tensor, ErrorsComeAtTheCall) {
  const Tensor x = vec({1, 2, 3}), y = vec({1, 2});
  try {
    (void)(x + y);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("[add] shapes [3] and [2] do not broadcast"),
              std::string::npos);
  }
  EXPECT_EQ(sum(x).item(), 6);  // nothing is lost
}

TEST(Tensor, KeepsWhatIsHeld) {
  const Tensor x = vec({1, 2});
  Tensor held = x + 1.0;
  const Tensor y = exp(held) * 0.0 + held;
  EXPECT_EQ(at(y, 1), 3);
  current_recorder().flush();
  EXPECT_EQ(at(held, 0), 2);  // computed by the first flush
  EXPECT_EQ(current_recorder().pending(), 0U);
}

TEST(Tensor, FindsThePlanAgain) {
  if (eager_mode()) GTEST_SKIP() << "nothing is pending in eager mode";
  const auto step = [](float v) { return sum(exp(vec({v, 1})) * 3.0).item(); };
  (void)step(0);
  const int64_t plans = current_recorder().stats().plans;
  EXPECT_NEAR(step(1), 6 * std::exp(1.0), 1e-5);
  EXPECT_NEAR(step(0), 3 + 3 * std::exp(1.0), 1e-5);
  EXPECT_EQ(current_recorder().stats().plans, plans);
  (void)sum(exp(vec({1, 2, 3})) * 3.0).item();
  EXPECT_EQ(current_recorder().stats().plans, plans + 1);
}

TEST(Tensor, AnUpdateIsInPlace) {
  if (eager_mode()) GTEST_SKIP() << "nothing is pending in eager mode";
  Tensor w = vec({1, 2, 3, 4}).clone();
  (void)w.numpy();
  const void* before = w.numpy().data();
  w.set_value(w * 0.5);
  synchronize();
  EXPECT_EQ(w.numpy().data(), before);
  EXPECT_EQ(at(w, 3), 2);
  const Array seen = w.numpy();  // held by the host: must not change under it
  w.set_value(w * 0.5);
  EXPECT_EQ(at(w, 3), 1);
  EXPECT_EQ(seen.as<float>()[3], 2);
}

TEST(Tensor, OldValuesStayWithTheirHandles) {
  Tensor w = vec({1, 2});
  const Tensor before = w * 1.0 + 0.0, alias = w.detach();
  w.set_value(w + 10.0);
  const Tensor after = w + 0.0;
  EXPECT_EQ(at(before, 0), 1);
  EXPECT_EQ(at(after, 0), 11);
  EXPECT_EQ(at(alias, 0), 1);
  EXPECT_EQ(at(w, 1), 12);
}

TEST(Tensor, SetValueChecks) {
  Tensor w = vec({1, 2});
  EXPECT_THROW(w.set_value(vec({1, 2, 3})), Error);
}

TEST(Trace, MakesAProgramWithNamedConstants) {
  Tensor w = vec({1, 2});
  w.set_name("w");
  const auto graph = current_recorder().trace(
      {{DType::kFloat32, {2}, Layout::kPlain}}, {"x"},
      [&](const std::vector<Tensor>& in) { return std::vector<Tensor>{in[0] * w + 1.0}; });
  ASSERT_EQ(graph->inputs.size(), 1U);
  EXPECT_EQ(graph->inputs[0]->name, "x");
  ASSERT_EQ(graph->outputs.size(), 1U);
  bool found = false;
  for (const auto& n : graph->nodes)
    found = found || (constant_of(n->out()) && n->out()->name == "w");
  EXPECT_TRUE(found);
  EXPECT_EQ(sum(w).item(), 3);  // the tensor goes on as before
  EXPECT_THROW(current_recorder().trace({{DType::kFloat32, {2}, Layout::kPlain}}, {"x"},
                                        [&](const std::vector<Tensor>& in) {
                                          (void)in[0].numpy();
                                          return in;
                                        }),
               Error);
  EXPECT_EQ(sum(w).item(), 3);
}

TEST(Tensor, Prints) {
  EXPECT_EQ(vec({1, 2.5F}).str(),
            "Tensor(shape=[2], dtype=float32, place=cpu, stop_gradient=True,\n[1, 2.5])");
}

TEST(Tensor, ADeviceThatIsNotThereIsAnError) {
  EXPECT_THROW(set_device("gpu:7"), Error);
  EXPECT_THROW(set_device("tpu"), Error);
  EXPECT_EQ(get_device(), "cpu");
}

}  // namespace
}  // namespace trireme
