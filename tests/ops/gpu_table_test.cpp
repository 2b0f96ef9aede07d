// The op table on a GPU against the CPU: every sample of the gradient checker, forward and
// backward, in each floating dtype, as the passes leave it there. Operator by operator they are
// compared by gpu_twin.h, when $TRIREME_TEST_GPU is set.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "device/precision.h"
#include "ops/cuda_target.h"
#include "ops/gpu_twin.h"
#include "ops/grad_test.h"
#include "passes/pass.h"
#include "support/distance.h"
#include "support/gpu.h"
#include "support/run_plan.h"
#include "trireme/error.h"

namespace trireme::test {
namespace {

std::unique_ptr<Graph> recorded(const GradientCase& c) {
  auto graph = std::make_unique<Graph>();
  graph->fold_below = 0;
  const BuilderScope scope(*graph);
  std::vector<Value*> values;
  for (const Array& t : c.inputs)
    values.push_back(t.defined() ? graph->add_input({t.dtype(), t.shape()}) : nullptr);
  graph->outputs = c.record(values);
  return graph;
}

double allowed(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return 1e-10;
    case DType::kFloat32: return 5e-5;
    case DType::kFloat16: return 4e-3;
    default: return 3e-2;
  }
}

// Operators of the graph that have no kernel for a GPU.
std::set<std::string> missing_in(const Graph& graph) {
  std::set<std::string> names;
  for (const auto& n : graph.nodes)
    if (n->op != &kData && n->op != &kConstant && n->op->cuda == nullptr && !n->op->view)
      names.emplace(n->op->name);
  return names;
}

class OpTable : public testing::TestWithParam<DType> {};

TEST_P(OpTable, AgreesWithTheCpu) {
  TRI_NEEDS_GPU();
  allow_tf32(Products::kConvolutions, false);
  allow_tf32(Products::kMatrices, false);
  Device& gpu = find_device("gpu:0");
  std::map<std::string, int> missing;
  int compared = 0;
  for (const Sample& sample : all_samples()) {
    SCOPED_TRACE(sample.name);
    try {
      const GradientCase c = gradient_case(sample, GetParam());
      std::vector<Array> want;
      try {
        want = run_on(find_device("cpu"), recorded(c), c.inputs);
      } catch (const Error&) { continue; }  // a dtype that the operator does not have
      const std::set<std::string> without = missing_in(*recorded(c));
      for (const std::string& name : without) ++missing[name];
      if (!without.empty()) continue;
      ++compared;
      // Where rounding to half precision shifts the CPU's result more, it may shift the GPU's, too.
      std::vector<double> shifts(want.size(), 0);
      if (size_of(GetParam()) == 2) {
        const GradientCase exact = gradient_case(sample, DType::kFloat32);
        const std::vector<Array> truth = run_on(find_device("cpu"), recorded(exact), exact.inputs);
        for (size_t k = 0; k < want.size(); ++k)
          shifts[k] = distance(want[k], truth[k].to(want[k].dtype()), kLeastScale);
      }
      run_ops(c.record, c.inputs);
      auto graph = recorded(c);
      run_passes(*graph, PassContext{cuda_target()});
      const std::vector<Array> got = run_on(gpu, std::move(graph), c.inputs);
      for (size_t k = 0; k < got.size(); ++k) {
        const double limit =
            is_floating(got[k].dtype()) ? std::max(allowed(GetParam()), 3 * shifts[k]) : 0;
        EXPECT_LE(distance(got[k], want[k], kLeastScale), limit)
            << "result " << k << ' ' << name_of(got[k].dtype()) << got[k].shape().str();
      }
    } catch (const Error& e) { ADD_FAILURE() << e.message(); }
  }
  std::printf("%s: %d samples compared;", std::string(name_of(GetParam())).c_str(), compared);
  for (const auto& [name, samples] : missing) std::printf(" %s(%d)", name.c_str(), samples);
  std::printf("%s\n", missing.empty() ? "" : " have no kernel for a GPU");
  EXPECT_GT(compared, 0);
}

INSTANTIATE_TEST_SUITE_P(Gpu, OpTable,
                         testing::Values(DType::kFloat32, DType::kFloat16, DType::kBFloat16,
                                         DType::kFloat64),
                         [](const auto& i) { return std::string(name_of(i.param)); });

}  // namespace
}  // namespace trireme::test
