// Making batches: memory that is used again, pixels that become floats on the way.
#include "train/data_batch.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "trireme/vision.h"

namespace trireme::io {
namespace {

// Smaller requests are not worth a look at the system's files.
constexpr size_t kWorthALook = size_t{16} << 20;

// A number in a file of one line, such as a control group's; -1 when there is none.
int64_t number_in(const char* path) {
  std::ifstream file(path);
  int64_t value = -1;
  return file >> value ? value : -1;
}

int64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  int64_t kib = 0, free = INT64_MAX;
  while (file >> name >> kib) {
    std::getline(file, unit);
    if (name == "MemAvailable:") free = kib * 1024;
  }
  const int64_t most = number_in("/sys/fs/cgroup/memory.max");
  const int64_t used = number_in("/sys/fs/cgroup/memory.current");
  if (most >= 0 && used >= 0) free = std::min(free, std::max<int64_t>(0, most - used));
  return free;
}

std::string text_of(DType dtype, const Shape& shape) {
  return std::string(name_of(dtype)) + " " + shape.str();
}

Shape in_front(int64_t n, const Shape& shape) {
  TRI_CHECK(shape.rank() < Shape::kMaxRank, "[DataLoader] a field has too many dimensions");
  Shape result{n};
  for (const int64_t dim : shape) result.push_back(dim);
  return result;
}

}  // namespace

void check_memory(size_t bytes) {
  if (bytes < kWorthALook) return;
  const int64_t free = available_bytes();
  if (static_cast<int64_t>(bytes) <= free) return;
  fail(Code::kResourceExhausted,
       "[DataLoader] a batch needs " + std::to_string(bytes >> 20) + " MiB, " +
           std::to_string(free >> 20) +
           " MiB are available: lower batch_size, num_workers or prefetch_factor");
}

Array BufferPool::take(DType dtype, const Shape& shape) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(shape.numel(), static_cast<int64_t>(size_of(dtype)), &bytes))
    fail(Code::kResourceExhausted, "[DataLoader] a batch of " + shape.str() + " is too large");
  Array storage;
  {
    const std::lock_guard lock(mutex_);
    const auto fits = std::ranges::find_if(
        free_, [&](const Array& a) { return a.bytes() == static_cast<size_t>(bytes); });
    if (fits != free_.end()) {
      storage = std::move(*fits);
      free_.erase(fits);
    }
  }
  if (!storage.defined()) {
    check_memory(static_cast<size_t>(bytes));
    storage = Array(DType::kUInt8, {bytes});
  }
  void* data = storage.data();
  std::shared_ptr<const void> owner(
      data, [pool = shared_from_this(), storage](const void*) { pool->give(storage); });
  return {dtype, shape, data, std::move(owner)};
}

void BufferPool::give(Array storage) {
  const std::lock_guard lock(mutex_);
  if (free_.size() >= most_kept_) free_.erase(free_.begin());
  free_.push_back(std::move(storage));
}

void BatchBuilder::start(const Sample& sample) {
  TRI_CHECK(!sample.empty(), "[DataLoader] a sample has no fields");
  for (size_t i = 0; i < sample.size(); ++i) {
    const Array& field = sample[i];
    TRI_CHECK(field.defined(), "[DataLoader] field " + std::to_string(i) + " is not defined");
    dtypes_.push_back(field.dtype());
    shapes_.push_back(field.shape());
    Shape shape = field.shape();
    if (normalises(i)) {
      const bool picture =
          field.dtype() == DType::kUInt8 && shape.rank() == 3 && (shape[2] == 1 || shape[2] == 3);
      TRI_CHECK(picture, "[DataLoader] mean and std are for pictures, uint8 [H, W, 1 or 3]; got " +
                             text_of(field.dtype(), shape));
      const auto& [mean, std] = normalization_;
      for (size_t c = 0; c < static_cast<size_t>(shape[2]); ++c) {
        const float m = mean[mean.size() == 1 ? 0 : c], s = std[std.size() == 1 ? 0 : c];
        factor_.push_back(1 / (255 * s));
        offset_.push_back(-m / s);
      }
      shape = {shape[2], shape[0], shape[1]};
    }
    batch_.push_back(
        pool_.take(normalises(i) ? DType::kFloat32 : field.dtype(), in_front(capacity_, shape)));
  }
}

void BatchBuilder::check(const Sample& sample) const {
  TRI_CHECK(sample.size() == shapes_.size(),
            "[DataLoader] expected " + std::to_string(shapes_.size()) +
                " fields, as the batch's first sample has, got " + std::to_string(sample.size()));
  for (size_t i = 0; i < sample.size(); ++i)
    TRI_CHECK(sample[i].dtype() == dtypes_[i] && sample[i].shape() == shapes_[i],
              "[DataLoader] field " + std::to_string(i) + " is " +
                  text_of(sample[i].dtype(), sample[i].shape()) +
                  ", the batch's first sample has " + text_of(dtypes_[i], shapes_[i]) +
                  ": bring all to one size, or give a collate");
}

void BatchBuilder::add(const Sample& sample) {
  if (count_ == 0) start(sample);
  check(sample);
  for (size_t i = 0; i < sample.size(); ++i) {
    const Array& field = sample[i];
    const size_t room = batch_[i].bytes() / static_cast<size_t>(capacity_);
    auto* at = static_cast<uint8_t*>(batch_[i].data()) + room * static_cast<size_t>(count_);
    if (normalises(i))
      vision::planar_floats(field.as<uint8_t>(), field.shape()[0] * field.shape()[1],
                            static_cast<int>(field.shape()[2]), factor_.data(), offset_.data(),
                            reinterpret_cast<float*>(at));
    else if (room > 0) std::memcpy(at, field.data(), room);
  }
  ++count_;
}

Batch BatchBuilder::finish() {
  for (Array& field : batch_) {
    Shape shape = field.shape();
    if (shape[0] == count_) continue;
    shape[0] = count_;
    field = Array(field.dtype(), shape, field.data(), field.owner());
  }
  return std::move(batch_);
}

}  // namespace trireme::io
