// The device layer on a real GPU: copies, memory under a cap, recordings.
#include "device/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "runtime/recorder.h"
#include "support/gpu.h"
#include "trireme/autograd.h"
#include "trireme/device.h"
#include "trireme/ops.h"
#include "trireme/tensor.h"

namespace trireme {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// Everything here works without operators, so that it runs before any kernel is right.
class GpuDevice : public testing::Test {
 protected:
  void SetUp() override {
    TRI_NEEDS_GPU();
    gpu = &find_device("gpu:0");
  }
  void TearDown() override {
    if (gpu != nullptr) gpu->pool().set_cap(0);
  }
  static std::vector<uint32_t> numbers(size_t count, uint32_t seed) {
    std::vector<uint32_t> v(count);
    for (uint32_t& x : v) x = seed = seed * 1664525u + 1013904223u;
    return v;
  }
  Device* gpu = nullptr;
};

TEST_F(GpuDevice, TellsWhatItIs) {
  EXPECT_GE(device::cuda::device_count(), 1);
  EXPECT_FALSE(device::cuda::get_device_name(0).empty());
  EXPECT_GE(device::cuda::get_device_capability(0).first, 7);
  EXPECT_GT(device::cuda::get_device_memory(0), 1024 * kMiB);
  EXPECT_THROW((void)device::cuda::get_device_name(63), Error);
  std::printf("%s\n", device::cuda::get_device_name(0).c_str());
}

TEST_F(GpuDevice, CopiesOfEverySizeComeBack) {
  std::vector<Storage> held;
  std::vector<std::vector<uint32_t>> sent;
  // Around the borders of the staging ring, and more than it holds.
  for (const size_t count : {1, 3, 1000, 262143, 262144, 262145, 1 << 20, 5 << 20, 12 << 20}) {
    sent.push_back(numbers(count, static_cast<uint32_t>(count)));
    held.push_back(gpu->upload(sent.back().data(), static_cast<int64_t>(count) * 4, "numbers"));
  }
  for (size_t i = 0; i < held.size(); ++i) {
    std::vector<uint32_t> back(sent[i].size());
    gpu->download(back.data(), held[i].data, back.size() * 4);
    EXPECT_EQ(back, sent[i]) << sent[i].size();
  }
}

TEST_F(GpuDevice, LargeUploadsTakeTurnsWithoutMixing) {
  const size_t count = 2 << 20;
  Storage last = gpu->allocate(static_cast<int64_t>(count) * 4, "a result");
  for (uint32_t i = 0; i < 20; ++i) {
    const auto sent = numbers(count, i);
    {
      const Storage s = gpu->upload(sent.data(), static_cast<int64_t>(count) * 4, "a batch");
      gpu->copy(last.data, s.data, count * 4);
    }  // let go of while the copy may still wait
    if (i % 5 != 4) continue;
    std::vector<uint32_t> back(count);
    gpu->download(back.data(), last.data, count * 4);
    EXPECT_EQ(back, sent) << i;
  }
}

TEST_F(GpuDevice, TheCapHoldsAndTheProcessGoesOn) {
  gpu->trim();
  const int64_t before = gpu->reserved_bytes();
  device::set_memory_limit("gpu:0", before / kMiB + 256);
  const Storage kept = gpu->allocate(100 * kMiB, "the kept one");
  try {
    (void)gpu->allocate(300 * kMiB, "the large one");
    FAIL() << "over the cap";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kResourceExhausted);
    EXPECT_NE(e.message().find("the large one needs 300.00 MiB"), std::string::npos) << e.message();
    EXPECT_NE(e.message().find("the kept one 100.00 MiB"), std::string::npos) << e.message();
    EXPECT_NE(e.message().find("the cap is"), std::string::npos) << e.message();
  }
  EXPECT_NO_THROW((void)gpu->allocate(100 * kMiB, "a smaller one"));
  EXPECT_LE(gpu->reserved_bytes(), before + 257 * kMiB);
}

TEST_F(GpuDevice, MoreThanTheDeviceHasIsAnError) {
  const int64_t all = device::cuda::get_device_memory(0);
  EXPECT_THROW((void)gpu->allocate(all * 2, "too much"), Error);
  const Storage fine = gpu->allocate(16 * kMiB, "enough");
  const auto sent = numbers(1000, 1);
  const Storage s = gpu->upload(sent.data(), 4000, "numbers");
  std::vector<uint32_t> back(1000);
  gpu->download(back.data(), s.data, 4000);
  EXPECT_EQ(back, sent);
}

TEST_F(GpuDevice, ARecordingDoesItsWorkEachTime) {
  const auto sent = numbers(4096, 3);
  const Storage from = gpu->upload(sent.data(), 4096 * 4, "numbers");
  const Storage to = gpu->allocate(4096 * 4, "numbers");
  const auto recording =
      gpu->record([&](void* stream) { gpu->copy(to.data, from.data, 4096 * 4, stream); });
  ASSERT_NE(recording, nullptr);
  for (int i = 0; i < 3; ++i) {
    const auto other = numbers(4096, static_cast<uint32_t>(i) + 10);
    const Storage changed = gpu->upload(other.data(), 4096 * 4, "numbers");
    gpu->copy(from.data, changed.data, 4096 * 4);
    recording->launch();
    std::vector<uint32_t> back(4096);
    gpu->download(back.data(), to.data, 4096 * 4);
    EXPECT_EQ(back, other);
  }
}

