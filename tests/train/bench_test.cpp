// bench(): every network, precision and shape makes steps that are one plan, with sound figures.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "runtime/call.h"
#include "trireme/error.h"
#include "trireme/trainer.h"

namespace trireme::train {
namespace {

// `plans`: the most there may be; with TRIREME_EAGER=1 each operator has one.
BenchResult run(BenchOptions o, int64_t plans = 4) {
  if (o.batch == 0) o.batch = 2;
  o.steps = 2;
  const BenchResult r = bench(o);
  EXPECT_EQ(r.steps, 2);
  EXPECT_GT(r.samples_per_s, 0);
  EXPECT_GE(r.best_samples_per_s, r.samples_per_s);
  EXPECT_GT(r.step_ms, 0);
  EXPECT_GT(r.kernels, 0);
  EXPECT_TRUE(r.planned_peak_bytes > 0 || eager_mode());  // whose last plan is one operator
  EXPECT_GE(r.intermediate_bytes, r.planned_peak_bytes / 2);
  EXPECT_GE(r.arena_bytes, r.planned_peak_bytes);
  EXPECT_GT(r.parameter_bytes, 0);
  EXPECT_TRUE(std::isfinite(r.loss)) << r.loss;
  EXPECT_GE(r.loss, 0);
  EXPECT_TRUE(r.plans <= plans || eager_mode()) << r.plans << " plans: not one a step";
  return r;
}

std::string message_of(const BenchOptions& o) {
  try {
    (void)bench(o);
  } catch (const Error& e) { return e.message(); }
  return "nothing was thrown";
}

TEST(TrainBench, StepsOfEachNetworkAreOnePlan) {
  const std::vector<BenchOptions> all = {{.network = "lenet"},
                                         {.network = "resnet18", .shape = {3, 32, 32}},
                                         {.network = "resnet50", .shape = {3, 32, 32}},
                                         {.network = "encoder", .shape = {8}},
                                         {.network = "crnn", .batch = 1, .shape = {3, 32, 96}}};
  for (const BenchOptions& o : all) {
    SCOPED_TRACE(o.network);
    EXPECT_TRUE(run(o).table.empty());
  }
}

TEST(TrainBench, SlowBertBaseTakesShortAndLongTexts) {
  const BenchResult r = run({.network = "bert_base", .batch = 1, .shape = {4}});
  EXPECT_GT(r.parameter_bytes, int64_t{400} << 20);
}

TEST(TrainBench, MixedPrecision) {
  for (const char* level : {"O1", "O2"}) {
    SCOPED_TRACE(level);
    for (const BenchOptions& net : {BenchOptions{.network = "lenet"},
                                    {.network = "encoder", .shape = {8}},
                                    {.network = "crnn", .batch = 1, .shape = {3, 32, 96}},
                                    {.network = "resnet18", .shape = {3, 32, 32}}}) {
      BenchOptions o = net;
      o.amp = level;
      SCOPED_TRACE(o.network);
      (void)run(o);
    }
    // With its loss scale; products go by way of float32.
    (void)run({.network = "lenet", .amp = level, .dtype = "float16"}, 6);
  }
}

TEST(TrainBench, ProfileNamesTheKernels) {
  const BenchResult r = run({.network = "lenet", .profile = true});
  EXPECT_NE(r.table.find("conv2d_wgrad"), std::string::npos) << r.table;
  EXPECT_NE(r.table.find("momentum"), std::string::npos);
  EXPECT_GT(r.host_ms, 0);
}

TEST(TrainBench, RefusesWhatThereIsNot) {
  EXPECT_EQ(message_of({.network = "lenet5"}),
            "[bench] --train expects one of bert_base, crnn, encoder, lenet, resnet18, resnet50, "
            "got lenet5");
  EXPECT_EQ(message_of({.network = "lenet", .shape = {28, 28}}),
            "[bench] lenet expects a --shape like [1, 28, 28], got [28, 28]");
  EXPECT_EQ(message_of({.network = "lenet", .amp = "O3"}),
            "[bench] amp expects O0, O1 or O2, got O3");
  EXPECT_EQ(message_of({.network = "lenet", .amp = "O1", .dtype = "tf32"}),
            "[bench] tf32 is a precision of GPUs; cpu has float32, bfloat16, float16");
}

}  // namespace
}  // namespace trireme::train
