// Printed pointwise kernels compile: every operator, every dtype, every way an input can lie. Needs
// NVRTC, but no GPU.
#ifdef TRIREME_CUDA
#include <gtest/gtest.h>

#include "device/cuda/compile.h"
#include "device/cuda/library.h"
#include "ops/fused.h"
#include "ops/pointwise.h"
#include "ops/pointwise_print.h"

namespace trireme {
namespace {

bool has_nvrtc() { return cuda::library(cuda::Lib::kNvrtc).handle != nullptr; }
#define TRI_NEEDS_NVRTC() \
  if (!has_nvrtc()) GTEST_SKIP() << cuda::library(cuda::Lib::kNvrtc).error

// All nodes of the graph as one cluster.
std::string compiled(const Graph& g) {
  std::vector<const Node*> nodes;
  std::vector<const Value*> outputs;
  for (const auto& n : g.nodes)
    if (n->op != &kData) nodes.push_back(n.get());
  for (const Value* v : g.outputs) outputs.push_back(v);
  const auto p = print_pointwise(nodes, {g.inputs.begin(), g.inputs.end()}, outputs);
  return cuda::compile_source(p.source, "sm_90");
}

class EveryOperator : public testing::TestWithParam<DType> {};

TEST_P(EveryOperator, Compiles) {
  TRI_NEEDS_NVRTC();
  std::unique_ptr<Graph> g;
  const auto flush = [&] {
    if (g && !g->outputs.empty()) { EXPECT_FALSE(compiled(*g).empty()); }
    g = std::make_unique<Graph>();
    for (int i = 0; i < 2; ++i) g->add_input({GetParam(), Shape{4, 33}}, "");
    g->add_input({DType::kBool, Shape{4, 33}}, "");
  };
  flush();
  for (const Op* op : all_ops()) {
    if (!is_pointwise(op)) continue;
    std::vector<Value*> in(g->inputs.begin(), g->inputs.begin() + std::min(op->inputs, 2));
    if (op == &ops::where_op) in.insert(in.begin(), g->inputs[2]);
    Attrs attrs;
    if (op->attrs) attrs = Attrs(op->attrs, op->attrs->make());
    try {
      g->outputs.push_back(g->add(*op, in, attrs)[0]);
    } catch (const Error&) {
      continue;  // not for this dtype
    }
    if (g->outputs.size() == 8) flush();
  }
  flush();
}
INSTANTIATE_TEST_SUITE_P(DTypes, EveryOperator,
                         testing::Values(DType::kFloat32, DType::kFloat64, DType::kFloat16,
                                         DType::kInt64, DType::kBool),
                         [](const auto& i) { return std::string(name_of(i.param)); });

TEST(PointwiseText, EveryDTypeToEveryOther) {
  TRI_NEEDS_NVRTC();
  for (int from = 0; from <= static_cast<int>(DType::kFloat64); ++from) {
    Graph g;
    Value* x = g.add_input({static_cast<DType>(from), Shape{3, 5}}, "");
    for (int to = 0; to <= static_cast<int>(DType::kFloat64); ++to)
      g.outputs.push_back(g.add(ops::cast_op, {x}, CastAttrs{static_cast<DType>(to)})[0]);
    EXPECT_FALSE(compiled(g).empty());
  }
}

TEST(PointwiseText, EveryWayAnInputLies) {
  TRI_NEEDS_NVRTC();
  for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast}) {
    Graph g;
    Value* sum = g.add_input({DType::kFloat16, Shape{2, 16, 3, 5}, layout}, "");
    for (const Shape& s : {Shape{16, 1, 1}, Shape{}, Shape{2, 1, 3, 5}, Shape{1, 1, 3, 1}})
      sum = g.add(ops::add_op, {sum, g.add_input({DType::kFloat32, s}, "")}, {})[0];
    g.outputs.push_back(sum);
    EXPECT_FALSE(compiled(g).empty());
  }
}

// Sizes are numbers beside the text, so that other sizes of the same form need no compiler.
TEST(PointwiseText, SizesAreNotInIt) {
  const auto text = [](int64_t n) {
    Graph g;
    Value* x = g.add_input({DType::kFloat32, Shape{n, 8}}, "");
    Value* y = g.add(ops::multiply_op, {x, g.add_input({DType::kFloat32, Shape{8}}, "")}, {})[0];
    return print_pointwise({y->node}, {g.inputs.begin(), g.inputs.end()}, {y}).source;
  };
  EXPECT_EQ(text(4), text(5000));
}

}  // namespace
}  // namespace trireme
#endif  // TRIREME_CUDA
