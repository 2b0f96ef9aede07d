// What the pass fuse_norm makes gives the numbers of what it was made of: forward and gradients of
// small nets, on the CPU with a GPU's passes.
#include <cmath>

#include "base/switches.h"
#include "ops/batch_norm_fused.h"
#include "ops/conv.h"
#include "ops/cross_entropy.h"
#include "ops/cuda_target.h"
#include "ops/grad_test.h"
#include "ops/matmul.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "ops/reduce.h"
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

TEST(FuseNorm, TwoNormsGiveTheSameNumbers) {
  const Record dual = [](const Values& v) {
    Value* other = ops::conv2d(v[6], v[5], nullptr, {});
    return Values{ops::relu(
        ops::add(norm(v), ops::batch_norm_train(v[0], v[1], other, v[4], v[3], 0.9, 1e-5)[2]))};
  };
  for (const Shape& x : {Shape{2, 8, 5, 4}, Shape{3, 7, 3, 3}})
    check(dual, x, ops::fused_dual_bn_add_activation_op, ops::fused_dual_bn_add_activation_grad_op);
}

// Against the same numbers in float64.
TEST(FuseNorm, ConvolutionsSumTheirResults) {
  const std::vector<Array> wide{noise({2, 8, 5, 4}, 1), noise({16, 8, 3, 3}, 2)};
  const Conv2dAttrs attrs{.strides = {2, 1}, .paddings = {1, 1, 1, 1}};
  const auto run = [&](DType dtype, bool joined) {
    auto graph = std::make_unique<Graph>();
    const BuilderScope scope(*graph);
    std::vector<Array> inputs;
    Values v;
    for (const Array& t : wide) {
      inputs.push_back(t.to(dtype));
      v.push_back(graph->add_input({dtype, t.shape()}));
    }
    if (joined) {
      graph->outputs = record(ops::conv2d_statistics_op, v, attrs);
    } else {
      Value* y = ops::conv2d(v[0], v[1], nullptr, attrs);
      graph->outputs = {y, ops::reduce(ops::sum_op, y, {0, 2, 3}, false),
                        ops::reduce(ops::sum_op, ops::multiply(y, y), {0, 2, 3}, false)};
    }
    return run_on(find_device("cpu"), std::move(graph), inputs);
  };
  const std::vector<Array> want = run(DType::kFloat64, false);
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kFloat16}) {
    const std::vector<Array> got = run(dtype, true);
    const double within = dtype == DType::kFloat16 ? 2e-2 : 1e-5;
    EXPECT_EQ(got[1].dtype(), dtype == DType::kFloat64 ? dtype : DType::kFloat32);
    std::vector<double> sums = doubles_of(want[1]);
    for (const double v : doubles_of(want[2])) sums.push_back(v);
    expect_near(got[0], doubles_of(want[0]), within, 0, "the result");
    expect_near(got[1], sums, within, within, "the sums");
  }
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

// The gradient of a bias in front of `op` is summed where that of its other input is made.
void check_bias_in_front(const std::function<Value*(Value*, const Values&)>& op,
                         const Op& with_sum) {
  for (const int64_t n : {16, 21, 5000}) {
    SCOPED_TRACE(n);
    const std::vector<Array> inputs{noise({3, 7, n}, 1), noise({n}, 2), noise({n}, 3),
                                    noise({n}, 4)};
    const auto recorded = [&] {
      auto graph = std::make_unique<Graph>();
      graph->fold_below = 0;
      const BuilderScope scope(*graph);
      Values v;
      for (const Array& t : inputs) v.push_back(graph->add_input({t.dtype(), t.shape()}));
      graph->outputs = {op(ops::add(v[0], v[1]), v)};
      const Values out_grads{ops::affine(graph->outputs[0], 0.7, 0.1)};
      for (Value* g : gradients(std::span(graph->outputs).first(1), out_grads, v))
        if (g) graph->outputs.push_back(g);
      return graph;
    };
    const std::vector<Array> want = run_on(find_device("cpu"), recorded(), inputs);
    auto graph = recorded();
    run_passes(*graph, PassContext{cuda_target()}, "fuse_norm");
    EXPECT_EQ(count(*graph, with_sum), 1);
    EXPECT_EQ(count(*graph, ops::sum_op), 0);
    const std::vector<Array> got = run_on(find_device("cpu"), std::move(graph), inputs);
    ASSERT_EQ(got.size(), want.size());
    for (size_t k = 0; k < want.size(); ++k)
      expect_near(got[k], doubles_of(want[k]), 2e-5, 2e-5, "result " + std::to_string(k));
  }
}

TEST(FuseNorm, BiasesInFrontOfLayerNormsGiveTheSameNumbers) {
  check_bias_in_front(
      [](Value* x, const Values& v) { return ops::layer_norm(x, v[2], v[3], 2, 1e-5); },
      ops::layer_norm_grad_sum_op);
}

TEST(FuseNorm, BiasesInFrontOfGeluGiveTheSameNumbers) {
  check_bias_in_front([](Value* x, const Values&) { return ops::gelu(x); }, ops::gelu_grad_sum_op);
}

// A vocabulary of 1,030 words becomes one of 1,088 on the way.
TEST(FuseLoss, PaddedClassesGiveTheSameNumbers) {
  const std::vector<Array> inputs{
      noise({2, 3, 16}, 1).to(DType::kBFloat16), noise({1030, 16}, 2).to(DType::kBFloat16),
      noise({1030}, 3).to(DType::kBFloat16), ints({2, 3, 1}, {0, 1029, 5, -100, 77, 1028})};
  const auto recorded = [&] {
    auto graph = std::make_unique<Graph>();
    graph->fold_below = 0;
    const BuilderScope scope(*graph);
    Values v;
    for (const Array& t : inputs) v.push_back(graph->add_input({t.dtype(), t.shape()}));
    Value* logits = ops::add(ops::matmul(v[0], v[1], nullptr, false, true), v[2]);
    Value* loss = ops::cross_entropy_with_softmax(ops::cast(logits, DType::kFloat32), v[3])[1];
    graph->outputs = {loss};
    const Values wrt(v.begin(), v.begin() + 3);
    for (Value* g : gradients(graph->outputs, {}, wrt)) graph->outputs.push_back(g);
    return graph;
  };
  const std::vector<Array> want = run_on(find_device("cpu"), recorded(), inputs);
  auto graph = recorded();
  run_passes(*graph, PassContext{cuda_target()}, "fuse_loss");
  EXPECT_EQ(count(*graph, ops::cross_entropy_half_both_op), 1);
  for (const auto& node : graph->nodes) {
    if (node->op != &ops::matmul_op) continue;
    for (const Value* in : node->inputs)
      EXPECT_TRUE(in == nullptr || in->type.shape.back() != 1030) << "a product of unaligned rows";
  }
  const std::vector<Array> got = run_on(find_device("cpu"), std::move(graph), inputs);
  ASSERT_EQ(got.size(), want.size());
  for (size_t k = 0; k < want.size(); ++k) {
    EXPECT_EQ(got[k].shape(), want[k].shape());
    double largest = 0;
    for (const double v : doubles_of(want[k])) largest = std::max(largest, std::abs(v));
    expect_near(got[k], doubles_of(want[k]), 8e-3 * largest, 8e-3, "result " + std::to_string(k));
  }
}

}  // namespace
}  // namespace trireme::test
