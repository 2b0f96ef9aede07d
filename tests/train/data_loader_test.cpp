// DataLoader: the same batches whatever the workers, resuming, errors, abandoned epochs.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <stdexcept>
#include <thread>

#include "train/data_batch.h"
#include "trireme/io.h"

namespace trireme::io {
namespace {

// Field 0: index and a random number of the sample; field 1: the index.
class Numbers : public Dataset {
 public:
  explicit Numbers(int64_t size) : size_(size) {}
  int64_t size() const override { return size_; }
  Sample get(int64_t index, RandomStream& random) const override {
    ++calls;
    if (failing.contains(index)) failing.at(index)();
    if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(index % 3));
    Array values(DType::kFloat64, {2}), label(DType::kInt64, {});
    values.as<double>()[0] = static_cast<double>(index);
    values.as<double>()[1] = random.uniform();
    *label.as<int64_t>() = index;
    return {values, label};
  }
  std::string source(int64_t index) const override { return "file" + std::to_string(index); }

  std::map<int64_t, void (*)()> failing;
  bool slow = false;
  mutable std::atomic<int> calls = 0;

 private:
  int64_t size_;
};

std::vector<double> values_of(const Batch& batch) {
  const double* from = batch[0].as<double>();
  return {from, from + batch[0].numel()};
}

std::vector<std::vector<double>> epoch_of(DataLoader& loader) {
  std::vector<std::vector<double>> all;
  for (const Batch& batch : loader) all.push_back(values_of(batch));
  return all;
}

void bad_file() { fail(Code::kInvalidArgument, "[image] damaged JPEG: for the test"); }

TEST(DataLoader, SameBatchesWhateverTheWorkers) {
  auto dataset = std::make_shared<Numbers>(53);
  dataset->slow = true;
  std::vector<std::vector<double>> first, second;
  for (const int workers : {0, 1, 2, 5}) {
    DataLoader loader(dataset,
                      {.batch_size = 8, .shuffle = true, .num_workers = workers, .seed = 3});
    EXPECT_EQ(loader.size(), 7);
    const auto a = epoch_of(loader), b = epoch_of(loader);
    if (workers == 0) first = a, second = b;
    EXPECT_EQ(a, first) << workers;
    EXPECT_EQ(b, second) << workers;
    EXPECT_EQ(a.size(), 7U);
    EXPECT_EQ(a.back().size(), 10U);  // 5 samples
  }
  EXPECT_NE(first, second);  // another order, other random numbers
  std::set<double> seen;
  for (const auto& batch : first)
    for (size_t i = 0; i < batch.size(); i += 2) seen.insert(batch[i]);
  EXPECT_EQ(seen.size(), 53U);
}

TEST(DataLoader, SeedsDifferAndDropLastDrops) {
  auto dataset = std::make_shared<Numbers>(20);
  DataLoader a(dataset, {.batch_size = 6, .shuffle = true, .seed = 1});
  DataLoader b(dataset, {.batch_size = 6, .shuffle = true, .drop_last = true, .seed = 2});
  EXPECT_EQ(b.size(), 3);
  EXPECT_EQ(epoch_of(b).size(), 3U);
  EXPECT_NE(epoch_of(a)[0], epoch_of(b)[0]);
}

TEST(DataLoader, AResumedRunSeesTheSameBatches) {
  auto dataset = std::make_shared<Numbers>(40);
  const DataLoaderOptions options{.batch_size = 4, .shuffle = true, .num_workers = 2, .seed = 9};
  DataLoader whole(dataset, options);
  std::vector<std::vector<double>> all;
  std::vector<DataLoader::State> states;
  Batch batch;
  for (int epoch = 0; epoch < 3; ++epoch)
    for (;;) {
      states.push_back(whole.state());
      if (!whole.next(batch)) break;
      all.push_back(values_of(batch));
    }
  ASSERT_EQ(all.size(), 30U);
  for (const size_t at : {size_t{3}, size_t{10}, size_t{17}}) {
    DataLoader resumed(dataset, options);
    resumed.set_state(states[at]);
    std::vector<std::vector<double>> rest;
    while (resumed.state().epoch < 3)
      for (Batch& b : resumed) rest.push_back(values_of(b));
    // states has one more entry an epoch: the one at its end.
    const std::vector<std::vector<double>> expected(
        all.begin() + static_cast<std::ptrdiff_t>(at - at / 11), all.end());
    EXPECT_EQ(rest, expected) << at;
  }
}

TEST(DataLoader, AnAbandonedEpochStopsItsWorkers) {
  auto dataset = std::make_shared<Numbers>(10'000);
  for (int i = 0; i < 20; ++i) {
    DataLoader loader(dataset, {.batch_size = 2, .num_workers = 4, .prefetch_factor = 3});
    for (Batch& batch : loader) {
      EXPECT_EQ(batch[1].as<int64_t>()[0] % 2, 0);
      if (batch[1].as<int64_t>()[0] >= 6) break;
    }
    EXPECT_EQ(loader.state().batch, 4);
  }
  // The queue is bounded: 4 batches taken, at most 12 ahead, of 2 samples each.
  EXPECT_LE(dataset->calls, 20 * (4 + 12 + 1) * 2);
  DataLoader loader(dataset, {.batch_size = 100, .num_workers = 2});
  for (Batch& batch : loader)
    if (batch[1].as<int64_t>()[0] == 300) break;
  for (Batch& batch : loader) {  // a new epoch, from its start
    EXPECT_EQ(batch[1].as<int64_t>()[0], 0);
    break;
  }
  EXPECT_EQ(loader.state().epoch, 1);
}

TEST(DataLoader, ErrorsNameTheSampleAndItsFileInTheirTurn) {
  for (const int workers : {0, 2}) {
    auto dataset = std::make_shared<Numbers>(12);
    dataset->failing[5] = bad_file;
    dataset->failing[9] = [] { throw std::out_of_range("a user's own"); };
    DataLoader loader(dataset, {.batch_size = 2, .num_workers = workers});
    Batch batch;
    std::vector<std::string> errors;
    int good = 0;
    for (int i = 0; i < 6; ++i) try {
        ASSERT_TRUE(loader.next(batch));
        ++good;
      } catch (const Error& e) { errors.emplace_back(e.what()); }
    EXPECT_FALSE(loader.next(batch));
    EXPECT_EQ(good, 4);
    ASSERT_EQ(errors.size(), 2U);
    EXPECT_EQ(errors[0], "[image] damaged JPEG: for the test (sample 5 (file5))");
    EXPECT_EQ(errors[1], "a user's own (sample 9 (file9))");
  }
}

TEST(DataLoader, SkipsAndCountsWhereTold) {
  for (const int workers : {0, 3}) {
    auto dataset = std::make_shared<Numbers>(12);
    for (const int64_t index : {1, 4, 5, 6, 7}) dataset->failing[index] = bad_file;
    DataLoader loader(
        dataset, {.batch_size = 4, .num_workers = workers, .on_error = OnError::kSkipAndCount});
    std::vector<int64_t> sizes;
    for (const Batch& batch : loader) sizes.push_back(batch[1].shape()[0]);
    EXPECT_EQ(sizes, (std::vector<int64_t>{3, 4}));  // of the second batch nothing was left
    EXPECT_EQ(loader.skipped(), 5);
    ASSERT_EQ(loader.skips().size(), 5U);
    EXPECT_NE(loader.skips()[0].find("sample 1 (file1)"), std::string::npos);
  }
  auto dataset = std::make_shared<Numbers>(2);
  dataset->failing[1] = [] { throw std::bad_alloc(); };
  DataLoader loader(dataset, {.batch_size = 2, .on_error = OnError::kSkipAndCount});
  Batch batch;
  try {
    loader.next(batch);
    FAIL();
  } catch (const Error& e) { EXPECT_EQ(e.code(), Code::kResourceExhausted); }
}

TEST(DataLoader, MemoryIsUsedAgain) {
  auto dataset = std::make_shared<Numbers>(64);
  DataLoader loader(dataset, {.batch_size = 4, .num_workers = 2});
  std::set<const void*> places;
  for (const Batch& batch : loader) places.insert(batch[0].data());
  EXPECT_LE(places.size(), 7U);  // 16 batches; 4 ahead, one in each worker, one here
  Batch a, b;
  loader.next(a);
  const std::vector<double> kept = values_of(a);
  while (loader.next(b)) {}
  EXPECT_EQ(values_of(a), kept);  // what is held is not written to
}

TEST(DataLoader, ABatchThatDoesNotFitSaysSo) {
  class Large : public Dataset {
    int64_t size() const override { return 1 << 24; }
    Sample get(int64_t, RandomStream&) const override { return {Array(DType::kUInt8, {1 << 20})}; }
  };
  DataLoader loader(std::make_shared<Large>(), {.batch_size = 1 << 24});
  Batch batch;
  try {
    loader.next(batch);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kResourceExhausted);
    EXPECT_NE(std::string(e.what()).find("lower batch_size"), std::string::npos) << e.what();
  }
  EXPECT_THROW(check_memory(size_t{1} << 60), Error);
}

TEST(DataLoader, NormalisesPicturesOnTheirWay) {
  Array pixels(DType::kUInt8, {3, 4, 5, 3});
  for (int64_t i = 0; i < pixels.numel(); ++i) pixels.as<uint8_t>()[i] = static_cast<uint8_t>(i);
  auto dataset = std::make_shared<ArrayDataset>(std::vector<Array>{pixels});
  DataLoader bytes(dataset, {.batch_size = 2});
  DataLoader floats(dataset, {.batch_size = 2, .mean = {0.5f, 0.25f, 0}, .std = {0.5f, 1, 2}});
  Batch batch;
  bytes.next(batch);
  EXPECT_EQ(batch[0].dtype(), DType::kUInt8);
  EXPECT_EQ(batch[0].shape(), (Shape{2, 4, 5, 3}));
  floats.next(batch);
  ASSERT_EQ(batch[0].shape(), (Shape{2, 3, 4, 5}));
  const float* got = batch[0].as<float>();
  for (int64_t n = 0; n < 2; ++n)
    for (int64_t i = 0; i < 20; ++i) {
      const auto x = [&](int64_t c) { return static_cast<float>((n * 20 + i) * 3 + c) / 255; };
      ASSERT_NEAR(got[(n * 3 + 0) * 20 + i], (x(0) - 0.5f) / 0.5f, 1e-5);
      ASSERT_NEAR(got[(n * 3 + 1) * 20 + i], x(1) - 0.25f, 1e-5);
      ASSERT_NEAR(got[(n * 3 + 2) * 20 + i], x(2) / 2, 1e-5);
    }
}

TEST(DataLoader, FieldsOfOtherShapesAreRefusedByName) {
  class Growing : public Dataset {
    int64_t size() const override { return 3; }
    Sample get(int64_t index, RandomStream&) const override {
      return {Array(DType::kUInt8, {index + 1})};
    }
  };
  Batch batch;
  DataLoader loader(std::make_shared<Growing>(),
                    {.batch_size = 3, .on_error = OnError::kSkipAndCount});
  try {
    loader.next(batch);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("field 0 is uint8 [2]"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("sample 1"), std::string::npos) << e.what();
  }
  DataLoader own(
      std::make_shared<Growing>(),
      {.batch_size = 3, .num_workers = 1, .collate = collate_fn([](std::vector<Sample> s) {
                                            Batch all;
                                            for (Sample& sample : s) all.push_back(sample[0]);
                                            return all;
                                          })});
  ASSERT_TRUE(own.next(batch));
  EXPECT_EQ(batch[2].shape(), (Shape{3}));
}

TEST(DataLoader, ASampleDrawnTwiceIsAugmentedInTwoWays) {
  auto dataset = std::make_shared<Numbers>(3);
  DataLoader loader(dataset,
                    {.batch_size = 12, .sampler = std::make_shared<RandomSampler>(3, 0, true, 12)});
  Batch batch;
  loader.next(batch);
  std::set<double> randoms;
  for (size_t i = 0; i < 12; ++i) randoms.insert(values_of(batch)[2 * i + 1]);
  EXPECT_EQ(randoms.size(), 12U);
}

class Counter : public IterableDataset {
 public:
  explicit Counter(int64_t n) : n_(n) {}
  std::unique_ptr<SampleStream> stream(int64_t epoch) const override {
    struct Stream : SampleStream {
      int64_t at, end;
      bool next(Sample& sample, RandomStream& random) override {
        if (at == end) return false;
        Array values(DType::kFloat64, {2});
        values.as<double>()[0] = static_cast<double>(at++);
        values.as<double>()[1] = random.uniform();
        sample = {values};
        return true;
      }
    };
    auto stream = std::make_unique<Stream>();
    stream->at = 100 * epoch;
    stream->end = 100 * epoch + n_;
    return stream;
  }

