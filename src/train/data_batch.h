// Making batches: a pool of their memory, and the builder that puts samples into it.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "trireme/io.h"

namespace trireme::io {

// Throws kResourceExhausted where `bytes` are more than the machine, or the container, has left.
void check_memory(size_t bytes);

// Memory of batches, used again when every Array over it is gone. Any thread.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  explicit BufferPool(size_t most_kept) : most_kept_(most_kept) {}
  Array take(DType dtype, const Shape& shape);

 private:
  void give(Array storage);
  std::mutex mutex_;
  std::vector<Array> free_;
  size_t most_kept_;
};

// What happens to pictures on their way into a batch.
struct Normalization {
  std::vector<float> mean, std;
  bool wanted() const { return !mean.empty(); }
};

// One batch, sample by sample: each is copied while it is in the cache.
class BatchBuilder {
 public:
  BatchBuilder(BufferPool& pool, const Normalization& normalization, int64_t capacity)
      : pool_(pool), normalization_(normalization), capacity_(capacity) {}
  void add(const Sample& sample);
  int64_t count() const { return count_; }
  Batch finish();

 private:
  void start(const Sample& sample);
  void check(const Sample& sample) const;
  bool normalises(size_t field) const { return field == 0 && normalization_.wanted(); }

  BufferPool& pool_;
  const Normalization& normalization_;
  int64_t capacity_, count_ = 0;
  std::vector<DType> dtypes_;
  std::vector<Shape> shapes_;  // of a sample's fields
  std::vector<float> factor_, offset_;
  Batch batch_;
};

}  // namespace trireme::io
