// Datasets made of arrays and of other datasets.
#include <algorithm>
#include <numeric>

#include "trireme/io.h"

namespace trireme::io {
namespace {

void check_index(const char* what, int64_t index, int64_t size) {
  TRI_CHECK(index >= 0 && index < size, std::string("[") + what + "] index " +
                                            std::to_string(index) + " is not in a dataset of " +
                                            std::to_string(size));
}

void check_defined(const char* what, const std::vector<DatasetPtr>& datasets) {
  TRI_CHECK(!datasets.empty(), std::string("[") + what + "] expected at least one dataset");
  for (const DatasetPtr& dataset : datasets)
    TRI_CHECK(dataset != nullptr, std::string("[") + what + "] a dataset is missing");
}

}  // namespace

ArrayDataset::ArrayDataset(std::vector<Array> arrays) : arrays_(std::move(arrays)) {
  TRI_CHECK(!arrays_.empty(), "[ArrayDataset] expected at least one array");
  for (const Array& array : arrays_) {
    TRI_CHECK(array.defined() && array.shape().rank() > 0,
              "[ArrayDataset] expected arrays with a first dimension");
    TRI_CHECK(array.shape()[0] == size(), "[ArrayDataset] expected " + std::to_string(size()) +
                                              " rows, got " + array.shape().str());
  }
}

int64_t ArrayDataset::size() const { return arrays_[0].shape()[0]; }

Sample ArrayDataset::get(int64_t index, RandomStream&) const {
  check_index("ArrayDataset", index, size());
  Sample sample;
  for (const Array& array : arrays_) {
    const Shape row(array.shape().dims().subspan(1));
    const size_t bytes = array.bytes() / static_cast<size_t>(size());
    auto* at =
        static_cast<uint8_t*>(const_cast<void*>(array.data())) + bytes * static_cast<size_t>(index);
    sample.emplace_back(array.dtype(), row, at, array.owner());
  }
  return sample;
}

Subset::Subset(DatasetPtr dataset, std::vector<int64_t> indices)
    : dataset_(std::move(dataset)), indices_(std::move(indices)) {
  check_defined("Subset", {dataset_});
  for (const int64_t index : indices_) check_index("Subset", index, dataset_->size());
}

Sample Subset::get(int64_t index, RandomStream& random) const {
  check_index("Subset", index, size());
  return dataset_->get(indices_[static_cast<size_t>(index)], random);
}

std::string Subset::source(int64_t index) const {
  return dataset_->source(indices_[static_cast<size_t>(index)]);
}

ConcatDataset::ConcatDataset(std::vector<DatasetPtr> datasets) : datasets_(std::move(datasets)) {
  check_defined("ConcatDataset", datasets_);
  int64_t end = 0;
  for (const DatasetPtr& dataset : datasets_) ends_.push_back(end += dataset->size());
}

int64_t ConcatDataset::size() const { return ends_.back(); }

std::pair<size_t, int64_t> ConcatDataset::place(int64_t index) const {
  check_index("ConcatDataset", index, size());
  const auto at = static_cast<size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
  return {at, index - (at == 0 ? 0 : ends_[at - 1])};
}

Sample ConcatDataset::get(int64_t index, RandomStream& random) const {
  const auto [which, at] = place(index);
  return datasets_[which]->get(at, random);
}

std::string ConcatDataset::source(int64_t index) const {
  const auto [which, at] = place(index);
  return datasets_[which]->source(at);
}

ComposeDataset::ComposeDataset(std::vector<DatasetPtr> datasets) : datasets_(std::move(datasets)) {
  check_defined("ComposeDataset", datasets_);
  for (const DatasetPtr& dataset : datasets_)
    TRI_CHECK(dataset->size() == size(), "[ComposeDataset] expected datasets of one size, got " +
                                             std::to_string(size()) + " and " +
                                             std::to_string(dataset->size()));
}

int64_t ComposeDataset::size() const { return datasets_[0]->size(); }

Sample ComposeDataset::get(int64_t index, RandomStream& random) const {
  Sample sample;
  for (const DatasetPtr& dataset : datasets_)
    for (Array& field : dataset->get(index, random)) sample.push_back(std::move(field));
  return sample;
}

std::string ComposeDataset::source(int64_t index) const { return datasets_[0]->source(index); }

std::vector<DatasetPtr> random_split(const DatasetPtr& dataset, const std::vector<int64_t>& lengths,
                                     uint64_t seed) {
  check_defined("random_split", {dataset});
  int64_t sum = 0;
  for (const int64_t length : lengths) {
    TRI_CHECK(length >= 0 && length <= dataset->size() - sum,
              "[random_split] the lengths do not add up to the dataset's " +
                  std::to_string(dataset->size()));
    sum += length;
  }
  TRI_CHECK(sum == dataset->size(), "[random_split] the lengths add up to " + std::to_string(sum) +
                                        ", the dataset has " + std::to_string(dataset->size()));
  const std::vector<int64_t> order = RandomSampler(sum, seed).indices(0);
  std::vector<DatasetPtr> parts;
  auto at = order.begin();
  for (const int64_t length : lengths) {
    parts.push_back(std::make_shared<const Subset>(dataset, std::vector<int64_t>(at, at + length)));
    at += length;
  }
  return parts;
}

ChainDataset::ChainDataset(std::vector<std::shared_ptr<const IterableDataset>> datasets)
    : datasets_(std::move(datasets)) {
  for (const auto& d : datasets_) TRI_CHECK(d != nullptr, "[ChainDataset] expected datasets");
}

std::unique_ptr<SampleStream> ChainDataset::stream(int64_t epoch) const {
  struct Chain : SampleStream {
    const std::vector<std::shared_ptr<const IterableDataset>> datasets;
    const int64_t epoch;
    size_t opened = 0;
    std::unique_ptr<SampleStream> now;
    Chain(std::vector<std::shared_ptr<const IterableDataset>> all, int64_t e)
        : datasets(std::move(all)), epoch(e) {}
    bool next(Sample& sample, RandomStream& random) override {
      while (now != nullptr || opened < datasets.size()) {
        if (now == nullptr) now = datasets[opened++]->stream(epoch);
        if (now->next(sample, random)) return true;
        now = nullptr;
      }
      return false;
    }
  };
  return std::make_unique<Chain>(datasets_, epoch);
}

}  // namespace trireme::io
