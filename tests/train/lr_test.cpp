// Learning rates against 40 values of each of Paddle's schedulers.
#include "trireme/lr.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/data.h"
#include "trireme/error.h"

namespace trireme::optimizer::lr {
namespace {

using Json = nlohmann::json;

LRScheduler make(const Json& test) {
  const auto kind = test["scheduler"].get<std::string>();
  const Json& a = test["args"];
  const auto number = [&](const char* name, double otherwise) {
    return a.contains(name) ? a[name].get<double>() : otherwise;
  };
  const auto count = [&](const char* name) { return a.at(name).get<int64_t>(); };
  const double rate = a.contains("learning_rate") && a["learning_rate"].is_number()
                          ? a["learning_rate"].get<double>()
                          : 0;
  if (kind == "NoamDecay") return NoamDecay(count("d_model"), count("warmup_steps"), rate);
  if (kind == "ExponentialDecay") return ExponentialDecay(rate, a["gamma"]);
  if (kind == "NaturalExpDecay") return NaturalExpDecay(rate, a["gamma"]);
  if (kind == "InverseTimeDecay") return InverseTimeDecay(rate, a["gamma"]);
  if (kind == "PolynomialDecay")
    return PolynomialDecay(rate, count("decay_steps"), a["end_lr"], a["power"], a["cycle"]);
  if (kind == "LinearWarmup") {
    if (a["learning_rate"].is_object())
      return LinearWarmup(make(a["learning_rate"]), count("warmup_steps"), a["start_lr"],
                          a["end_lr"]);
    return LinearWarmup(rate, count("warmup_steps"), a["start_lr"], a["end_lr"]);
  }
  if (kind == "PiecewiseDecay") return PiecewiseDecay(a["boundaries"], a["values"]);
  if (kind == "CosineAnnealingDecay")
    return CosineAnnealingDecay(rate, count("T_max"), number("eta_min", 0));
  if (kind == "StepDecay") return StepDecay(rate, count("step_size"), a["gamma"]);
  if (kind == "MultiStepDecay") return MultiStepDecay(rate, a["milestones"], a["gamma"]);
  if (kind == "OneCycleLR")
    return OneCycleLR({.max_learning_rate = a["max_learning_rate"],
                       .total_steps = count("total_steps"),
                       .divide_factor = a["divide_factor"],
                       .end_learning_rate = a["end_learning_rate"],
                       .phase_pct = a["phase_pct"],
                       .anneal_strategy = a["anneal_strategy"],
                       .three_phase = a["three_phase"]});
  if (kind == "CyclicLR")
    return CyclicLR({.base_learning_rate = a["base_learning_rate"],
                     .max_learning_rate = a["max_learning_rate"],
                     .step_size_up = count("step_size_up"),
                     .step_size_down = a.contains("step_size_down") ? count("step_size_down") : 0,
                     .mode = a["mode"],
                     .exp_gamma = number("exp_gamma", 1)});
  if (kind == "LinearLR")
    return LinearLR(rate, count("total_steps"), a["start_factor"], a["end_factor"]);
  if (kind == "CosineAnnealingWarmRestarts")
    return CosineAnnealingWarmRestarts(rate, count("T_0"), count("T_mult"), a["eta_min"]);
  ADD_FAILURE() << "no scheduler " << kind;
  return {};
}

void expect_rate(double got, const Json& expected, int step) {
  const auto e = expected.get<double>();
  EXPECT_LE(std::abs(got - e), 1e-12 * std::abs(e) + 1e-300) << "step " << step << ": " << got;
}

Json goldens() {
  return Json::parse(std::ifstream(test::data_folder() / "train_golden/lr_schedules.json"));
}

TEST(Lr, AsInPaddle) {
  TRI_NEEDS_DATA("train_golden/lr_schedules.json");
  const Json all = goldens();
  int tested = 0;
  for (const Json& c : all["cases"]) {
    SCOPED_TRACE(c["scheduler"].get<std::string>() + c["args"].dump());
    const Json& expected = c["lr"];
    if (c["scheduler"] == "ReduceOnPlateau") {
      ReduceOnPlateau s(c["args"]["learning_rate"],
                        {.factor = c["args"]["factor"], .patience = c["args"]["patience"]});
      for (size_t i = 0; i < expected.size(); ++i) {
        expect_rate(s(), expected[i], static_cast<int>(i));
        if (i < all["ReduceOnPlateau_metrics"].size()) s.step(all["ReduceOnPlateau_metrics"][i]);
      }
    } else {
      LRScheduler s = make(c);
      for (size_t i = 0; i < expected.size(); ++i) {
        expect_rate(s(), expected[i], static_cast<int>(i));
        if (i + 1 < expected.size()) s.step();
      }
    }
    ++tested;
  }
  EXPECT_EQ(tested, 20);
}

TEST(Lr, GoesOnFromItsState) {
  TRI_NEEDS_DATA("train_golden/lr_schedules.json");
  const Json all = goldens();
  for (const Json& c : all["cases"]) {
    if (c["scheduler"] == "ReduceOnPlateau") continue;
    SCOPED_TRACE(c["scheduler"].get<std::string>() + c["args"].dump());
    LRScheduler first = make(c), second = make(c);
    for (int i = 0; i < 17; ++i) first.step();
    second.set_state_dict(first.state_dict());
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(first(), second()) << i;
      first.step();
      second.step();
    }
  }
}

TEST(Lr, PlateauGoesOnFromItsState) {
  ReduceOnPlateau first(1, {.factor = 0.5, .patience = 2}),
      second = ReduceOnPlateau(1, {.factor = 0.5, .patience = 2});
  first.step(3.0);
  first.step(4.0);
  first.step(4.0);
  second.set_state_dict(first.state_dict());
  for (const double m : {4.0, 2.0, 3.0, 3.0, 3.0}) {
    first.step(m);
    second.step(m);
    EXPECT_EQ(first(), second());
  }
  EXPECT_EQ(first(), 0.25);
}

TEST(Lr, FunctionsOfTheUser) {
  LambdaDecay a(0.5, [](int64_t t) { return 1.0 / (1 + static_cast<double>(t)); });
  MultiplicativeDecay b(0.5, [](int64_t) { return 0.95; });
  a.step();
  b.step();
  b.step();
  EXPECT_EQ(a(), 0.25);
  EXPECT_DOUBLE_EQ(b(), 0.5 * 0.95 * 0.95);
}

TEST(Lr, CopiesAreTheSameScheduler) {
  StepDecay a(1, 1, 0.5);
  LRScheduler b = a;
  a.step();
  EXPECT_EQ(b(), 0.5);
}

TEST(Lr, ChecksItsArguments) {
  EXPECT_THROW(StepDecay(0.1, 0), Error);
  EXPECT_THROW(StepDecay(-0.1, 3), Error);
  EXPECT_THROW(LinearWarmup(0.1, 5, 0.2, 0.1), Error);
  EXPECT_THROW(PiecewiseDecay({}, {0.1}), Error);
  EXPECT_THROW(MultiStepDecay(0.1, {5, 3}), Error);
  StepDecay a(0.1, 3);
  EXPECT_THROW(a.set_state_dict({{"last_epoch", 3}}), Error);
}

}  // namespace
}  // namespace trireme::optimizer::lr
