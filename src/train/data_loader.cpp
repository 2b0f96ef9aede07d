// DataLoader: workers make batches ahead of the consumer, in an order that does not depend on them.
#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <thread>

#include "train/data_batch.h"

namespace trireme::io {
namespace {

constexpr size_t kKeptReasons = 20;

struct Made {
  Batch batch;
  std::exception_ptr error;
  std::vector<std::string> reasons;  // of skipped samples, the first few
  int64_t skipped = 0;
  bool end = false;  // an iterable dataset has no more
};

struct Stopped {};  // thrown inside a worker when nobody wants the batch any more

// The current exception as an Error that names the sample, and its file once.
Error named(const std::string& sample, const std::string& source) {
  const std::string where = source.empty() ? sample : sample + " (" + source + ")";
  try {
    throw;
  } catch (const Error& e) {
    const bool known = !source.empty() && e.location().find(source) != std::string::npos;
    return e.at(known ? sample : where);
  } catch (const std::bad_alloc&) {
    return {Code::kResourceExhausted, "[DataLoader] no memory", where};
  } catch (const std::exception& e) { return {Code::kInternal, e.what(), where}; }
}

std::string sample_of(int64_t index) { return "sample " + std::to_string(index); }

bool may_skip(const Error& error, OnError on_error) {
  return on_error == OnError::kSkipAndCount &&
         (error.code() == Code::kInvalidArgument || error.code() == Code::kNotFound);
}

// What the workers of one epoch share.
struct Source {
  DatasetPtr dataset;
  std::shared_ptr<const IterableDataset> iterable;
  DataLoaderOptions options;
  Normalization normalization;
  std::shared_ptr<BufferPool> pool;
};

}  // namespace

// One epoch: makes batches [first, ...), a few of them ahead of the consumer.
class Epoch {
 public:
  Epoch(const Source& source, int64_t epoch, int64_t first,
        std::vector<std::vector<int64_t>> batches)
      : source_(source), epoch_(epoch), next_(first), wanted_(first), batches_(std::move(batches)) {
    if (source_.iterable) {
      stream_ = source_.iterable->stream(epoch);
      TRI_CHECK(stream_ != nullptr, "[DataLoader] the dataset gave no stream");
      skip_to(first);
    } else {
      count_repeats(first);
    }
    try {
      for (int i = 0; i < source_.options.num_workers; ++i)
        threads_.emplace_back([this] { work(); });
    } catch (const std::exception& e) {
      join();
      fail(Code::kResourceExhausted, "[DataLoader] cannot start " +
                                         std::to_string(source_.options.num_workers) +
                                         " workers: " + e.what());
    }
  }
  ~Epoch() { join(); }
  Epoch(const Epoch&) = delete;
  Epoch& operator=(const Epoch&) = delete;

  // The batch of this number; called with rising numbers.
  Made take(int64_t number) {
    if (threads_.empty()) return make(number, pull());
    std::unique_lock lock(mutex_);
    wanted_ = number;
    changed_.notify_all();
    changed_.wait(lock, [&] { return done_.contains(number); });
    auto node = done_.extract(number);
    wanted_ = number + 1;
    lock.unlock();
    changed_.notify_all();
    return std::move(node.mapped());
  }

 private:
  // The samples of an iterable dataset's next batch, which must be read in order.
  struct Pulled {
    std::vector<Sample> samples;
    Made made;
  };

