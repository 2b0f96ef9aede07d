// Inference: load a model in Paddle's formats and run it. Paddle's vocabulary: Config,
// create_predictor, handles.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "trireme/array.h"
#include "trireme/types.h"

namespace trireme {
class Tensor;
}

namespace trireme::inference {

enum class Precision { kFloat32, kBFloat16, kFloat16 };  // kFloat16: on a GPU alone

// What to load and how to run it. A plain value: fill it in, hand it to create_predictor.
class Config {
 public:
  Config() = default;
  // A folder with inference.{pdmodel,json} and inference.pdiparams, or the program's file (and,
  // when it is not beside it under the same stem, the parameters' file).
  explicit Config(std::string model, std::string params = {})
      : model_(std::move(model)), params_(std::move(params)) {}

  void set_model(std::string model, std::string params = {}) {
    model_ = std::move(model);
    params_ = std::move(params);
  }
  void set_device(std::string device) { device_ = std::move(device); }  // "cpu", "gpu:0"
  void set_cpu_math_library_num_threads(int n) { threads_ = n; }  // 0: as many as there are cores
  void set_precision(Precision precision) { precision_ = precision; }  // see computed_precision()
  // Operators that stay float32 whatever the precision, by Paddle's types ("conv2d",
  // "depthwise_conv2d", "matmul" ...; create_predictor throws kInvalidArgument for unknown ones).
  // What is kept for its accuracy needs all of float32's bits: a model with such operators uses no
  // TF32 on a GPU.
  void exp_disable_mixed_precision_ops(std::vector<std::string> types) {
    float32_ops_ = std::move(types);
  }
  void set_memory_limit_mib(int64_t mib) {
    memory_limit_mib_ = mib;
  }  // 0: none; counts weights and arenas. On a GPU it is the device's cap (trireme/device.h).
  void set_plan_cache_size(int plans) {
    plan_cache_size_ = plans;
  }  // plans kept, least recently used go
  void enable_profile(std::string trace_file = {}) {
    profile_ = true;
    trace_file_ = std::move(trace_file);
  }

  const std::string& model() const { return model_; }
  const std::string& params() const { return params_; }
  const std::string& device() const { return device_; }
  int threads() const { return threads_; }
  Precision precision() const { return precision_; }
  const std::vector<std::string>& float32_ops() const { return float32_ops_; }
  int64_t memory_limit_mib() const { return memory_limit_mib_; }
  int plan_cache_size() const { return plan_cache_size_; }
  bool profile() const { return profile_; }
  const std::string& trace_file() const { return trace_file_; }

 private:
  std::string model_, params_, device_ = "cpu", trace_file_;
  int threads_ = 0, plan_cache_size_ = 64;
  int64_t memory_limit_mib_ = 0;
  Precision precision_ = Precision::kFloat32;
  std::vector<std::string> float32_ops_;
  bool profile_ = false;
};

// What a model of this config computes in: the config's precision, except that on the CPU bfloat16
// is taken only where the processor multiplies it faster than float32 (with AMX, or AMD's
// AVX512-BF16). Elsewhere the model runs in float32: faster there, and more exact. Throws
// kUnavailable when the device is not there.
Precision computed_precision(const Config& config);

// Whether products with constant weights are nevertheless of 16 bits then: of float16, where the
// processor has AVX512-FP16. They are scaled so that nothing overflows, and longer sums are
// float32; the results are about as exact as those of bfloat16, or better. Not for a model that has
// operators of exp_disable_mixed_precision_ops().
bool half_products(const Config& config);

// What the plan of the most recent run says about itself.
struct PlanStats {
  int64_t planned_peak_bytes = 0;  // size of the arena that holds the intermediates
  int64_t intermediate_bytes = 0;  // what they would take if none shared memory
  int64_t weight_bytes = 0;        // parameters and packed forms held by the model
  int kernels = 0;                 // kernels that a run starts
  double plan_ms = 0;              // time spent on recording, passes and preparing kernels
};

struct TensorInfo {
  std::string name;
  DType dtype;
  Shape shape;  // may hold Shape::kUnknown
};

// One input or output of a predictor. Valid as long as its predictor lives.
class Handle {
 public:
  virtual ~Handle() = default;
  virtual const std::string& name() const = 0;
  // Inputs: set the shape, then copy, or lend memory that stays valid during run().
  virtual void reshape(const Shape& shape) = 0;
  virtual void copy_from_cpu(const void* data, DType dtype) = 0;
  virtual void share_external_data(const Array& tensor) = 0;
  // The same with a tensor of trireme/tensor.h on the predictor's device (kInvalidArgument
  // otherwise): nothing is copied from the host. What is pending is computed now.
  virtual void share_external_data(const Tensor& tensor) = 0;
  void copy_from_cpu(const float* data) { copy_from_cpu(data, DType::kFloat32); }
  void copy_from_cpu(const int64_t* data) { copy_from_cpu(data, DType::kInt64); }
  // Outputs: valid after run(), until the next one. On a GPU run() returns before the work is done;
  // tensor() and copy_to_cpu() wait for it and fetch the result.
  virtual const Shape& shape() const = 0;
  virtual DType dtype() const = 0;
  virtual const Array& tensor() const = 0;
  virtual void copy_to_cpu(void* data) const = 0;
};

// Runs one model. One thread at a time per Predictor; clone() gives another one that shares
// weights, packed weights and plans, for another thread. Different clones may run at the same
// moment.
class Predictor {
 public:
  virtual ~Predictor() = default;
  virtual const std::vector<TensorInfo>& inputs() const = 0;
  virtual const std::vector<TensorInfo>& outputs() const = 0;
  virtual std::vector<std::string> get_input_names() const = 0;
  virtual std::vector<std::string> get_output_names() const = 0;
  virtual Handle* get_input_handle(const std::string& name) = 0;  // throws kNotFound
  virtual Handle* get_output_handle(const std::string& name) = 0;
  // Runs on what the input handles hold. Throws Error; after one the predictor can be used again.
  virtual void run() = 0;
  // The same in one call: inputs in the order of get_input_names(); the outputs are the caller's to
  // keep.
  virtual std::vector<Array> run(const std::vector<Array>& inputs) = 0;
  // Plans (and runs once on zeros) for the given input shapes, so that the first request is not the
  // slow one.
  virtual void warm_up(const std::vector<Shape>& shapes) = 0;
  virtual std::unique_ptr<Predictor> clone() const = 0;
  virtual PlanStats stats() const = 0;
  // Time by node over all runs, as a table; empty unless the config asked for a profile.
  virtual std::string profile() const = 0;
  // The graph as text: as recorded ("record") or after the named pass; inputs take the given
  // shapes.
  virtual std::string graph_text(const std::vector<Shape>& shapes,
                                 const std::string& after_pass) = 0;
};

// Loads the model; throws kNotFound, kInvalidArgument (a damaged file, with the place),
// kUnimplemented (an operator, with its attributes and place).
std::unique_ptr<Predictor> create_predictor(const Config& config);

}  // namespace trireme::inference
