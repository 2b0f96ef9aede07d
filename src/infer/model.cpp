// Loading a model, making and keeping its plans.
#include "infer/model.h"

#include "base/cpu_features.h"
#include "base/parallel.h"
#include "base/stage_timer.h"
#include "device/precision.h"
#include "ops/cuda_target.h"
#include "passes/pass.h"

namespace trireme::inference {
namespace {

DType dtype_of(Precision precision) {
  switch (precision) {
    case Precision::kBFloat16: return DType::kBFloat16;
    case Precision::kFloat16: return DType::kFloat16;
    default: return DType::kFloat32;
  }
}

// The cap counts host memory on the CPU; a GPU has its own, for all that it holds.
int64_t host_cap(const Config& config, const Device& device) {
  return device.is_host() ? config.memory_limit_mib() << 20 : 0;
}

}  // namespace

Precision computed_precision(const Config& config) {
  const bool slow = find_device(config.device()).is_host() && !cpu_features().fast_bf16;
  return config.precision() == Precision::kBFloat16 && slow ? Precision::kFloat32
                                                            : config.precision();
}

bool half_products(const Config& config) {
  return config.precision() == Precision::kBFloat16 &&
         computed_precision(config) == Precision::kFloat32 && config.float32_ops().empty() &&
         cpu_features().avx512_fp16;
}

Model::Model(const Config& config)
    : config_(config),
      device_(find_device(config.device())),
      pool_(std::make_shared<MemoryPool>(host_cap(config, device_))) {
  if (device_.is_host()) {
    if (config.precision() == Precision::kFloat16)
      fail(Code::kUnavailable, "precision float16 cannot be used on the CPU: use bfloat16");
  } else if (config.memory_limit_mib() > 0) {
    device_.pool().set_cap(config.memory_limit_mib() << 20);
  }
  for (const std::string& type : config.float32_ops())
    TRI_CHECK(is_op_type(type),
              "exp_disable_mixed_precision_ops expects types of operators, got '" + type + '\'');
  program_ = load_program(config.model(), config.params());
  pool_->reserve(program_->parameter_bytes(), "the model's parameters");
  weight_bytes_ = program_->parameter_bytes();
  cache_ = std::make_unique<SharedCache>(pool_);
}

void Model::check_shapes(const std::vector<Shape>& shapes) const {
  const auto& inputs = program_->inputs();
  TRI_CHECK(shapes.size() == inputs.size(), "the model has " + std::to_string(inputs.size()) +
                                                " inputs, got " + std::to_string(shapes.size()) +
                                                " shapes");
  for (size_t i = 0; i < shapes.size(); ++i) {
    const Shape &declared = inputs[i].shape, &given = shapes[i];
    bool fits = declared.rank() == given.rank();
    for (int d = 0; fits && d < given.rank(); ++d)
      fits = given[d] >= 0 && (declared[d] == Shape::kUnknown || declared[d] == given[d]);
    TRI_CHECK(fits, "input '" + inputs[i].name + "' expects shape " + declared.str() + ", got " +
                        given.str());
    TRI_CHECK(given.numel() > 0, "input '" + inputs[i].name + "' is empty: " + given.str());
  }
}

std::unique_ptr<Graph> Model::graph(const std::vector<Shape>& shapes,
                                    const std::string& last_pass) {
  check_shapes(shapes);
  auto graph = std::make_unique<Graph>();
  {
    const StageTimer timer("record");
    const BuilderScope scope(*graph);
    std::vector<Value*> inputs;
    for (size_t i = 0; i < shapes.size(); ++i)
      inputs.push_back(graph->add_input({program_->inputs()[i].dtype, shapes[i], Layout::kPlain},
                                        program_->inputs()[i].name));
    graph->outputs = program_->record(inputs);
  }
  set_location({});
  run_passes(*graph,
             PassContext{target_of(device_.name()), cache_.get(),
                         dtype_of(computed_precision(config_)), config_.float32_ops()},
             last_pass);
  return graph;
}

std::shared_ptr<const Plan> Model::plan(const std::vector<Shape>& shapes, double* plan_ms) {
  std::string key = std::to_string(num_threads());
  for (const Shape& s : shapes) key += s.str();
  const std::lock_guard lock(mutex_);
  *plan_ms = 0;
  const auto it = by_key_.find(key);
  if (it != by_key_.end()) {
    plans_.splice(plans_.begin(), plans_, it->second);
    return plans_.front().plan;
  }
  const double start = Profiler::now_us();
  const NoTf32Scope scope(!config_.float32_ops().empty());
  const HalfProductsScope half(half_products(config_));
  auto plan = std::make_shared<const Plan>(graph(shapes, {}), cache_.get(), &device_);
  *plan_ms = (Profiler::now_us() - start) / 1e3;
  plans_.push_front({key, plan});
  by_key_[key] = plans_.begin();
  while (static_cast<int>(plans_.size()) > std::max(1, config_.plan_cache_size())) {
    by_key_.erase(plans_.back().key);
    plans_.pop_back();
  }
  return plan;
}

}  // namespace trireme::inference
