// Choices by time are kept for what they depend on.
#include "ops/cuda_choice.h"

#ifdef TRIREME_CUDA

#include <random>

#include "device/precision.h"
#include "ops/conv_cuda.h"
#include "ops/pointwise.h"
#include "support/gpu.h"

namespace trireme::test {
namespace {

Kernel copies(int64_t count, int times) {
  return {[=](const Launch& l) {
    for (int i = 0; i < times; ++i)
      cuda::copy_vector(l.in[0], DType::kFloat32, count, l.out[0], DType::kFloat32, count,
                        l.stream);
  }};
}

// Exact products and those in TF32 have other kernels: one's choice once stood for the other.
TEST(GpuChoice, IsMadeForEachPrecision) {
  TRI_NEEDS_GPU();
  constexpr int64_t kCount = 1 << 22;
  Graph graph;
  const BuilderScope scope(graph);
  Value* x = graph.add_input({DType::kFloat32, {kCount}});
  const Node& node = *ops::relu(x)->node;
  const Prepare p{.node = node, .device = &find_device("gpu:0")};
  const Kernel fast = copies(kCount, 1), slow = copies(kCount, 30);
  const std::string what = "a test " + std::to_string(std::random_device()());
  const bool before = allows_tf32(Products::kConvolutions);
  allow_tf32(Products::kConvolutions, false);
  EXPECT_EQ(cuda::fastest_of(p, {{"a", slow}, {"b", fast}}, what.c_str()), 1U);
  EXPECT_EQ(cuda::fastest_of(p, {{"a", fast}, {"b", slow}}, what.c_str()), 1U) << "not kept";
  allow_tf32(Products::kConvolutions, true);
  EXPECT_EQ(cuda::fastest_of(p, {{"a", fast}, {"b", slow}}, what.c_str()), 0U);
  allow_tf32(Products::kConvolutions, before);
}

}  // namespace
}  // namespace trireme::test

#endif  // TRIREME_CUDA
