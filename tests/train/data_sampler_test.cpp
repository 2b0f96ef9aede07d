// Samplers and datasets of datasets; the distributed sampler against real Paddle 3.3.1.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "trireme/io.h"

namespace trireme::io {
namespace {

using Indices = std::vector<int64_t>;
using Batches = std::vector<Indices>;

bool permutation(Indices indices, int64_t n) {
  std::ranges::sort(indices);
  Indices all(static_cast<size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return indices == all;
}

TEST(Sampler, RandomIsAPermutationOfItsOwnEachEpoch) {
  const RandomSampler sampler(100, 7);
  EXPECT_TRUE(permutation(sampler.indices(0), 100));
  EXPECT_EQ(sampler.indices(3), sampler.indices(3));
  EXPECT_NE(sampler.indices(3), sampler.indices(4));
  EXPECT_NE(sampler.indices(3), RandomSampler(100, 8).indices(3));
  EXPECT_EQ(RandomSampler(5, 0, true, 50).indices(0).size(), 50U);
  EXPECT_EQ(RandomSampler(5, 0, false, 2).indices(0).size(), 2U);
  EXPECT_THROW(RandomSampler(5, 0, false, 6), Error);
}

TEST(Sampler, RandomFavoursNoPlace) {
  // Where index 0 lands in 6000 epochs of 6: chi squared with 5 degrees of freedom, p = 1e-4.
  const RandomSampler sampler(6, 1);
  std::vector<double> at(6);
  for (int64_t epoch = 0; epoch < 6000; ++epoch) {
    const Indices indices = sampler.indices(epoch);
    ++at[static_cast<size_t>(std::ranges::find(indices, 0) - indices.begin())];
  }
  double chi = 0;
  for (const double n : at) chi += (n - 1000) * (n - 1000) / 1000;
  EXPECT_LT(chi, 25.7);
}

TEST(Sampler, WeightsAreHonoured) {
  const WeightedRandomSampler sampler({1, 0, 3}, 40'000, true, 5);
  std::vector<double> count(3);
  for (const int64_t index : sampler.indices(0)) ++count[static_cast<size_t>(index)];
  EXPECT_EQ(count[1], 0);
  EXPECT_NEAR(count[2] / count[0], 3, 0.15);
  const Indices once = WeightedRandomSampler({1, 0, 3}, 2, false, 5).indices(0);
  EXPECT_EQ(std::set<int64_t>(once.begin(), once.end()), (std::set<int64_t>{0, 2}));
  EXPECT_THROW(WeightedRandomSampler({1, 0, 3}, 3, false), Error);
  EXPECT_THROW(WeightedRandomSampler({1, -1}, 1), Error);
  EXPECT_THROW(WeightedRandomSampler({0, 0}, 1), Error);
}

TEST(Sampler, SubsetAndBatches) {
  Indices drawn = SubsetRandomSampler({5, 7, 9}, 1).indices(0);
  std::ranges::sort(drawn);
  EXPECT_EQ(drawn, (Indices{5, 7, 9}));
  const auto order = std::make_shared<SequenceSampler>(5);
  EXPECT_EQ(BatchSampler(order, 2).batches(0), (Batches{{0, 1}, {2, 3}, {4}}));
  EXPECT_EQ(BatchSampler(order, 2, true).batches(0), (Batches{{0, 1}, {2, 3}}));
  EXPECT_EQ(BatchSampler(order, 2, true).size(), 2);
  EXPECT_THROW(BatchSampler(order, 0), Error);
}

TEST(DistributedBatchSampler, DealsAsPaddle) {
  EXPECT_EQ(DistributedBatchSampler(10, 3, 2, 0).batches(0), (Batches{{0, 1, 2}, {6, 7}}));
  EXPECT_EQ(DistributedBatchSampler(10, 3, 2, 1).batches(0), (Batches{{3, 4, 5}, {8, 9}}));
  EXPECT_EQ(DistributedBatchSampler(10, 3, 2, 1, false, true).batches(0), (Batches{{3, 4, 5}}));
  const Batches shuffled[] = {{{20, 2, 17, 18}, {0, 11, 22, 7}},
                              {{19, 0, 13, 10}, {4, 8, 9, 16}},
                              {{5, 1, 21, 12}, {6, 15, 14, 3}}};
  for (int rank = 0; rank < 3; ++rank) {
    DistributedBatchSampler sampler(23, 4, 3, rank, true);
    EXPECT_EQ(sampler.size(), 2);
    EXPECT_EQ(sampler.batches(5), shuffled[rank]);
    EXPECT_NE(sampler.batches(6), shuffled[rank]);
    sampler.set_epoch(5);
    EXPECT_EQ(sampler.batches(6), shuffled[rank]);
  }
  EXPECT_THROW(DistributedBatchSampler(10, 3, 2, 2), Error);
  EXPECT_THROW(DistributedBatchSampler(0, 3, 2, 0), Error);
}

std::shared_ptr<ArrayDataset> counted(int64_t n, int64_t from = 0) {
  Array values(DType::kInt64, {n});
  std::iota(values.as<int64_t>(), values.as<int64_t>() + n, from);
  return std::make_shared<ArrayDataset>(std::vector<Array>{values});
}

int64_t value(const Dataset& dataset, int64_t index) { return *dataset[index][0].as<int64_t>(); }

TEST(Datasets, SubsetConcatComposeSplit) {
  const DatasetPtr a = counted(4), b = counted(3, 100);
  EXPECT_EQ(value(Subset(a, {3, 1}), 0), 3);
  EXPECT_THROW(Subset(a, {4}), Error);
  const ConcatDataset all({a, b});
  EXPECT_EQ(all.size(), 7);
  EXPECT_EQ(value(all, 3), 3);
  EXPECT_EQ(value(all, 4), 100);
  EXPECT_THROW(all[7], Error);
  EXPECT_THROW(all[-1], Error);
  const ComposeDataset both({b, counted(3, 200)});
  EXPECT_EQ(*both[2][1].as<int64_t>(), 202);
  EXPECT_THROW(ComposeDataset({a, b}), Error);
  const auto parts = random_split(a, {3, 1}, 5);
  Indices seen;
  for (const auto& part : parts)
    for (int64_t i = 0; i < part->size(); ++i) seen.push_back(value(*part, i));
  EXPECT_TRUE(permutation(seen, 4));
  EXPECT_THROW(random_split(a, {3, 2}), Error);
  EXPECT_THROW(random_split(a, {3}), Error);
  EXPECT_THROW(ArrayDataset({Array(DType::kInt64, {2}), Array(DType::kInt64, {3})}), Error);
}

TEST(RandomStream, IsTheSameEverywhereAndEven) {
  RandomStream random(1, 2, 3);
  RandomStream again(1, 2, 3);
  EXPECT_EQ(random.next(), again.next());
  EXPECT_NE(RandomStream(1, 2, 3).next(), RandomStream(1, 3, 2).next());
  EXPECT_NE(RandomStream(0, 0, 0).next(), RandomStream(0, 0, 1).next());
  double sum = 0, squares = 0;
  std::vector<int> counts(7);
  for (int i = 0; i < 70'000; ++i) {
    const double n = random.normal();
    sum += n, squares += n * n;
    ++counts[static_cast<size_t>(random.below(7))];
  }
  EXPECT_NEAR(sum / 70'000, 0, 0.02);
  EXPECT_NEAR(squares / 70'000, 1, 0.03);
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);
  EXPECT_EQ(random.below(0), 0);
  EXPECT_EQ(random.between(4, 4), 4);
}

}  // namespace
}  // namespace trireme::io
