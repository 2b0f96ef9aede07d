// Data: datasets, samplers and the DataLoader, with the names of paddle.io. All of it are Arrays on
// the host.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trireme/array.h"
#include "trireme/random_stream.h"

namespace trireme::io {

// The fields of one sample, such as picture and label; of a batch, the same fields with the batch
// in front.
using Sample = std::vector<Array>;
using Batch = std::vector<Array>;

// ---- datasets

// get() is called by many threads at once and for any index of [0, size). All that is random comes
// from `random`, which belongs to the sample.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual int64_t size() const = 0;
  virtual Sample get(int64_t index, RandomStream& random) const = 0;
  // Where the sample comes from (a file), for messages; empty when there is nothing to say.
  virtual std::string source(int64_t /*index*/) const { return {}; }

  Sample operator[](int64_t index) const {
    RandomStream random(0, 0, static_cast<uint64_t>(index));
    return get(index, random);
  }
};
using DatasetPtr = std::shared_ptr<const Dataset>;

// Samples in a row, of unknown number. A stream is read by one thread at a time; only its
// collation runs in parallel.
class SampleStream {
 public:
  virtual ~SampleStream() = default;
  virtual bool next(Sample& sample, RandomStream& random) = 0;  // false at the end
};
class IterableDataset {
 public:
  virtual ~IterableDataset() = default;
  virtual std::unique_ptr<SampleStream> stream(int64_t epoch) const = 0;
};

// Row i of each array (Paddle's TensorDataset). Rows share the arrays' memory.
class ArrayDataset : public Dataset {
 public:
  explicit ArrayDataset(std::vector<Array> arrays);  // first dimensions must agree
  int64_t size() const override;
  Sample get(int64_t index, RandomStream& random) const override;

 private:
  std::vector<Array> arrays_;
};

using TensorDataset = ArrayDataset;

class Subset : public Dataset {
 public:
  Subset(DatasetPtr dataset, std::vector<int64_t> indices);
  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override;

 private:
  DatasetPtr dataset_;
  std::vector<int64_t> indices_;
};

class ConcatDataset : public Dataset {
 public:
  explicit ConcatDataset(std::vector<DatasetPtr> datasets);
  int64_t size() const override;
  Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override;

 private:
  std::pair<size_t, int64_t> place(int64_t index) const;
  std::vector<DatasetPtr> datasets_;
  std::vector<int64_t> ends_;
};

// The fields of several datasets of one size side by side (Paddle's ComposeDataset).
class ComposeDataset : public Dataset {
 public:
  explicit ComposeDataset(std::vector<DatasetPtr> datasets);
  int64_t size() const override;
  Sample get(int64_t index, RandomStream& random) const override;
  std::string source(int64_t index) const override;

 private:
  std::vector<DatasetPtr> datasets_;
};

// Streams one after another.
class ChainDataset : public IterableDataset {
 public:
  explicit ChainDataset(std::vector<std::shared_ptr<const IterableDataset>> datasets);
  std::unique_ptr<SampleStream> stream(int64_t epoch) const override;

 private:
  std::vector<std::shared_ptr<const IterableDataset>> datasets_;
};

// Parts of these lengths, which add up to the dataset's size, drawn by `seed`.
std::vector<DatasetPtr> random_split(const DatasetPtr& dataset, const std::vector<int64_t>& lengths,
                                     uint64_t seed = 0);

// ---- samplers

// The order of an epoch: a function of the epoch alone, so any position can be resumed.
class Sampler {
 public:
  virtual ~Sampler() = default;
  virtual int64_t size() const = 0;  // indices of an epoch
  virtual std::vector<int64_t> indices(int64_t epoch) const = 0;
};

class SequenceSampler : public Sampler {
 public:
  explicit SequenceSampler(int64_t size);
  int64_t size() const override { return size_; }
  std::vector<int64_t> indices(int64_t epoch) const override;

 private:
  int64_t size_;
};

// num_samples 0: as many as there are. Without replacement there cannot be more.
class RandomSampler : public Sampler {
 public:
  explicit RandomSampler(int64_t size, uint64_t seed = 0, bool replacement = false,
                         int64_t num_samples = 0);
  int64_t size() const override { return count_; }
  std::vector<int64_t> indices(int64_t epoch) const override;

 private:
  int64_t size_, count_;
  uint64_t seed_;
  bool replacement_;
};

class WeightedRandomSampler : public Sampler {
 public:
  WeightedRandomSampler(std::vector<double> weights, int64_t num_samples, bool replacement = true,
                        uint64_t seed = 0);
  int64_t size() const override { return count_; }
  std::vector<int64_t> indices(int64_t epoch) const override;

 private:
  std::vector<double> weights_;
  int64_t count_;
  uint64_t seed_;
  bool replacement_;
};

class SubsetRandomSampler : public Sampler {
 public:
  explicit SubsetRandomSampler(std::vector<int64_t> indices, uint64_t seed = 0);
  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  std::vector<int64_t> indices(int64_t epoch) const override;

 private:
  std::vector<int64_t> indices_;
  uint64_t seed_;
};

