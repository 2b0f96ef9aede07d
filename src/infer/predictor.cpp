// Predictor: handles, binding, running.
#include <cstring>

#include "base/parallel.h"
#include "graph/text.h"
#include "infer/model.h"
#include "runtime/replay.h"
#include "runtime/variable.h"
#include "trireme/inference.h"

namespace trireme::inference {
namespace {

class TensorHandle : public Handle {
 public:
  TensorHandle(std::string name, DType dtype, Device& device)
      : name_(std::move(name)), dtype_(dtype), device_(device) {}

  const std::string& name() const override { return name_; }
  void reshape(const Shape& shape) override {
    if (!(shape == shape_)) clear_result();
    shape_ = shape;
  }
  void copy_from_cpu(const void* data, DType dtype) override {
    check_dtype(dtype);
    if (!owned_.defined() || !(owned_.shape() == shape_) || owned_.dtype() != dtype_)
      owned_ = Array(dtype_, shape_);
    std::memcpy(owned_.data(), data, owned_.bytes());
    share_external_data(owned_);
  }
  void share_external_data(const Array& tensor) override {
    check_dtype(tensor.dtype());
    tensor_ = tensor;
    shape_ = tensor.shape();
    on_device_ = {};
  }
  void share_external_data(const Tensor& tensor) override {
    const Slot& slot = computed(tensor);
    check_dtype(slot.type.dtype);
    TRI_CHECK(slot.device == &device_, "input '" + name_ + "' expects a tensor on " +
                                           device_.name() + ", got one on " + slot.device->name());
    if (device_.is_host()) return share_external_data(tensor.numpy());
    tensor_ = Array();
    shape_ = slot.type.shape;
    on_device_ = slot.storage;
  }
  const Shape& shape() const override { return shape_; }
  DType dtype() const override { return dtype_; }
  const Array& tensor() const override {
    if (on_device_.data != nullptr && !tensor_.defined()) {
      tensor_ = memory({dtype_, shape_});
      device_.download(tensor_.data(), on_device_.data, tensor_.bytes());
    }
    return tensor_;
  }
  void copy_to_cpu(void* data) const override {
    TRI_CHECK(holds(), "output '" + name_ + "' holds nothing before run()");
    if (on_device_.data == nullptr) std::memcpy(data, tensor_.data(), tensor_.bytes());
    else device_.download(data, on_device_.data, Type{dtype_, shape_}.bytes());
  }

  // ---- the predictor's side
  bool holds() const { return tensor_.defined() || on_device_.data != nullptr; }
  // Memory of an input on the predictor's device.
  Storage device_input() const {
    if (on_device_.data != nullptr) return on_device_;
    return device_.upload(tensor_.data(), static_cast<int64_t>(tensor_.bytes()), "an input");
  }
  // The memory of a result: the last one's when nobody else holds it and it is large enough.
  Array& result(const Type& type) {
    dtype_ = type.dtype;
    shape_ = type.shape;
    tensor_ = Array();
    return tensor_ = memory(type);
  }
  void set_result(const Type& type, Storage storage) {
    clear_result();
    dtype_ = type.dtype;
    shape_ = type.shape;
    on_device_ = std::move(storage);
  }
  void clear_result() {
    tensor_ = Array();
    on_device_ = {};
  }
  void clear() {
    clear_result();
    storage_ = Array();
  }

 private:
  Array memory(const Type& type) const {
    const auto bytes = static_cast<int64_t>(type.bytes());
    if (!storage_.defined() || storage_.owner().use_count() > 1 || storage_.numel() < bytes)
      storage_ = Array(DType::kUInt8, Shape{bytes});
    return {type.dtype, type.shape, storage_.data(), storage_.owner()};
  }
  void check_dtype(DType dtype) const {
    TRI_CHECK(dtype == dtype_, "input '" + name_ + "' expects " + std::string(name_of(dtype_)) +
                                   ", got " + std::string(name_of(dtype)));
  }

  std::string name_;
  DType dtype_;
  Device& device_;
  Shape shape_;
  Storage on_device_;               // set: the value lies there
  mutable Array tensor_, storage_;  // a GPU's result is fetched when it is asked for
  Array owned_;
};

class PredictorImpl : public Predictor {
  using Handles = std::vector<std::unique_ptr<TensorHandle>>;

 public:
  explicit PredictorImpl(std::shared_ptr<Model> model) : model_(std::move(model)) {
    for (const auto& i : model_->program().inputs()) {
      inputs_.push_back({i.name, i.dtype, i.shape});
      input_handles_.push_back(std::make_unique<TensorHandle>(i.name, i.dtype, model_->device()));
    }
    for (const auto& o : model_->program().outputs()) {
      outputs_.push_back({o.name, o.dtype, o.shape});
      output_handles_.push_back(std::make_unique<TensorHandle>(o.name, o.dtype, model_->device()));
    }
  }
  ~PredictorImpl() override { write_profile(); }

  const std::vector<TensorInfo>& inputs() const override { return inputs_; }
  const std::vector<TensorInfo>& outputs() const override { return outputs_; }
  std::vector<std::string> get_input_names() const override { return names(inputs_); }
  std::vector<std::string> get_output_names() const override { return names(outputs_); }
  Handle* get_input_handle(const std::string& name) override {
    return find(input_handles_, name, "input");
  }
  Handle* get_output_handle(const std::string& name) override {
    return find(output_handles_, name, "output");
  }

  void run() override {
    for (const auto& h : input_handles_)
      TRI_CHECK(h->holds(), "input '" + h->name() + "' was not given");
    execute(input_handles_);
  }

