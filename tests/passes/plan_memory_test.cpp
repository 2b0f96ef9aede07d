// plan_memory: a result that the target lets take over an input's memory, and when it must not.
#include <gtest/gtest.h>

#include "ops/anchor.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "passes/pass.h"

namespace trireme {
namespace {

// A target whose products may write over their right side.
class Overwriting : public Target {
 public:
  bool fuses(const std::vector<const Node*>& /*nodes*/) const override { return false; }
  Layout input_layout(const Node& /*anchor*/) const override { return Layout::kPlain; }
  int overwrites(const Node& n) const override { return n.op == &ops::matmul_op ? 1 : -1; }
};

struct Products {
  Graph graph;
  BuilderScope scope{graph};
  Value* x = graph.add_input({DType::kFloat32, {8, 8}, Layout::kPlain});
  Value *a = ops::relu(x), *b = ops::tanh(x);

  Overwriting target;

  const Value* memory_of(const Value* v) { return plan_memory(graph, &target).root.at(v); }
};

TEST(PlanMemory, AResultTakesOverWhatTheTargetNames) {
  Products p;
  Value* y = ops::matmul(p.a, p.b);
  p.graph.outputs = {ops::sigmoid(y)};
  EXPECT_EQ(p.memory_of(y), p.memory_of(p.b));
  EXPECT_NE(p.memory_of(y), p.memory_of(p.a));
  EXPECT_EQ(plan_memory(p.graph).root.at(y), y) << "no target, no promise";
}

TEST(PlanMemory, NotWhileItIsReadLater) {
  Products p;
  Value* y = ops::matmul(p.a, p.b);
  p.graph.outputs = {ops::add(ops::sigmoid(y), p.b)};
  EXPECT_NE(p.memory_of(y), p.memory_of(p.b));
}

TEST(PlanMemory, NotWhenTheNodeReadsItTwice) {
  Products p;
  Value* y = ops::matmul(p.b, p.b);
  p.graph.outputs = {ops::add(ops::sigmoid(y), p.a)};
  EXPECT_NE(p.memory_of(y), p.memory_of(p.b));
}

TEST(PlanMemory, NotWhenItIsOfAnotherSize) {
  Products p;
  Value* wide = ops::tanh(p.graph.add_input({DType::kFloat32, {8, 16}, Layout::kPlain}));
  Value* tall = ops::tanh(p.graph.add_input({DType::kFloat32, {16, 8}, Layout::kPlain}));
  Value* y = ops::matmul(wide, tall);
  p.graph.outputs = {ops::sigmoid(y)};
  EXPECT_NE(p.memory_of(y), p.memory_of(tall));
}

}  // namespace
}  // namespace trireme
