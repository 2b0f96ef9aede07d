// Plans: the same numbers whatever the passes did, few kernels, little memory, shared packed
// weights, a hard cap.
#include "runtime/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/parallel.h"
#include "graph/text.h"
#include "ops/anchor.h"
#include "passes/pass.h"
#include "runtime/model_cache.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

std::string graph_of(const fs::path& file) {
  std::ifstream in(file);
  std::string line, text;
  for (bool inside = false; std::getline(in, line);) {
    if (line == "--- expected") break;
    if (inside) text += line + '\n';
    inside = inside || line == "--- input";
  }
  return text;
}

std::vector<Array> inputs_for(const Graph& graph) {
  std::vector<Array> tensors;
  uint32_t state = 7;
  for (const Value* v : graph.inputs) {
    Array t(DType::kFloat32, v->type.shape);
    for (int64_t i = 0; i < t.numel(); ++i) {
      state = state * 1664525u + 1013904223u;
      t.as<float>()[i] =
          static_cast<float>(state >> 8) * 0x1p-24f + 0.05f;  // positive: graphs may take roots
    }
    tensors.push_back(t.to(v->type.dtype));
  }
  return tensors;
}

std::vector<Array> run(const Plan& plan, const std::vector<Array>& inputs) {
  std::vector<Array> outputs;
  std::vector<void*> in, out;
  for (const Array& t : inputs) in.push_back(const_cast<void*>(t.data()));
  for (const Value* v : plan.graph().outputs) {
    outputs.emplace_back(v->type.dtype, v->type.shape);
    out.push_back(outputs.back().data());
  }
  const Array arena(DType::kUInt8, Shape{plan.arena_bytes()});
  plan.run(in, out, const_cast<char*>(arena.as<char>()));
  return outputs;
}

std::unique_ptr<Plan> planned(const std::string& text, DType precision, std::string_view last,
                              ModelCache* cache = nullptr) {
  auto graph = parse_graph(text);
  run_passes(*graph, PassContext{cpu_target(), cache, precision}, last);
  return std::make_unique<Plan>(std::move(graph), cache);
}

double largest_difference(const Array& a, const Array& b) {
  const Array x = a.to(DType::kFloat64), y = b.to(DType::kFloat64);
  double largest = 0;
  for (int64_t i = 0; i < x.numel(); ++i)
    largest = std::max(largest, std::abs(x.as<double>()[i] - y.as<double>()[i]) /
                                    std::max(1.0, std::abs(y.as<double>()[i])));
  return largest;
}

class SameNumbers : public testing::TestWithParam<std::string> {};

TEST_P(SameNumbers, WhateverThePassesDid) {
  const std::string text =
      graph_of(fs::path(TRIREME_SOURCE_DIR) / "tests/passes" / (GetParam() + ".graph"));
  const auto plain = planned(text, DType::kFloat32, "record");
  const std::vector<Array> inputs = inputs_for(plain->graph());
  const std::vector<Array> expected = run(*plain, inputs);
  for (const Pass& p : passes()) {
    const std::vector<Array> results = run(*planned(text, DType::kFloat32, p.name), inputs);
    ASSERT_EQ(results.size(), expected.size());
    for (size_t k = 0; k < results.size(); ++k) {
      const double rounding = size_of(expected[k].dtype()) == 2 ? 2e-3 : 2e-5;
      EXPECT_LT(largest_difference(results[k], expected[k]), rounding)
          << "output " << k << " after " << p.name;
    }
  }
}

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& e : fs::directory_iterator(fs::path(TRIREME_SOURCE_DIR) / "tests/passes"))
    if (e.path().extension() == ".graph") names.push_back(e.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}
INSTANTIATE_TEST_SUITE_P(Files, SameNumbers, testing::ValuesIn(cases()),
                         [](const auto& i) { return i.param; });

constexpr const char* kNet = R"(
graph(%x: float32[1, 16, 32, 32]) {
  %d: float32[16, 1, 3, 3] = constant "d"
  %w: float32[32, 16, 1, 1] = constant "w"
  %s: float32[32] = constant 2
  %b: float32[32] = constant 0.5
  %m: float32[32] = constant 0.25
  %v: float32[32] = constant 1
  %0: float32[1, 16, 32, 32] = conv2d(%x, %d) {paddings=[1, 1, 1, 1], groups=16}
  %1: float32[1, 16, 32, 32] = hardswish(%0)
  %2: float32[1, 32, 32, 32] = conv2d(%1, %w)
  %3: float32[1, 32, 32, 32] = batch_norm(%2, %s, %b, %m, %v)
  %4: float32[1, 32, 32, 32] = relu(%3)
  return %4
})";

