// Model: a loaded program with its plans, one a set of input shapes; shared by a predictor and its
// clones.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "device/device.h"
#include "formats/program.h"
#include "runtime/model_cache.h"
#include "runtime/plan.h"
#include "trireme/inference.h"

namespace trireme::inference {

// Thread-safe.
class Model {
 public:
  explicit Model(const Config& config);
  ~Model() { pool_->release(weight_bytes_); }

  const Config& config() const { return config_; }
  const Program& program() const { return *program_; }
  const std::shared_ptr<MemoryPool>& pool() const { return pool_; }
  Device& device() const { return device_; }
  int64_t weight_bytes() const { return weight_bytes_ + cache_->bytes(); }

  // The plan for these input shapes: from the cache (the least recently used goes when it is full),
  // or made now. `plan_ms` gets the time that took.
  std::shared_ptr<const Plan> plan(const std::vector<Shape>& shapes, double* plan_ms);

  // The graph for these shapes after the named pass; "record": before any; empty: after all.
  std::unique_ptr<Graph> graph(const std::vector<Shape>& shapes, const std::string& last_pass);

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Plan> plan;
  };
  void check_shapes(const std::vector<Shape>& shapes) const;

  Config config_;
  Device& device_;
  std::shared_ptr<MemoryPool> pool_;  // of host memory
  std::unique_ptr<Program> program_;
  std::unique_ptr<SharedCache> cache_;
  int64_t weight_bytes_ = 0;
  std::mutex mutex_;
  std::list<Entry> plans_;  // most recently used first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
};

}  // namespace trireme::inference