  void join() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void work() {
    const int64_t ahead =
        static_cast<int64_t>(source_.options.num_workers) * source_.options.prefetch_factor;
    for (;;) {
      Pulled pulled;
      int64_t number = 0;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || (!pulling_ && next_ < wanted_ + ahead); });
        if (stop_ || (!source_.iterable && next_ >= static_cast<int64_t>(batches_.size()))) return;
        number = next_++;
        pulling_ = source_.iterable != nullptr;
      }
      if (source_.iterable) {
        pulled = pull();
        {
          const std::lock_guard lock(mutex_);
          pulling_ = false;
          if (pulled.made.end) next_ = INT64_MAX / 2;  // nobody need look further
        }
        changed_.notify_all();
      }
      const bool last = pulled.made.end;
      Made made = make(number, std::move(pulled));
      {
        const std::lock_guard lock(mutex_);
        if (stop_) return;
        done_.emplace(number, std::move(made));
      }
      changed_.notify_all();
      if (last) return;
    }
  }

  Made make(int64_t number, Pulled pulled) {
    Made made = std::move(pulled.made);
    if (made.error) return made;
    try {
      if (source_.iterable) collate(std::move(pulled.samples), made);
      else gather(number, made);
    } catch (const Stopped&) {
    } catch (...) {
      made.batch.clear();
      made.error = std::current_exception();
    }
    return made;
  }

  void gather(int64_t number, Made& made) {
    const std::vector<int64_t>& indices = batches_[static_cast<size_t>(number)];
    BatchBuilder builder(*source_.pool, source_.normalization,
                         static_cast<int64_t>(indices.size()));
    std::vector<Sample> samples;
    const int64_t before = before_.empty() ? 0 : before_[static_cast<size_t>(number)];
    for (size_t i = 0; i < indices.size(); ++i) {
      if (stopped()) throw Stopped{};
      // A sample that comes twice in an epoch is augmented in two ways.
      const uint64_t repeat = repeats_.empty() ? 0 : repeats_[static_cast<size_t>(before) + i];
      Sample sample;
      if (!get(indices[i], repeat, sample, made)) continue;
      if (source_.options.collate) samples.push_back(std::move(sample));
      else add(builder, sample, indices[i]);
    }
    if (source_.options.collate && !samples.empty())
      made.batch = (*source_.options.collate)(std::move(samples));
    else if (builder.count() > 0) made.batch = builder.finish();
  }

  bool get(int64_t index, uint64_t repeat, Sample& sample, Made& made) {
    RandomStream random(source_.options.seed, static_cast<uint64_t>(epoch_),
                        static_cast<uint64_t>(index) ^ repeat << 40);
    try {
      sample = source_.dataset->get(index, random);
      return true;
    } catch (...) { skip_or_throw(sample_of(index), source_.dataset->source(index), made); }
    return false;
  }

  void skip_or_throw(const std::string& sample, const std::string& source, Made& made) {
    const Error error = named(sample, source);
    if (!may_skip(error, source_.options.on_error)) throw error;
    ++made.skipped;
    if (made.reasons.size() < kKeptReasons) made.reasons.emplace_back(error.what());
  }

  void add(BatchBuilder& builder, const Sample& sample, int64_t index) {
    try {
      builder.add(sample);
    } catch (...) {
      throw source_.dataset ? named(sample_of(index), source_.dataset->source(index))
                            : named("a sample of the stream", "");
    }
  }

  void collate(std::vector<Sample> samples, Made& made) {
    if (samples.empty()) return;
    if (source_.options.collate) {
      made.batch = (*source_.options.collate)(std::move(samples));
      return;
    }
    BatchBuilder builder(*source_.pool, source_.normalization,
                         static_cast<int64_t>(samples.size()));
    for (const Sample& sample : samples) add(builder, sample, 0);
    made.batch = builder.finish();
  }

  Pulled pull() {
    Pulled pulled;
    if (!source_.iterable) return pulled;
    const auto size = static_cast<size_t>(source_.options.batch_size);
    try {
      while (pulled.samples.size() < size && !pulled.made.end) {
        if (stopped()) break;
        RandomStream random(source_.options.seed, static_cast<uint64_t>(epoch_),
                            static_cast<uint64_t>(pulls_));
        Sample sample;
        try {
          if (stream_->next(sample, random)) pulled.samples.push_back(std::move(sample));
          else pulled.made.end = true;
        } catch (...) { skip_or_throw(sample_of(pulls_), "", pulled.made); }
        ++pulls_;
      }
    } catch (...) {
      ++pulls_;
      pulled.samples.clear();
      pulled.made.error = std::current_exception();
    }
    if (pulled.samples.size() < size && source_.options.drop_last) pulled.samples.clear();
    return pulled;
  }

  // A stream has no other way to a position than to read up to it.
  void skip_to(int64_t first) {
    for (int64_t i = 0; i < first; ++i) pull();
  }

  // How often each index of the epoch came before; nothing is kept where none comes twice.
  void count_repeats(int64_t first) {
    std::vector<uint32_t> seen(static_cast<size_t>(source_.dataset->size()));
    bool twice = false;
    int64_t total = 0;
    for (const auto& batch : batches_) {
      before_.push_back(total);
      total += static_cast<int64_t>(batch.size());
      for (const int64_t index : batch) {
        TRI_CHECK(index >= 0 && index < static_cast<int64_t>(seen.size()),
                  "[DataLoader] the sampler gave index " + std::to_string(index) +
                      " for a dataset of " + std::to_string(seen.size()));
        twice |= seen[static_cast<size_t>(index)]++ > 0;
      }
    }
    if (!twice) before_.clear();
    else {
      std::ranges::fill(seen, 0U);
      for (const auto& batch : batches_)
        for (const int64_t index : batch) repeats_.push_back(seen[static_cast<size_t>(index)]++);
    }
    // What lies behind the position will not be wanted again.
    for (int64_t i = 0; i < first; ++i) batches_[static_cast<size_t>(i)] = {};
  }

  bool stopped() {
    const std::lock_guard lock(mutex_);
    return stop_;
  }

  const Source& source_;
  const int64_t epoch_;
  int64_t next_, wanted_;  // the batch to begin, the batch that the consumer waits for
  std::vector<std::vector<int64_t>> batches_;
  std::vector<int64_t> before_;    // samples before each batch
  std::vector<uint32_t> repeats_;  // of every sample of the epoch
  std::unique_ptr<SampleStream> stream_;
  int64_t pulls_ = 0;
  bool pulling_ = false, stop_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, Made> done_;
  std::vector<std::thread> threads_;
};

