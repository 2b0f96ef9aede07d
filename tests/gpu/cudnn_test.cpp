// What we rely on cuDNN to have, asked for a stored GPU (tests/gpu/data); and its plans' cache.
#ifdef TRIREME_CUDA
#include "device/cuda/cudnn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "device/cuda/autotune.h"
#include "device/cuda/disk_cache.h"
#include "device/cuda/library.h"
#include "support/gpu.h"
#include "support/temp.h"
#include "support/variable.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

#define TRI_NEEDS_CUDNN() \
  if (library(Lib::kCudnn).handle == nullptr) GTEST_SKIP() << library(Lib::kCudnn).error

std::string h200() {
  std::ifstream in(TRIREME_SOURCE_DIR "/tests/gpu/data/h200_devprop.json", std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Layer {
  const char* name;
  int64_t n, c, h, o, k, stride;
  int64_t pad() const { return k / 2; }
  int64_t out() const { return (h + 2 * pad() - k) / stride + 1; }
};
constexpr Layer kLayers[] = {
    {"stem", 256, 4, 224, 64, 7, 2},      {"1x1", 256, 64, 56, 256, 1, 1},
    {"3x3", 256, 128, 28, 128, 3, 1},     {"3x3/2", 256, 256, 28, 256, 3, 2},
    {"1x1/2", 256, 1024, 14, 2048, 1, 2}, {"small batch", 1, 256, 14, 256, 3, 1}};

struct Tensors {
  DnnTensor x, w, y, bias;
  DnnConv geometry;
};
Tensors tensors_of(const Layer& l, DType dtype) {
  const DnnConv g{{l.pad(), l.pad()}, {l.pad(), l.pad()}, {l.stride, l.stride}, {1, 1}};
  return {dnn_channels_last(dtype, {l.n, l.c, l.h, l.h}),
          dnn_channels_last(dtype, {l.o, l.c, l.k, l.k}),
          dnn_channels_last(dtype, {l.n, l.o, l.out(), l.out()}),
          dnn_channels_last(dtype, {1, l.o, 1, 1}), g};
}

DnnGraph forward(const Tensors& t) {
  DnnGraph g;
  const int x = g.input(t.x), w = g.input(t.w);
  g.output(g.conv(x, w, t.geometry), t.y);
  return g;
}
DnnGraph dgrad(const Tensors& t) {
  DnnGraph g;
  const int dy = g.input(t.y), w = g.input(t.w);
  g.output(g.conv_dgrad(dy, w, t.geometry, t.x.dims), t.x);
  return g;
}
DnnGraph wgrad(const Tensors& t) {
  DnnGraph g;
  const int dy = g.input(t.y), x = g.input(t.x);
  g.output(g.conv_wgrad(dy, x, t.geometry, t.w.dims), t.w);
  return g;
}
// conv -> [+ residual] -> + bias -> [act], in the order that has precompiled engines.
DnnGraph fused(const Tensors& t, bool residual, bool act) {
  DnnGraph g;
  const int x = g.input(t.x), w = g.input(t.w);
  int y = g.conv(x, w, t.geometry);
  if (residual) y = g.pointwise(DnnOp::kAdd, y, g.input(t.y));
  y = g.pointwise(DnnOp::kAdd, y, g.input(t.bias));
  if (act) y = g.pointwise(DnnOp::kRelu, y);
  g.output(y, t.y);
  return g;
}

// A convolution and the sums of its result's channels.
DnnGraph with_statistics(const Tensors& t) {
  DnnGraph g;
  const int y = g.conv(g.input(t.x), g.input(t.w), t.geometry);
  g.output(y, t.y);
  for (const int sum : g.statistics(y))
    g.output(sum, dnn_channels_last(DType::kFloat32, {1, t.y.dims[1], 1, 1}));
  return g;
}

class DnnPatterns : public testing::TestWithParam<DType> {};

// The heuristics name none for some of these; what works at all is asked for then.
TEST(DnnExactFloat32, HasPlansForLargeBatches) {
  TRI_NEEDS_CUDNN();
  if (!std::filesystem::exists(TRIREME_SOURCE_DIR)) GTEST_SKIP() << "no checkout on this machine";
  ASSERT_FALSE(h200().empty());
  constexpr Layer kLarge[] = {{"stem", 256, 3, 224, 64, 7, 2},
                              {"3x3/2", 256, 512, 14, 512, 3, 2},
                              {"3x3/2 of 56", 256, 128, 56, 128, 3, 2},
                              {"1x1/2", 256, 256, 56, 512, 1, 2}};
  for (const Layer& l : kLarge) {
    SCOPED_TRACE(l.name);
    const Tensors t = tensors_of(l, DType::kFloat32);
    EXPECT_FALSE(forward(t).offered(h200()).empty());
    EXPECT_FALSE(dgrad(t).offered(h200()).empty());
    EXPECT_FALSE(wgrad(t).offered(h200()).empty());
  }
}

TEST_P(DnnPatterns, HavePrecompiledPlansOnAnH200) {
  TRI_NEEDS_CUDNN();
  if (!std::filesystem::exists(TRIREME_SOURCE_DIR)) GTEST_SKIP() << "no checkout on this machine";
  ASSERT_FALSE(h200().empty());
  const DnnOptions options{.tf32 = GetParam() == DType::kFloat32};
  for (const Layer& l : kLayers) {
    SCOPED_TRACE(l.name);
    const Tensors t = tensors_of(l, GetParam());
    EXPECT_FALSE(forward(t).offered(h200(), options).empty());
    EXPECT_FALSE(dgrad(t).offered(h200(), options).empty());
    EXPECT_FALSE(wgrad(t).offered(h200(), options).empty());
    for (const bool residual : {false, true})
      for (const bool act : {false, true})
        EXPECT_FALSE(fused(t, residual, act).offered(h200(), options).empty()) << residual << act;
  }
}
INSTANTIATE_TEST_SUITE_P(DTypes, DnnPatterns,
                         testing::Values(DType::kFloat16, DType::kBFloat16, DType::kFloat32),
                         [](const auto& i) { return std::string(name_of(i.param)); });

// What fuse_norm counts on: in float16 behind all convolutions but the first, else nowhere.
TEST(DnnStatistics, HavePrecompiledPlansInFloat16) {
  TRI_NEEDS_CUDNN();
  ASSERT_TRUE(std::filesystem::exists(TRIREME_SOURCE_DIR)) << "wants the checkout's device data";
  const auto plans = [](const Layer& l, DType dtype) -> size_t {
    try {
      return with_statistics(tensors_of(l, dtype)).offered(h200()).size();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kUnimplemented) << e.what();
      return 0;
    }
  };
  for (const Layer& l : kLayers) {
    SCOPED_TRACE(l.name);
    EXPECT_EQ(plans(l, DType::kFloat16) > 0, &l != &kLayers[0]);
    EXPECT_EQ(plans(l, DType::kBFloat16), 0U);
  }
}

TEST(DiskCache, KeepsEntriesAndTakesDamagedOnesForNone) {
  const test::TempFolder folder;
  const test::Variable place("TRIREME_CACHE_DIR", folder.path().string());
  const DiskCache cache("things");
  EXPECT_EQ(cache.get("a"), std::nullopt);
  cache.put("a", "one");
  cache.put("b", std::string("t\0o", 3));
  EXPECT_EQ(cache.get("a"), "one");
  EXPECT_EQ(cache.get("b"), std::string("t\0o", 3));
  std::ofstream(cache.file_of("a"), std::ios::app) << "x";
  EXPECT_EQ(cache.get("a"), std::nullopt);
  cache.put("a", "two");
  EXPECT_EQ(cache.get("a"), "two");
  std::ofstream(cache.file_of("a"), std::ios::trunc) << "short";
  EXPECT_EQ(cache.get("a"), std::nullopt);
  int files = 0;
  for (const auto& e : std::filesystem::recursive_directory_iterator(folder.path()))
    files += e.is_regular_file();
  EXPECT_EQ(files, 2);  // nothing half written is left
  const test::Variable none("TRIREME_CACHE_DIR", "");
  cache.put("a", "three");
  EXPECT_EQ(cache.get("a"), std::nullopt);
}

TEST(GpuDnn, AChoiceIsKeptOnDiskAndAFirstProposalIsNone) {
  TRI_NEEDS_GPU();
  const test::TempFolder folder;
  const test::Variable place("TRIREME_CACHE_DIR", folder.path().string());
  Device& gpu = find_device("gpu:0");
  const Tensors t = tensors_of({"", 8, 64, 13, 24, 3, 1}, DType::kFloat16);
  const auto entries = [&] {
    const std::filesystem::path cudnn = folder / "cudnn";
    if (!std::filesystem::exists(cudnn)) return std::ptrdiff_t{0};
    return std::distance(std::filesystem::directory_iterator(cudnn), {});
  };
  const std::string name = forward(t).plan(gpu)->name();
  EXPECT_EQ(entries(), 1);
  EXPECT_EQ(forward(t).plan(gpu)->name(), name);
  EXPECT_EQ(entries(), 1);
  const test::Variable off("TRIREME_DISABLE", "autotune");
  EXPECT_FALSE(dgrad(t).plan(gpu)->name().empty());
  EXPECT_EQ(entries(), 1);
}

// cuDNN 9.19 wants 205 MB for it, over the limit.
TEST(GpuDnn, AProblemWhosePlansAllWantMuchMemoryHasOne) {
  TRI_NEEDS_GPU();
  const test::Variable off("TRIREME_DISABLE", "autotune");
  const Tensors t = tensors_of(kLayers[0], DType::kBFloat16);
  EXPECT_FALSE(wgrad(t).plan(find_device("gpu:0"))->name().empty());
}

TEST(GpuDnn, TheFastestOfSeveralIsFound) {
  TRI_NEEDS_GPU();
  Device& gpu = find_device("gpu:0");
  gpu.activate();
  const int64_t bytes = int64_t{64} << 20;
  const Storage from = tuning_memory(gpu, DType::kFloat16, bytes),
                to = gpu.allocate(bytes, "a result");
  const auto copy = [&](int64_t n) -> Candidate {
    return [&, n](void* stream) { gpu.copy(to.data, from.data, static_cast<size_t>(n), stream); };
  };
  const Candidate broken = [](void*) { fail(Code::kInternal, "it does not run"); };
  double us = 0;
  EXPECT_EQ(fastest(gpu, {copy(bytes), broken, copy(bytes / 16), copy(bytes / 2)}, &us), 2);
  EXPECT_GT(us, 0);
  EXPECT_EQ(fastest(gpu, {broken}), -1);
}

}  // namespace
}  // namespace trireme::cuda
#endif