 private:
  int64_t n_;
};

TEST(DataLoader, IterableDatasetsKeepTheirOrderAndEnd) {
  std::vector<std::vector<double>> expected;
  for (const int64_t n : {10, 12})
    for (const int workers : {0, 1, 3}) {
      DataLoader loader(std::make_shared<Counter>(n), {.batch_size = 4, .num_workers = workers});
      EXPECT_EQ(loader.size(), -1);
      const auto first = epoch_of(loader), second = epoch_of(loader);
      if (workers == 0) expected = first;
      EXPECT_EQ(first, expected) << n << " " << workers;
      ASSERT_EQ(first.size(), 3U);
      EXPECT_EQ(first[2].size(), n == 10 ? 4U : 8U);
      EXPECT_EQ(second[0][0], 100);
      DataLoader resumed(std::make_shared<Counter>(n), {.batch_size = 4, .num_workers = workers});
      resumed.set_state({0, 2, 0});
      EXPECT_EQ(epoch_of(resumed), (std::vector<std::vector<double>>{expected[2]}));
    }
}

TEST(DataLoader, RefusesOptionsThatContradict) {
  auto dataset = std::make_shared<Numbers>(4);
  const auto refused = [&](DataLoaderOptions o) { EXPECT_THROW(DataLoader(dataset, o), Error); };
  refused({.batch_size = 0});
  refused({.num_workers = -1});
  refused({.prefetch_factor = 0});
  refused({.mean = {1, 2}, .std = {1, 2}});
  refused({.mean = {1}});
  refused({.mean = {1}, .std = {0}});
  refused({.shuffle = true, .sampler = std::make_shared<SequenceSampler>(4)});
  EXPECT_THROW(DataLoader(std::make_shared<Counter>(3), {.shuffle = true}), Error);
  EXPECT_THROW(DataLoader(std::make_shared<Numbers>(0), {}), Error);
  DataLoader loader(dataset, {.batch_size = 2});
  EXPECT_THROW(loader.set_state({0, 3, 0}), Error);
  DataLoader outside(dataset, {.batch_size = 2, .sampler = std::make_shared<SequenceSampler>(5)});
  Batch batch;
  EXPECT_THROW(outside.next(batch), Error);
}

}  // namespace
}  // namespace trireme::io