class DataLoader::Engine {
 public:
  Engine(DatasetPtr dataset, std::shared_ptr<const IterableDataset> iterable,
         DataLoaderOptions options)
      : source_{std::move(dataset), std::move(iterable), std::move(options), {}, {}} {
    DataLoaderOptions& o = source_.options;
    TRI_CHECK(source_.dataset || source_.iterable, "[DataLoader] expected a dataset");
    TRI_CHECK(o.num_workers >= 0 && o.num_workers <= 256,
              "[DataLoader] num_workers is 0 to 256, got " + std::to_string(o.num_workers));
    TRI_CHECK(
        o.prefetch_factor > 0 && o.prefetch_factor <= 1024,
        "[DataLoader] prefetch_factor is 1 to 1024, got " + std::to_string(o.prefetch_factor));
    TRI_CHECK(o.batch_size > 0,
              "[DataLoader] expected a batch_size above zero, got " + std::to_string(o.batch_size));
    const auto channels = [](size_t n) { return n == 1 || n == 3; };
    TRI_CHECK(o.mean.empty() == o.std.empty() &&
                  (o.mean.empty() || (channels(o.mean.size()) && channels(o.std.size()))),
              "[DataLoader] mean and std have 1 or 3 values each");
    for (const float s : o.std) TRI_CHECK(s != 0, "[DataLoader] a value of std is zero");
    source_.normalization = {o.mean, o.std};
    constexpr size_t kFields = 4;
    source_.pool = std::make_shared<BufferPool>(
        kFields * static_cast<size_t>(o.num_workers * o.prefetch_factor + 2));
    if (source_.iterable) {
      TRI_CHECK(!o.shuffle && !o.batch_sampler && !o.sampler,
                "[DataLoader] an iterable dataset has its own order: no shuffle, no sampler");
      return;
    }
    make_sampler();
  }

  int64_t size() const { return sampler_ ? sampler_->size() : -1; }

