// Running a node on a GPU.
#include "ops/gpu_twin.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "device/precision.h"
#include "ops/op_test.h"
#include "ops/reduce.h"
#include "runtime/plan.h"

namespace trireme::test {
namespace {

// Of the largest result; sums are taken in another order.
double allowed(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return 1e-11;
    case DType::kFloat16: return 2e-3;
    case DType::kBFloat16: return 1.6e-2;
    default: return 2e-5;
  }
}

double largest(const Array& a) {
  double most = 0;
  for (const double v : doubles_of(a))
    if (std::isfinite(v)) most = std::max(most, std::abs(v));
  return most;
}

// terms: the largest of what a sum adds. Sums that cancel keep the rounding of their terms.
void compare(const Array& got, const Array& want, double terms, const std::string& what) {
  if (!is_floating(want.dtype())) {
    EXPECT_EQ(std::memcmp(got.data(), want.data(), want.bytes()), 0) << what;
    return;
  }
  const double most = std::max({kLeastScale, terms, largest(want)});
  expect_near(got, doubles_of(want), allowed(want.dtype()) * most + 1e-30, allowed(want.dtype()),
              what);
}

}  // namespace

void check_on_gpu(const Node& node, const std::vector<void*>& in, const std::vector<void*>& out) {
  static const char* const name = std::getenv("TRIREME_TEST_GPU");
  if (name == nullptr || *name == '\0' || node.op->cuda == nullptr) return;
  allow_tf32(Products::kConvolutions, false);
  allow_tf32(Products::kMatrices, false);
  Device& gpu = find_device(name);
  gpu.activate();
  Kernel kernel;
  try {
    kernel = node.op->cuda(Prepare{.node = node, .device = &gpu});
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnimplemented) << e.what();
    return;
  }
  std::vector<Storage> held;
  std::vector<void*> from;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (in[i] == nullptr) {
      from.push_back(nullptr);
      continue;
    }
    held.push_back(
        gpu.upload(in[i], static_cast<int64_t>(node.inputs[i]->type.bytes()), "an input"));
    from.push_back(held.back().data);
  }
  held.push_back(gpu.allocate(static_cast<int64_t>(kernel.scratch) + 256, "scratch"));
  void* const scratch = held.back().data;
  const bool adds = node.op == &ops::sum_op || node.op == &ops::mean_op;
  const double terms =
      adds ? largest(Array(node.inputs[0]->type.dtype, node.inputs[0]->type.shape, in[0], nullptr))
           : 0;
  std::vector<Array> first;
  for (int round = 0; round < 2; ++round) {
    std::vector<Storage> results;
    std::vector<void*> to;
    for (const auto& v : node.outputs) {
      results.push_back(gpu.allocate(static_cast<int64_t>(v->type.bytes()) + 16, "an output"));
      to.push_back(results.back().data);
    }
    const auto work = [&](void* stream) {
      kernel.run(Launch{from.data(), to.data(), scratch, stream});
    };
    if (auto recording = round == 1 ? gpu.record(work) : nullptr) recording->launch();
    else work(gpu.stream());
    gpu.synchronize();
    for (size_t k = 0; k < node.outputs.size(); ++k) {
      const Type& type = node.outputs[k]->type;
      Array got(type.dtype, type.shape);
      if (type.bytes() > 0) gpu.download(got.data(), results[k].data, type.bytes());
      const std::string what = std::string(node.op->name) + " output " + std::to_string(k) +
                               " on the GPU, " + type.str();
      if (round == 0) {
        const Array want(type.dtype, type.shape, out[k], nullptr);
        compare(got, want, terms, what);
        first.push_back(got);
      } else {
        EXPECT_EQ(std::memcmp(got.data(), first[k].data(), got.bytes()), 0)
            << what << ": a recording gives other bits";
      }
    }
  }
}

#ifdef TRIREME_CUDA
// A new operator gets its kernel, or is named here: what runs graphs of its own, what a GPU is
// given another operator for, and decompositions of matrices.
TEST(Operators, HaveCudaKernelsButForThese) {
  std::string missing;
  for (const Op* op : all_ops())
    if (op->cuda == nullptr && op->cpu != nullptr) missing.append(" ").append(op->name);
  EXPECT_EQ(missing,
            " inverse determinant solve cholesky svd qr eigh rnn_layer rnn_layer_grad if while");
}
#endif

}  // namespace trireme::test