TEST_F(GpuDevice, WorkThatCannotBeRecordedLeavesTheDeviceWell) {
  const auto sent = numbers(16, 3);
  const Storage from = gpu->upload(sent.data(), 64, "numbers");
  EXPECT_EQ(gpu->record([&](void*) { fail(Code::kInternal, "not this"); }), nullptr);
  std::vector<uint32_t> back(16);
  gpu->download(back.data(), from.data, 64);
  EXPECT_EQ(back, sent);
}

// ---- steps

// A little network's training by hand: w follows the mean of x. Numbers with the recorder's
// recordings, and without.
struct Steps {
  std::vector<std::vector<float>> w;
  int64_t launches = 0;
};

Steps run_steps(const std::string& name, int count, bool reshape_at_third) {
  set_device(name);
  Steps result;
  Tensor w(Array::from<float>({64}, std::vector<float>(64, 0.5f), DType::kFloat32));
  const int64_t before = current_recorder().stats().recorded_launches;
  for (int i = 0; i < count; ++i) {
    const int64_t rows = reshape_at_third && i == 3 ? 8 : 16;
    std::vector<float> batch(static_cast<size_t>(rows) * 64);
    for (size_t k = 0; k < batch.size(); ++k)
      batch[k] = static_cast<float>((k * 37 + static_cast<size_t>(i) * 11) % 101) / 64;
    const Tensor x(Array::from<float>({rows, 64}, batch, DType::kFloat32));
    const Tensor error = x * w - 1.0;
    const Tensor gradient = mean(error * x, {0});
    w.set_value(w - gradient * 0.25);
    const Array a = w.numpy();
    result.w.emplace_back(a.as<float>(), a.as<float>() + a.numel());
  }
  result.launches = current_recorder().stats().recorded_launches - before;
  set_device("cpu");
  return result;
}

TEST(GpuSteps, RecordedStepsGiveTheSameBits) {
  TRI_NEEDS_GPU();
  const Steps first = run_steps("gpu:0", 2, false);  // makes the plan
  const Steps recorded = run_steps("gpu:0", 8, false);
  EXPECT_GE(recorded.launches, 5);
  // A profiler sees each node by itself, so nothing is recorded with one.
  Profiler profiler;
  Recorder::of(find_device("gpu:0")).set_profiler(&profiler);
  const Steps plain = run_steps("gpu:0", 8, false);
  Recorder::of(find_device("gpu:0")).set_profiler(nullptr);
  EXPECT_EQ(plain.launches, 0);
  EXPECT_EQ(recorded.w, plain.w);
  EXPECT_NE(profiler.table().find("calls"), std::string::npos);
  const Steps cpu = run_steps("cpu", 8, false);
  for (size_t i = 0; i < cpu.w.size(); ++i)
    for (size_t k = 0; k < 64; ++k) EXPECT_NEAR(recorded.w[i][k], cpu.w[i][k], 1e-5);
}

TEST(GpuSteps, AnotherShapeFallsBackAndComesBack) {
  TRI_NEEDS_GPU();
  const Steps gpu = run_steps("gpu:0", 10, true), cpu = run_steps("cpu", 10, true);
  EXPECT_GE(gpu.launches, 4);
  for (size_t i = 0; i < cpu.w.size(); ++i)
    for (size_t k = 0; k < 64; ++k) EXPECT_NEAR(gpu.w[i][k], cpu.w[i][k], 1e-5) << i;
}

TEST(GpuSteps, LackOfMemoryPoisonsOneFlushAlone) {
  TRI_NEEDS_GPU();
  set_device("gpu:0");
  Device& gpu = current_device();
  const Tensor small(Array::from<float>({4}, std::vector<float>{1, 2, 3, 4}, DType::kFloat32));
  gpu.trim();
  gpu.pool().set_cap(gpu.reserved_bytes() + 64 * kMiB);
  const Tensor large = expand(reshape(small, {4, 1}), {4, 64 * kMiB});
  EXPECT_THROW((void)large.numpy(), Error);
  EXPECT_THROW((void)large.numpy(), Error);  // poisoned
  EXPECT_EQ((small + small).numpy().as<float>()[3], 8);
  gpu.pool().set_cap(0);
  set_device("cpu");
}

TEST(GpuSteps, AnOperatorWithoutAKernelIsAnErrorThatNamesIt) {
  TRI_NEEDS_GPU();
  static const Op without{.name = "without",
                          .infer = [](const Infer& i) { i.out(i.dtype(0), i.shape(0)); },
                          .cpu = [](const Prepare&) { return Kernel{[](const Launch&) {}}; }};
  auto graph = std::make_unique<Graph>();
  graph->fold_below = 0;
  Value* x = graph->add_input({DType::kFloat32, {4}});
  graph->outputs = graph->add(without, {x}, {});
  try {
    const Plan plan(std::move(graph), nullptr, &find_device("gpu:0"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnimplemented);
    EXPECT_NE(e.message().find("has no kernel for gpu:0"), std::string::npos) << e.message();
  }
}

// ---- without a GPU

TEST(NoGpu, ADeviceThatCannotBeUsedSaysWhy) {
  std::string why;
  if (gpu_count(&why) > 0) GTEST_SKIP() << "there is one";
  try {
    set_device("gpu:0");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnavailable);
    EXPECT_NE(e.message().find("'gpu:0' cannot be used: "), std::string::npos) << e.message();
    EXPECT_GT(e.message().size(), 45u) << e.message();
  }
  EXPECT_EQ(get_device(), "cpu");
  EXPECT_EQ(device::cuda::device_count(), 0);
  EXPECT_EQ(device::get_available_device(), std::vector<std::string>{"cpu"});
  for (const char* name : {"gpu:", "gpu:x", "gpu:-1", "tpu", "gpu:99999", ""})
    EXPECT_THROW(set_device(name), Error) << name;
}

}  // namespace
}  // namespace trireme
