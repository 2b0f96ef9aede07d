// Recording a plan: a pretended device, whose recordings run the same calls again, shows when one
// is made, launched, and left alone, and that the numbers stay the same.
#include "runtime/replay.h"

#include <gtest/gtest.h>

#include <cstring>

#include "graph/text.h"

namespace trireme {
namespace {

class Pretended : public Device {
 public:
  Pretended() : Device("pretended:0", std::make_shared<MemoryPool>()) {}

  Storage allocate(int64_t bytes, const char* what) override {
    if (refuse == what) fail(Code::kResourceExhausted, "no memory for " + refuse);
    auto memory = std::make_shared<std::vector<float>>(static_cast<size_t>(bytes) / 4 + 16);
    return {memory->data(), std::shared_ptr<const void>(memory, memory->data())};
  }
  Storage upload(const void* from, int64_t bytes, const char* what) override {
    Storage s = allocate(bytes, what);
    std::memcpy(s.data, from, static_cast<size_t>(bytes));
    return s;
  }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void copy(void* to, const void* from, size_t bytes, void*) override {
    ++copies;
    std::memcpy(to, from, bytes);
  }

  class Again : public Recording {
   public:
    Again(Pretended& device, std::function<void(void*)> work)
        : device_(device), work_(std::move(work)) {}
    void launch() override {
      ++device_.launches;
      work_(nullptr);
    }

   private:
    Pretended& device_;
    std::function<void(void*)> work_;
  };
  // The kernels of a CPU plan cannot be held back; what they write while they are recorded is
  // written again by the launch. A plan that updates in place must not be recorded by this device.
  std::unique_ptr<Recording> record(const std::function<void(void*)>& work) override {
    ++recordings;
    if (unable) return nullptr;
    return std::make_unique<Again>(*this, work);
  }

  int copies = 0, launches = 0, recordings = 0;
  bool unable = false;
  std::string refuse;
};

// x and w go in, y and z come out.
constexpr const char* kNet = R"(
graph(%x: float32[4], %w: float32[4]) {
  %y: float32[4] = multiply(%x, %w)
  %z: float32[4] = add(%y, %w)
  return %y, %z
})";

class ReplayTest : public testing::Test {
 protected:
  Storage floats(std::vector<float> v) {
    return device.upload(v.data(), static_cast<int64_t>(v.size()) * 4, "a tensor");
  }
  static float first(const Storage& s) { return *static_cast<const float*>(s.data); }

  Pretended device;
  Replay replay{std::make_shared<const Plan>(parse_graph(kNet), nullptr), device};
  Storage arena = device.allocate(1 << 16, "arena");
  Storage w = floats({2, 2, 2, 2});