  std::vector<Array> run(const std::vector<Array>& in) override {
    TRI_CHECK(in.size() == inputs_.size(), "the model has " + std::to_string(inputs_.size()) +
                                               " inputs, got " + std::to_string(in.size()));
    for (size_t i = 0; i < in.size(); ++i)
      TRI_CHECK(
          in[i].defined() && in[i].dtype() == inputs_[i].dtype,
          "input '" + inputs_[i].name + "' expects " + std::string(name_of(inputs_[i].dtype)));
    Handles given;  // those that the user filled stay as they are
    for (size_t i = 0; i < in.size(); ++i) {
      given.push_back(
          std::make_unique<TensorHandle>(inputs_[i].name, inputs_[i].dtype, model_->device()));
      given.back()->share_external_data(in[i]);
    }
    execute(given);
    std::vector<Array> out;
    for (const auto& h : output_handles_) {
      out.push_back(h->tensor());
      h->clear();  // the caller's now
    }
    return out;
  }

  void warm_up(const std::vector<Shape>& shapes) override {
    std::vector<Array> in;
    for (size_t i = 0; i < inputs_.size() && i < shapes.size(); ++i) {
      in.emplace_back(inputs_[i].dtype, shapes[i]);
      std::memset(in.back().data(), 0, in.back().bytes());
    }
    (void)run(in);
  }

  std::unique_ptr<Predictor> clone() const override {
    return std::make_unique<PredictorImpl>(model_);
  }

  PlanStats stats() const override {
    PlanStats s;
    s.weight_bytes = model_->weight_bytes();
    s.plan_ms = plan_ms_;
    if (plan_) {
      s.planned_peak_bytes = plan_->planned_peak_bytes();
      s.intermediate_bytes = plan_->intermediate_bytes();
      s.kernels = plan_->kernels();
    }
    return s;
  }

  std::string profile() const override {
    return model_->config().profile() ? profiler_.table() : std::string();
  }

  std::string graph_text(const std::vector<Shape>& shapes, const std::string& after_pass) override {
    set_num_threads(model_->config().threads());
    return to_text(*model_->graph(shapes, after_pass));
  }

 private:
  static std::vector<std::string> names(const std::vector<TensorInfo>& infos) {
    std::vector<std::string> list;
    for (const auto& i : infos) list.push_back(i.name);
    return list;
  }

  static TensorHandle* find(const Handles& handles, const std::string& name, const char* what) {
    std::string known;
    for (const auto& h : handles) {
      if (h->name() == name) return h.get();
      known += (known.empty() ? "" : ", ") + h->name();
    }
    fail(Code::kNotFound,
         "the model has no " + std::string(what) + " '" + name + "'; it has: " + known);
  }

  void execute(const Handles& given) {
    set_num_threads(model_->config().threads());
    std::vector<Shape> shapes;
    for (const auto& h : given) shapes.push_back(h->shape());
    plan_ = model_->plan(shapes, &plan_ms_);
    if (!model_->device().is_host()) return execute_on(model_->device(), given);
    if (arena_.bytes() < plan_->arena_bytes()) {
      arena_ = Block();  // the old one goes first: both need not fit under the cap
      arena_ = Block(model_->pool(), plan_->arena_bytes(), "the plan's arena");
    }
    std::vector<void*> from, to;
    for (const auto& h : given) from.push_back(const_cast<void*>(h->tensor().data()));
    for (size_t k = 0; k < output_handles_.size(); ++k)
      to.push_back(output_handles_[k]->result(plan_->graph().outputs[k]->type).data());
    plan_->run(from, to, arena_.data(), model_->config().profile() ? &profiler_ : nullptr);
  }

  // One launch (from the second run of a plan on); results stay on the device until they are read.
  void execute_on(Device& device, const Handles& given) {
    if (device_arena_bytes_ < plan_->arena_bytes()) {
      device_arena_ = {};
      device_arena_bytes_ = 0;
      device_arena_ = device.allocate(plan_->arena_bytes(), "the plan's arena");
      device_arena_bytes_ = plan_->arena_bytes();
    }
    std::vector<Storage> inputs;
    for (const auto& h : given) inputs.push_back(h->device_input());
    for (const auto& h : output_handles_) h->clear_result();  // its memory is the next result's
    std::vector<Storage> results = replay(device).run(
        inputs, device_arena_, model_->config().profile() ? &profiler_ : nullptr);
    for (size_t k = 0; k < output_handles_.size(); ++k)
      output_handles_[k]->set_result(plan_->graph().outputs[k]->type, std::move(results[k]));
  }

  // Of the current plan; those of a few shapes are kept.
  Replay& replay(Device& device) {
    constexpr size_t kKept = 8;
    for (auto& r : replays_)
      if (&r->plan() == plan_.get()) return *r;
    if (replays_.size() >= kKept) replays_.erase(replays_.begin());
    replays_.push_back(std::make_unique<Replay>(plan_, device));
    return *replays_.back();
  }

  void write_profile() const {
    if (!model_->config().profile() || model_->config().trace_file().empty()) return;
    try {
      profiler_.write_trace(model_->config().trace_file());
    } catch (const Error&) {  // a destructor has nobody to tell
    }
  }

  std::shared_ptr<Model> model_;
  std::vector<TensorInfo> inputs_, outputs_;
  Handles input_handles_, output_handles_;
  std::shared_ptr<const Plan> plan_;
  double plan_ms_ = 0;
  Block arena_;
  Storage device_arena_;
  int64_t device_arena_bytes_ = 0;
  std::vector<std::unique_ptr<Replay>> replays_;
  Profiler profiler_;
};

}  // namespace

std::unique_ptr<Predictor> create_predictor(const Config& config) {
  set_num_threads(config.threads());
  return std::make_unique<PredictorImpl>(std::make_shared<Model>(config));
}

}  // namespace trireme::inference
