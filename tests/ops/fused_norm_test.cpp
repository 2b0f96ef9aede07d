// What the pass fuse_norm makes gives the numbers of what it was made of: forward and gradients of
// small nets, on the CPU with a GPU's passes.
#include <cmath>

#include "base/switches.h"
#include "ops/batch_norm_fused.h"
#include "ops/conv.h"
#include "ops/cuda_target.h"
#include "ops/grad_test.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "passes/gradient.h"
#include "passes/pass.h"
#include "support/run_plan.h"

namespace trireme::test {
namespace {

using Values = std::vector<Value*>;

// The results, and the gradients by all inputs but the statistics, in one graph.
std::unique_ptr<Graph> recorded(const Record& record, const std::vector<Array>& inputs) {
  auto graph = std::make_unique<Graph>();
  graph->fold_below = 0;
  const BuilderScope scope(*graph);
  Values values;
  for (const Array& t : inputs) values.push_back(graph->add_input({t.dtype(), t.shape()}));
  graph->outputs = record(values);
  // Not all ones: the incoming gradient is the result itself, moved.
  const Values out_grads{ops::affine(graph->outputs[0], 0.7, 0.1)};
  const Values wrt(values.begin() + 2, values.end());
  for (Value* g : gradients(std::span(graph->outputs).first(1), out_grads, wrt))
    if (g) graph->outputs.push_back(g);
  return graph;
}

int count(const Graph& graph, const Op& op) {
  int n = 0;
  for (const auto& node : graph.nodes) n += node->op == &op;
  return n;
}

// Inputs: mean, variance, x, scale, bias, weights of a convolution in front, residual.
void check(const Record& record, const Shape& x, const Op& forward, const Op& backward,
           int fused = 1) {
  SCOPED_TRACE(x.str());
  const Shape c{x[1]};
  const std::vector<Array> inputs{noise(c, 1), noise(c, 2, 0.5, 2), noise(x, 3),
                                  noise(c, 4), noise(c, 5),         noise({x[1], x[1], 1, 1}, 7),
                                  noise(x, 6)};
  const std::vector<Array> want = run_on(find_device("cpu"), recorded(record, inputs), inputs);
  auto graph = recorded(record, inputs);
  run_passes(*graph, PassContext{cuda_target()}, "fuse_norm");
  EXPECT_EQ(count(*graph, forward), fused);
  EXPECT_EQ(count(*graph, backward), fused);
  EXPECT_EQ(count(*graph, ops::batch_norm_train_op) + count(*graph, ops::batch_norm_grad_op), 0);
  const std::vector<Array> got = run_on(find_device("cpu"), std::move(graph), inputs);
  for (size_t k = 0; k < want.size(); ++k) {
    double largest = 0;
    for (const double v : doubles_of(want[k])) largest = std::max(largest, std::abs(v));
    expect_near(got[k], doubles_of(want[k]), 2e-5 * largest, 0, "result " + std::to_string(k));
  }
}

Value* norm(const Values& v) {
  return ops::batch_norm_train(v[0], v[1], ops::conv2d(v[2], v[5], nullptr, {}), v[3], v[4], 0.9,
                               1e-5)[2];
}

TEST(FuseNorm, ReluGivesTheSameNumbers) {
  const Record relu = [](const Values& v) { return Values{ops::relu(norm(v))}; };
  for (const Shape& x : {Shape{2, 8, 5, 4}, Shape{3, 7, 3, 3}})
    check(relu, x, ops::fused_batch_norm_act_op, ops::fused_batch_norm_act_grad_op);
}

TEST(FuseNorm, ResidualGivesTheSameNumbers) {
  const Record added = [](const Values& v) { return Values{ops::relu(ops::add(v[6], norm(v)))}; };
  for (const Shape& x : {Shape{2, 8, 5, 4}, Shape{3, 7, 3, 3}})
    check(added, x, ops::fused_bn_add_activation_op, ops::fused_bn_add_activation_grad_op);
}

TEST(FuseNorm, PoolingGivesTheSameNumbers) {
  const int fused = is_disabled("layout") ? 0 : 1;  // only where pictures are channels-last
  const auto pooled = [](const Pool2dAttrs& a) -> Record {
    return [a](const Values& v) { return Values{ops::pool2d(ops::relu(norm(v)), a)}; };
  };
  for (const Shape& x : {Shape{2, 8, 6, 5}, Shape{3, 7, 7, 8}}) {
    check(pooled({.kernel = {3, 3}, .strides = {2, 2}, .paddings = {1, 1, 1, 1}}), x,
          ops::fused_batch_norm_act_pool_op, ops::fused_batch_norm_act_pool_grad_op, fused);
    check(pooled({.kernel = {2, 3}, .strides = {2, 1}}), x, ops::fused_batch_norm_act_pool_op,
          ops::fused_batch_norm_act_pool_grad_op, fused);
  }
}

}  // namespace
}  // namespace trireme::test