  std::vector<Storage> step(const Storage& x) { return replay.run({x, w}, arena, nullptr); }
  void expect(const std::vector<Storage>& out, float x) {
    EXPECT_EQ(first(out[0]), 2 * x);
    EXPECT_EQ(first(out[1]), 2 * x + 2);
  }
};

TEST_F(ReplayTest, RecordsAtTheSecondRunAndLaunchesFromThenOn) {
  for (int i = 1; i <= 5; ++i) expect(step(floats({static_cast<float>(i), 0, 0, 0})), i);
  EXPECT_EQ(device.recordings, 1);
  EXPECT_EQ(device.launches, 4);
}

TEST_F(ReplayTest, BatchesThatMoveAreCopiedHome) {
  std::vector<Storage> alive;  // so that no two batches have the same address
  for (int i = 1; i <= 5; ++i) {
    alive.push_back(floats({static_cast<float>(i), 0, 0, 0}));
    expect(step(alive.back()), i);
  }
  EXPECT_EQ(device.recordings, 1);
  EXPECT_EQ(device.copies, 4);  // x alone: w stays
}

TEST_F(ReplayTest, ABatchThatMovesLateIsRecordedOnceMore) {
  const Storage x = floats({1, 0, 0, 0});
  for (int i = 0; i < 3; ++i) expect(step(x), 1);
  const Storage other = floats({7, 0, 0, 0});
  expect(step(other), 7);
  EXPECT_FALSE(replay.recorded());
  for (const Storage& b : {x, other, x}) expect(step(b), first(b));
  EXPECT_EQ(device.recordings, 2);
}

TEST_F(ReplayTest, ResultsThatAreStillHeldKeepTheirNumbers) {
  std::vector<std::vector<Storage>> held;
  const Storage x = floats({0, 0, 0, 0});
  for (int i = 1; i <= 8; ++i) {
    *static_cast<float*>(x.data) = static_cast<float>(i);
    held.push_back(step(x));
  }
  for (int i = 1; i <= 8; ++i) expect(held[static_cast<size_t>(i) - 1], static_cast<float>(i));
  EXPECT_LE(device.recordings, 2);
  EXPECT_GE(device.launches, 5);
}

TEST_F(ReplayTest, OneHeldResultCostsACopyOfItAlone) {
  std::vector<Storage> held;
  const Storage x = floats({3, 0, 0, 0});
  for (int i = 0; i < 6; ++i) held.push_back(step(x)[1]);
  device.copies = 0;
  held.push_back(step(x)[1]);
  EXPECT_EQ(device.copies, 1);
}

TEST_F(ReplayTest, AResultMayOutliveItsReplay) {
  const Storage x = floats({3, 0, 0, 0});
  Storage y;
  {
    Replay own(std::make_shared<const Plan>(parse_graph(kNet), nullptr), device);
    for (int i = 0; i < 3; ++i) y = own.run({x, w}, arena, nullptr)[0];
  }
  EXPECT_EQ(first(y), 6);
  EXPECT_EQ(y.owner.use_count(), 1);  // whoever holds it alone may donate it
}

TEST_F(ReplayTest, AnotherArenaIsNoticed) {
  const Storage x = floats({3, 0, 0, 0});
  for (int i = 0; i < 3; ++i) expect(step(x), 3);
  arena = device.allocate(1 << 17, "arena");
  for (int i = 0; i < 3; ++i) expect(step(x), 3);
  EXPECT_EQ(device.recordings, 2);
}

TEST_F(ReplayTest, GoesOnWithoutWhatCannotBeRecorded) {
  device.unable = true;
  const Storage x = floats({3, 0, 0, 0});
  for (int i = 0; i < 4; ++i) expect(step(x), 3);
  EXPECT_EQ(device.recordings, 1);
  EXPECT_EQ(device.launches, 0);
}

TEST_F(ReplayTest, GoesOnWithoutMemoryForARecording) {
  device.refuse = "an output of a recorded step";
  const Storage x = floats({3, 0, 0, 0});
  for (int i = 0; i < 4; ++i) expect(step(x), 3);
  EXPECT_EQ(device.launches, 0);
}

TEST_F(ReplayTest, AddressesThatNeverSettleEndTheRecording) {
  for (int i = 0; i < 200; ++i) {
    arena = device.allocate((1 << 16) + 4096 * (i / 2), "arena");
    expect(step(floats({3, 0, 0, 0})), 3);
    expect(step(floats({4, 0, 0, 0})), 4);
  }
  EXPECT_LE(device.recordings, 17);
}

// State: the result of one run is the input of the next, and nobody else holds it.
TEST_F(ReplayTest, StateThatComesBackIsDonatedAndStaysRecorded) {
  auto graph = parse_graph(
      "graph(%s: float32[4]) {\n  %a: float32[4] = add(%s, %s)\n"
      "  %b: float32[4] = transpose(%a) {perm=[0]}\n  return %b\n}\n");
  graph->donated = {true};
  Replay own(std::make_shared<const Plan>(std::move(graph), nullptr), device);
  Storage s = floats({1, 1, 1, 1});
  for (int i = 0; i < 8; ++i) {
    std::vector<Storage> in{std::move(s)};
    s = own.run(in, arena, nullptr)[0];
  }
  EXPECT_EQ(first(s), 256);
  EXPECT_GE(device.launches, 4);
}

}  // namespace
}  // namespace trireme