class BatchSampler {
 public:
  BatchSampler(std::shared_ptr<const Sampler> sampler, int64_t batch_size, bool drop_last = false);
  virtual ~BatchSampler() = default;
  virtual int64_t size() const;  // batches of an epoch
  virtual std::vector<std::vector<int64_t>> batches(int64_t epoch) const;

 protected:
  BatchSampler(int64_t batch_size, bool drop_last);
  std::vector<std::vector<int64_t>> cut(const std::vector<int64_t>& indices) const;
  int64_t count(int64_t indices) const;
  int64_t batch_size_;
  bool drop_last_;

 private:
  std::shared_ptr<const Sampler> sampler_;
};

// Paddle's: the indices are repeated up to a multiple of num_replicas, shuffled with the epoch as
// seed (NumPy's shuffle, so the order is Paddle's), and dealt out a batch at a time. set_epoch
// fixes the epoch whatever the loader says.
class DistributedBatchSampler : public BatchSampler {
 public:
  DistributedBatchSampler(int64_t dataset_size, int64_t batch_size, int num_replicas, int rank,
                          bool shuffle = false, bool drop_last = false);
  int64_t size() const override;
  std::vector<std::vector<int64_t>> batches(int64_t epoch) const override;
  void set_epoch(int64_t epoch) { epoch_ = epoch; }

 private:
  int64_t dataset_size_, replicas_, rank_, samples_;
  bool shuffle_;
  int64_t epoch_ = -1;
};

// ---- loader

// Makes a batch of samples. Called by many threads at once.
class Collate {
 public:
  virtual ~Collate() = default;
  virtual Batch operator()(std::vector<Sample> samples) const = 0;
};
// From a function: collate_fn([](std::vector<io::Sample> samples) { return io::Batch{...}; })
template <class F> std::shared_ptr<const Collate> collate_fn(F function) {
  struct Wrapper : Collate {
    explicit Wrapper(F f) : function(std::move(f)) {}
    Batch operator()(std::vector<Sample> samples) const override {
      return function(std::move(samples));
    }
    F function;
  };
  return std::make_shared<const Wrapper>(std::move(function));
}

enum class OnError : uint8_t { kRaise, kSkipAndCount };

struct DataLoaderOptions {
  int64_t batch_size = 1;
  bool shuffle = false;
  bool drop_last = false;
  int num_workers = 0;      // threads; 0: the caller's own
  int prefetch_factor = 2;  // batches a worker may be ahead
  uint64_t seed = 0;
  // A damaged or missing file leaves the batch one sample smaller; a lack of memory always raises.
  OnError on_error = OnError::kRaise;
  std::shared_ptr<const Collate> collate;             // instead of stacking the fields
  std::shared_ptr<const BatchSampler> batch_sampler;  // instead of batch_size, shuffle, drop_last
  std::shared_ptr<const Sampler> sampler;             // instead of shuffle
  // Pictures (field 0, uint8 [H, W, C]) become float32 [C, H, W] in the pass that puts them into
  // the batch: (x / 255 - mean) / std. Empty: bytes stay bytes, and a GPU normalises later.
  std::vector<float> mean, std;
};

// Order and content depend on the options, the epoch and the dataset; not on num_workers. An error
// of a sample is thrown to the consumer when its batch would have come: same code, location
// "sample 17 (file)"; the next call goes on behind that batch. Used by one thread at a time.
// Batches are memory of their own; what the caller has dropped is used again.
class DataLoader {
 public:
  DataLoader(DatasetPtr dataset, DataLoaderOptions options);
  DataLoader(std::shared_ptr<const IterableDataset> dataset, DataLoaderOptions options);
  ~DataLoader();  // stops the workers, in mid-epoch too
  DataLoader(DataLoader&&) noexcept;
  DataLoader& operator=(DataLoader&&) noexcept;

  int64_t size() const;  // batches of an epoch; -1 for an iterable dataset

  // The next batch of the epoch, false at its end; the call after that begins the next epoch.
  bool next(Batch& batch);

  // for (const Batch& batch : loader): the rest of a restored epoch, or a whole new one.
  class Iterator {
   public:
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(DataLoader* loader) : loader_(loader) { ++*this; }
    Batch& operator*() { return batch_; }
    Iterator& operator++() {
      if (!loader_->next(batch_)) loader_ = nullptr;
      return *this;
    }
    friend bool operator!=(const Iterator& a, const Iterator& b) { return a.loader_ != b.loader_; }
    Iterator() = default;

   private:
    DataLoader* loader_ = nullptr;
    Batch batch_;
  };
  Iterator begin();
  Iterator end() { return {}; }

  // The batch that next() will give. Restored into a loader of the same options and dataset, the
  // same batches follow.
  struct State {
    int64_t epoch = 0, batch = 0, skipped = 0;
  };
  State state() const;
  void set_state(const State& state);

  int64_t skipped() const;                        // samples, since the start or the restored state
  const std::vector<std::string>& skips() const;  // why: the first 20

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace trireme::io
