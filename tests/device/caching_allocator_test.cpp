// The GPU's allocator over a pretended device: reuse, splitting, the cap, what an error tells.
#include "device/caching_allocator.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "trireme/error.h"

namespace trireme {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

struct Pretended {
  int64_t total = 0, taken = 0;
  int segments = 0;
  std::unordered_map<void*, int64_t> sizes;
  std::shared_ptr<MemoryPool> pool = std::make_shared<MemoryPool>();

  explicit Pretended(int64_t bytes) : total(bytes) {}
  // Segments that a test still uses at its end are not given back.
  ~Pretended() {
    for (const auto& [segment, bytes] : sizes) std::free(segment);
  }
  std::unique_ptr<CachingAllocator> allocator() {
    return std::make_unique<CachingAllocator>(
        "gpu:0", pool,
        CachingAllocator::Source{[this](int64_t bytes) -> void* {
                                   if (taken + bytes > total) return nullptr;
                                   void* p = std::aligned_alloc(512, static_cast<size_t>(bytes));
                                   taken += bytes;
                                   ++segments;
                                   sizes[p] = bytes;
                                   return p;
                                 },
                                 [this](void* p) {
                                   taken -= sizes.at(p);
                                   sizes.erase(p);
                                   std::free(p);
                                 }});
  }
};

TEST(CachingAllocator, TakesFreedMemoryAgain) {
  Pretended device(int64_t{1} << 40);
  const auto a = device.allocator();
  void* first = a->allocate(30 * kMiB, "x");
  a->free(first);
  EXPECT_EQ(a->allocate(30 * kMiB, "x"), first);
  EXPECT_EQ(device.segments, 1);
  EXPECT_EQ(device.pool->used(), 30 * kMiB);
  EXPECT_EQ(device.pool->peak(), 30 * kMiB);
  EXPECT_EQ(a->reserved(), 30 * kMiB);
}

TEST(CachingAllocator, SplitsAndJoinsSegments) {
  Pretended device(int64_t{1} << 40);
  const auto a = device.allocator();
  std::vector<void*> pieces;
  for (int i = 0; i < 4; ++i) pieces.push_back(a->allocate(5 * kMiB, "piece"));
  EXPECT_EQ(device.segments, 1);  // of 20 MiB
  for (const int i : {1, 3, 0, 2}) a->free(pieces[static_cast<size_t>(i)]);
  EXPECT_EQ(a->allocate(20 * kMiB, "whole"), pieces[0]);
  EXPECT_EQ(device.segments, 1);
}

TEST(CachingAllocator, SmallRequestsShareSegmentsOfTheirOwn) {
  Pretended device(int64_t{1} << 40);
  const auto a = device.allocator();
  std::vector<void*> pieces;
  for (int i = 0; i < 4096; ++i) {
    pieces.push_back(a->allocate(4, "scalar"));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pieces.back()) % 512, 0u);
  }
  EXPECT_EQ(device.segments, 1);  // 2 MiB
  for (void* p : pieces) a->free(p);
  a->trim();
  EXPECT_EQ(device.taken, 0);
  EXPECT_EQ(device.pool->used(), 0);
}

TEST(CachingAllocator, TellsWhoHoldsTheMemoryAndGoesOn) {
  Pretended device(int64_t{1} << 40);
  device.pool->set_cap(100 * kMiB);
  const auto a = device.allocator();
  void* activations = a->allocate(40 * kMiB, "activations");
  void* weights = a->allocate(30 * kMiB, "weights");
  (void)a->allocate(12 * kMiB, "moments");
  (void)a->allocate(11 * kMiB, "a batch");
  try {
    (void)a->allocate(64 * kMiB, "a tensor");
    FAIL() << "over the cap";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kResourceExhausted);
    EXPECT_EQ(
        e.message(),
        "[memory] gpu:0: a tensor needs 64.00 MiB; 93.00 MiB are in use, 94.00 MiB held of the "
        "device, the cap is 100.00 MiB; the largest in use: activations 40.00 MiB, weights "
        "30.00 MiB, moments 12.00 MiB");
  }
  EXPECT_NO_THROW(a->free(a->allocate(kMiB / 2, "a smaller one")));
  a->free(activations);
  a->free(weights);
  EXPECT_NO_THROW(a->allocate(64 * kMiB, "a tensor"));  // segments were given back for it
  EXPECT_LE(device.taken, 100 * kMiB);
}

TEST(CachingAllocator, NeverHoldsMoreThanTheCap) {
  Pretended device(int64_t{1} << 40);
  device.pool->set_cap(33 * kMiB);
  const auto a = device.allocator();
  std::vector<void*> pieces;
  uint32_t random = 5;
  for (int i = 0; i < 4000; ++i) {
    random = random * 1664525u + 1013904223u;
    if (random % 3 == 0 && !pieces.empty()) {
      a->free(pieces[random % pieces.size()]);
      pieces.erase(pieces.begin() + random % pieces.size());
      continue;
    }
    try {
      pieces.push_back(a->allocate(int64_t{1} << (random >> 8) % 25, "piece"));
    } catch (const Error& e) { EXPECT_EQ(e.code(), Code::kResourceExhausted); }
    ASSERT_LE(device.taken, 33 * kMiB);
    ASSERT_EQ(device.taken, a->reserved());
    ASSERT_LE(device.pool->used(), a->reserved());
  }
  for (void* p : pieces) a->free(p);
  a->trim();
  EXPECT_EQ(device.taken, 0);
}

TEST(CachingAllocator, SurvivesADeviceThatIsFull) {
  Pretended device(50 * kMiB);
  const auto a = device.allocator();
  a->free(a->allocate(40 * kMiB, "first"));
  EXPECT_NO_THROW(a->free(a->allocate(45 * kMiB, "second")));  // the first went back before
  EXPECT_THROW((void)a->allocate(60 * kMiB, "third"), Error);
  EXPECT_THROW((void)a->allocate(int64_t{1} << 60, "nonsense"), Error);
  EXPECT_NO_THROW((void)a->allocate(40 * kMiB, "fourth"));
}

TEST(CachingAllocator, ServesManyThreads) {
  Pretended device(int64_t{1} << 40);
  const auto a = device.allocator();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        auto* p = static_cast<char*>(a->allocate(1000 * (t + 1), "x"));
        p[0] = p[999] = static_cast<char>(t);
        EXPECT_EQ(p[0], t);
        a->free(p);
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(device.pool->used(), 0);
}

}  // namespace
}  // namespace trireme