  bool next(Batch& batch) {
    batch.clear();  // its memory may serve the batches to come
    restored_ = false;
    if (ended_) return finish();
    if (!epoch_) {
      auto batches = sampler_ ? sampler_->batches(at_.epoch) : std::vector<std::vector<int64_t>>{};
      count_ = static_cast<int64_t>(batches.size());
      if (sampler_ && at_.batch >= count_) return finish();
      epoch_ = std::make_unique<Epoch>(source_, at_.epoch, at_.batch, std::move(batches));
    }
    while (!sampler_ || at_.batch < count_) {
      Made made = epoch_->take(at_.batch);
      ++at_.batch;
      at_.skipped += made.skipped;
      for (std::string& reason : made.reasons)
        if (reasons_.size() < kKeptReasons) reasons_.push_back(std::move(reason));
      if (made.error) std::rethrow_exception(made.error);
      if (!made.batch.empty()) {
        batch = std::move(made.batch);
        ended_ = made.end;
        return true;
      }
      if (made.end) break;
    }
    return finish();
  }

  void begin() {
    if (at_.batch > 0 && !restored_) finish();
  }

  const State& state() const { return at_; }
  void set_state(const State& state) {
    TRI_CHECK(state.epoch >= 0 && state.batch >= 0 && state.skipped >= 0,
              "[DataLoader] a state below zero");
    TRI_CHECK(!sampler_ || state.batch <= sampler_->size(),
              "[DataLoader] the state is at batch " + std::to_string(state.batch) +
                  ", an epoch has " + std::to_string(size()) +
                  ": was it another dataset or batch size?");
    epoch_.reset();
    ended_ = false;
    at_ = state;
    reasons_.clear();
    restored_ = true;
  }
  const std::vector<std::string>& reasons() const { return reasons_; }

 private:
  void make_sampler() {
    const DataLoaderOptions& o = source_.options;
    sampler_ = o.batch_sampler;
    if (sampler_) {
      TRI_CHECK(!o.shuffle && !o.sampler && !o.drop_last && o.batch_size == 1,
                "[DataLoader] a batch_sampler decides on batch_size, shuffle, drop_last and "
                "sampler");
      return;
    }
    const int64_t size = source_.dataset->size();
    TRI_CHECK(size > 0, "[DataLoader] the dataset is empty");
    TRI_CHECK(!o.sampler || !o.shuffle, "[DataLoader] a sampler decides on shuffle");
    std::shared_ptr<const Sampler> order = o.sampler;
    if (!order && o.shuffle) order = std::make_shared<const RandomSampler>(size, o.seed);
    if (!order) order = std::make_shared<const SequenceSampler>(size);
    sampler_ = std::make_shared<const BatchSampler>(order, o.batch_size, o.drop_last);
  }

  bool finish() {
    epoch_.reset();
    ended_ = false;
    at_ = {at_.epoch + 1, 0, at_.skipped};
    return false;
  }

  Source source_;
  std::shared_ptr<const BatchSampler> sampler_;
  State at_;
  int64_t count_ = 0;
  bool restored_ = true, ended_ = false;
  std::vector<std::string> reasons_;
  std::unique_ptr<Epoch> epoch_;  // behind what it refers to
};

DataLoader::DataLoader(DatasetPtr dataset, DataLoaderOptions options)
    : engine_(std::make_unique<Engine>(std::move(dataset), nullptr, std::move(options))) {}
DataLoader::DataLoader(std::shared_ptr<const IterableDataset> dataset, DataLoaderOptions options)
    : engine_(std::make_unique<Engine>(nullptr, std::move(dataset), std::move(options))) {}
DataLoader::~DataLoader() = default;
DataLoader::DataLoader(DataLoader&&) noexcept = default;
DataLoader& DataLoader::operator=(DataLoader&&) noexcept = default;

int64_t DataLoader::size() const { return engine_->size(); }
bool DataLoader::next(Batch& batch) { return engine_->next(batch); }
DataLoader::Iterator DataLoader::begin() {
  engine_->begin();
  return Iterator(this);
}
DataLoader::State DataLoader::state() const { return engine_->state(); }
void DataLoader::set_state(const State& state) { engine_->set_state(state); }
int64_t DataLoader::skipped() const { return engine_->state().skipped; }
const std::vector<std::string>& DataLoader::skips() const { return engine_->reasons(); }

}  // namespace trireme::io
