// The order of samples in an epoch.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "trireme/io.h"

namespace trireme::io {
namespace {

void shuffle(std::vector<int64_t>& indices, RandomStream& random) {
  for (auto i = static_cast<int64_t>(indices.size()) - 1; i > 0; --i)
    std::swap(indices[static_cast<size_t>(i)], indices[static_cast<size_t>(random.below(i + 1))]);
}

// numpy.random.RandomState(seed).shuffle of a list.
void numpy_shuffle(std::vector<int64_t>& indices, uint32_t seed) {
  std::mt19937 random(seed);
  for (auto i = static_cast<uint32_t>(indices.size()); i-- > 1;) {
    uint32_t mask = i;
    for (int shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
    auto value = static_cast<uint32_t>(random()) & mask;
    while (value > i) value = static_cast<uint32_t>(random()) & mask;
    std::swap(indices[i], indices[value]);
  }
}

std::vector<int64_t> counted(int64_t size) {
  std::vector<int64_t> indices(static_cast<size_t>(size));
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

void check_count(const char* sampler, int64_t count, int64_t size, bool replacement) {
  const std::string name = std::string("[") + sampler + "] ";
  TRI_CHECK(count >= 0, name + "expected a number of samples, got " + std::to_string(count));
  TRI_CHECK(size > 0 || count == 0, name + "expected something to draw from");
  TRI_CHECK(replacement || count <= size, name + "cannot draw " + std::to_string(count) + " of " +
                                              std::to_string(size) + " without replacement");
}

}  // namespace

SequenceSampler::SequenceSampler(int64_t size) : size_(size) {
  TRI_CHECK(size >= 0, "[SequenceSampler] expected a size, got " + std::to_string(size));
}

std::vector<int64_t> SequenceSampler::indices(int64_t) const { return counted(size_); }

RandomSampler::RandomSampler(int64_t size, uint64_t seed, bool replacement, int64_t num_samples)
    : size_(size),
      count_(num_samples == 0 ? size : num_samples),
      seed_(seed),
      replacement_(replacement) {
  check_count("RandomSampler", count_, size_, replacement_);
}

std::vector<int64_t> RandomSampler::indices(int64_t epoch) const {
  RandomStream random(seed_, static_cast<uint64_t>(epoch), UINT64_MAX);
  if (replacement_) {
    std::vector<int64_t> indices(static_cast<size_t>(count_));
    for (int64_t& index : indices) index = random.below(size_);
    return indices;
  }
  std::vector<int64_t> indices = counted(size_);
  shuffle(indices, random);
  indices.resize(static_cast<size_t>(count_));
  return indices;
}

WeightedRandomSampler::WeightedRandomSampler(std::vector<double> weights, int64_t num_samples,
                                             bool replacement, uint64_t seed)
    : weights_(std::move(weights)), count_(num_samples), seed_(seed), replacement_(replacement) {
  int64_t possible = 0;
  for (const double weight : weights_) {
    TRI_CHECK(
        weight >= 0 && std::isfinite(weight),
        "[WeightedRandomSampler] expected weights not below zero, got " + std::to_string(weight));
    possible += weight > 0 ? 1 : 0;
  }
  check_count("WeightedRandomSampler", count_, possible, replacement_);
}

std::vector<int64_t> WeightedRandomSampler::indices(int64_t epoch) const {
  RandomStream random(seed_, static_cast<uint64_t>(epoch), UINT64_MAX);
  std::vector<int64_t> indices;
  if (!replacement_) {  // the largest of u^(1/w), as Efraimidis and Spirakis draw
    std::vector<double> keys;
    for (const double w : weights_)
      keys.push_back(w > 0 ? std::log(1 - random.uniform()) / w : -INFINITY);
    indices = counted(static_cast<int64_t>(keys.size()));
    std::ranges::stable_sort(indices, [&](int64_t a, int64_t b) {
      return keys[static_cast<size_t>(a)] > keys[static_cast<size_t>(b)];
    });
    indices.resize(static_cast<size_t>(count_));
    return indices;
  }
  std::vector<double> sums(weights_.size());
  std::partial_sum(weights_.begin(), weights_.end(), sums.begin());
  for (int64_t i = 0; i < count_; ++i) {
    const double at = random.uniform() * sums.back();
    const auto found = std::ranges::upper_bound(sums, at) - sums.begin();
    indices.push_back(std::min<int64_t>(found, static_cast<int64_t>(sums.size()) - 1));
  }
  return indices;
}

SubsetRandomSampler::SubsetRandomSampler(std::vector<int64_t> indices, uint64_t seed)
    : indices_(std::move(indices)), seed_(seed) {
  TRI_CHECK(!indices_.empty(), "[SubsetRandomSampler] expected indices");
}

std::vector<int64_t> SubsetRandomSampler::indices(int64_t epoch) const {
  RandomStream random(seed_, static_cast<uint64_t>(epoch), UINT64_MAX);
  std::vector<int64_t> indices = indices_;
  shuffle(indices, random);
  return indices;
}

BatchSampler::BatchSampler(int64_t batch_size, bool drop_last)
    : batch_size_(batch_size), drop_last_(drop_last) {
  TRI_CHECK(batch_size > 0,
            "[BatchSampler] expected a batch size above zero, got " + std::to_string(batch_size));
}

BatchSampler::BatchSampler(std::shared_ptr<const Sampler> sampler, int64_t batch_size,
                           bool drop_last)
    : BatchSampler(batch_size, drop_last) {
  TRI_CHECK(sampler != nullptr, "[BatchSampler] expected a sampler");
  sampler_ = std::move(sampler);
}

int64_t BatchSampler::count(int64_t indices) const {
  return indices / batch_size_ + (!drop_last_ && indices % batch_size_ != 0 ? 1 : 0);
}

std::vector<std::vector<int64_t>> BatchSampler::cut(const std::vector<int64_t>& indices) const {
  std::vector<std::vector<int64_t>> batches;
  const auto size = static_cast<int64_t>(indices.size());
  for (int64_t b = 0; b < count(size); ++b)
    batches.emplace_back(indices.begin() + b * batch_size_,
                         indices.begin() + std::min((b + 1) * batch_size_, size));
  return batches;
}

int64_t BatchSampler::size() const { return count(sampler_->size()); }

std::vector<std::vector<int64_t>> BatchSampler::batches(int64_t epoch) const {
  return cut(sampler_->indices(epoch));
}

DistributedBatchSampler::DistributedBatchSampler(int64_t dataset_size, int64_t batch_size,
                                                 int num_replicas, int rank, bool shuffle,
                                                 bool drop_last)
    : BatchSampler(batch_size, drop_last),
      dataset_size_(dataset_size),
      replicas_(num_replicas),
      rank_(rank),
      shuffle_(shuffle) {
  TRI_CHECK(dataset_size > 0 && dataset_size <= INT32_MAX,
            "[DistributedBatchSampler] expected a dataset of 1 to 2^31 samples, got " +
                std::to_string(dataset_size));
  TRI_CHECK(num_replicas > 0 && rank >= 0 && rank < num_replicas,
            "[DistributedBatchSampler] expected a rank below the " + std::to_string(num_replicas) +
                " replicas, got " + std::to_string(rank));
  samples_ = (dataset_size + replicas_ - 1) / replicas_;
}

int64_t DistributedBatchSampler::size() const { return count(samples_); }

std::vector<std::vector<int64_t>> DistributedBatchSampler::batches(int64_t epoch) const {
  const int64_t total = samples_ * replicas_;
  std::vector<int64_t> all(static_cast<size_t>(total));
  for (int64_t i = 0; i < total; ++i) all[static_cast<size_t>(i)] = i % dataset_size_;
  if (shuffle_) numpy_shuffle(all, static_cast<uint32_t>(epoch_ >= 0 ? epoch_ : epoch));
  std::vector<int64_t> mine;
  const auto take = [&](int64_t from, int64_t n) {
    mine.insert(mine.end(), all.begin() + from, all.begin() + from + n);
  };
  const int64_t round = batch_size_ * replicas_, rest = total % round;
  for (int64_t at = rank_ * batch_size_; at < total - rest; at += round) take(at, batch_size_);
  take(total - rest + rank_ * (rest / replicas_), rest / replicas_);
  return cut(mine);
}

}  // namespace trireme::io