// What is added is also what is multiplied: the result must not take over its memory.
TEST(Plan, AConvolutionAddedToItsOwnInput) {
  const std::string nets[] = {R"(
graph(%x: float32[2, 96, 12, 20]) {
  %w: float32[96, 96, 1, 1] = constant "w"
  %0: float32[2, 96, 12, 20] = tanh(%x)
  %1: float32[2, 96, 12, 20] = conv2d(%0, %w)
  %2: float32[2, 96, 12, 20] = add(%1, %0)
  %3: float32[2, 96, 12, 20] = relu(%2)
  return %3
})",
                              R"(
graph(%x: float32[2, 96, 12, 20]) {
  %d: float32[96, 1, 3, 3] = constant "d"
  %w: float32[96, 96, 1, 1] = constant "w"
  %0: float32[2, 96, 12, 20] = tanh(%x)
  %1: float32[2, 96, 12, 20] = conv2d(%0, %d) {paddings=[1, 1, 1, 1], groups=96}
  %2: float32[2, 96, 12, 20] = hardswish(%1)
  %3: float32[2, 96, 12, 20] = conv2d(%2, %w)
  %4: float32[2, 96, 12, 20] = add(%3, %0)
  return %4
})",
                              R"(
graph(%x: float32[240, 128]) {
  %w: float32[128, 128] = constant "w"
  %0: float32[240, 128] = tanh(%x)
  %1: float32[240, 128] = matmul(%0, %w)
  %2: float32[240, 128] = add(%1, %0)
  %3: float32[240, 128] = relu(%2)
  return %3
})"};
  for (const std::string& net : nets) {
    const auto plain = planned(net, DType::kFloat32, "record");
    const std::vector<Array> inputs = inputs_for(plain->graph());
    const auto plan = planned(net, DType::kFloat32, {});
    EXPECT_LT(largest_difference(run(*plan, inputs)[0], run(*plain, inputs)[0]), 2e-5) << net;
  }
}

TEST(Plan, FusesADepthwiseBlockIntoOneKernel) {
  if (!cpu::cpu_supports(DType::kFloat32)) GTEST_SKIP() << "needs AVX-512";
  EXPECT_EQ(planned(kNet, DType::kFloat32, {})->kernels(), 3);  // in, the block, out
}

TEST(Plan, SharesMemoryBetweenValuesThatNeverMeet) {
  const auto plan = planned(kNet, DType::kFloat32, "record");
  EXPECT_LE(plan->planned_peak_bytes(), plan->intermediate_bytes() * 6 / 10);
}

// The gradient of a normalization lies where its input dies: at the worst moment of a deep network.
TEST(Plan, TheGradientOfLayerNormTakesTheMemoryOfItsInput) {
  const auto text = [](const char* results) {
    return std::string(R"(
graph(%x: float32[9, 40], %s: float32[40], %g: float32[9, 40]) {
  %h: float32[9, 40] = exp(%x)
  %dx: float32[9, 40], %ds: float32[40], %db: float32[40] = layer_norm_grad(%h, %s, %g) {axis=1}
  %y: float32[9, 40] = tanh(%dx)
  return )") +
           results + "\n}";
  };
  const auto plan = planned(text("%y, %ds, %db"), DType::kFloat32, "record");
  const auto apart = planned(text("%y, %ds, %db, %h"), DType::kFloat32, "record");
  EXPECT_EQ(plan->planned_peak_bytes(), 0);  // all in the memory of %y
  const std::vector<Array> inputs = inputs_for(plan->graph());
  const std::vector<Array> got = run(*plan, inputs), want = run(*apart, inputs);
  for (size_t k = 0; k < got.size(); ++k) EXPECT_EQ(largest_difference(got[k], want[k]), 0) << k;
}

TEST(Plan, PacksWeightsOnceForAllItsShapes) {
  const auto pool = std::make_shared<MemoryPool>();
  SharedCache cache(pool);
  (void)planned(kNet, DType::kFloat32, {}, &cache);
  const int64_t once = cache.bytes();
  EXPECT_GT(once, 0);
  // Constants of a parsed text are new memory each time, so the second plan must come from the same
  // graph.
  auto graph = parse_graph(kNet);
  auto copy = copy_graph(*graph);
  const PassContext context{cpu_target(), &cache, DType::kFloat32};
  run_passes(*graph, context);
  const Plan first(std::move(graph), &cache);
  const int64_t before = cache.bytes();
  run_passes(*copy, context);
  const Plan second(std::move(copy), &cache);
  EXPECT_EQ(cache.bytes(), before);
}

TEST(Plan, RunsInManyThreadsAtOnce) {
  const auto plan = planned(kNet, DType::kFloat32, {});
  const std::vector<Array> inputs = inputs_for(plan->graph());
  const Array expected = run(*plan, inputs)[0];
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      set_num_threads(1);
      for (int i = 0; i < 5; ++i)
        wrong += largest_difference(run(*plan, inputs)[0], expected) > 1e-6;
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(MemoryPool, RefusesOverTheCapAndGoesOn) {
  const auto pool = std::make_shared<MemoryPool>(int64_t{8} << 20);
  const Block small(pool, 1 << 20, "a small arena");
  try {
    const Block large(pool, 64 << 20, "a large arena");
    FAIL() << "over the cap";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kResourceExhausted);
    EXPECT_NE(e.message().find("a large arena"), std::string::npos) << e.message();
    EXPECT_NE(e.message().find("8388608"), std::string::npos) << e.message();
  }
  const Block next(pool, 4 << 20, "the next one");
  EXPECT_EQ(pool->used(), 6 << 20);
}

}  // namespace
}  // namespace trireme
