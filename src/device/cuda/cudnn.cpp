// cuDNN by its frontend's graphs. The only place that includes the frontend: it takes half a minute
// to compile.
#include "device/cuda/cudnn.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <span>
#include <sstream>
#include <unordered_map>

#include "device/cuda/autotune.h"
#include "device/cuda/check.h"
#include "device/cuda/disk_cache.h"
#include "device/cuda/dnn_handle.h"
#include "device/cuda/library.h"
#include "trireme/error.h"

// The frontend opens a shared CUDA runtime. Ours is inside this program, and a machine need not
// have another: what the frontend asks that library for is answered from here.
namespace trireme::cuda::frontend {

static char own_runtime;

static void* open(const char* name, int mode) {
  const std::string_view file = name;
  if (file.starts_with("libcudart.so.13")) return &own_runtime;
  if (file.starts_with("libcudart")) return nullptr;
  if (file.starts_with("libcuda.so")) return library(Lib::kDriver).handle;
  return ::dlopen(name, mode);
}

static void* find(void* handle, const char* name) {
  if (handle != &own_runtime) return ::dlsym(handle, name);
  static const std::unordered_map<std::string_view, void*> functions = {
#define TRI_RUNTIME(function) {#function, reinterpret_cast<void*>(&::function)}
      TRI_RUNTIME(cudaRuntimeGetVersion),     TRI_RUNTIME(cudaGetDevice),
      TRI_RUNTIME(cudaDeviceGetAttribute),    TRI_RUNTIME(cudaGetErrorString),
      TRI_RUNTIME(cudaGetLastError),          TRI_RUNTIME(cudaMemsetAsync),
      TRI_RUNTIME(cudaMemcpyAsync),           TRI_RUNTIME(cudaStreamIsCapturing),
      TRI_RUNTIME(cudaStreamGetCaptureInfo),  TRI_RUNTIME(cudaThreadExchangeStreamCaptureMode),
      TRI_RUNTIME(cudaUserObjectCreate),      TRI_RUNTIME(cudaUserObjectRelease),
      TRI_RUNTIME(cudaGraphRetainUserObject), TRI_RUNTIME(cudaGetDriverEntryPointByVersion),
      TRI_RUNTIME(cudaPointerGetAttributes)
#undef TRI_RUNTIME
  };
  const auto it = functions.find(name);
  return it == functions.end() ? nullptr : it->second;
}

}  // namespace trireme::cuda::frontend

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#define dlopen ::trireme::cuda::frontend::open
#define dlsym ::trireme::cuda::frontend::find
#include <cudnn_frontend.h>
#undef dlopen
#undef dlsym

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;
}

namespace trireme::cuda {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

// ---- the library and its errors

// Loads the library for the frontend, too.
size_t version_number() {
  static const size_t number = [] {
    const size_t n = TRI_SYMBOL(Lib::kCudnn, cudnnGetVersion)();
    fe::cudnn_dlhandle = library(Lib::kCudnn).handle;
    return n;
  }();
  return number;
}

void check(fe::error_t status, const std::string& what) {
  if (status.is_good()) return;
  Code code = Code::kInternal;
  switch (status.get_code()) {
    case fe::error_code_t::GRAPH_NOT_SUPPORTED:
    case fe::error_code_t::HEURISTIC_QUERY_FAILED:
    case fe::error_code_t::GRAPH_EXECUTION_PLAN_CREATION_FAILED:
    case fe::error_code_t::UNSUPPORTED_GRAPH_FORMAT: code = Code::kUnimplemented; break;
    default: break;
  }
  fail(code, "[cudnn] " + what + ": " + status.get_message());
}

// What the frontend throws is an Error as well.
template <class F> auto guarded(const char* what, F&& f) {
  try {
    return f();
  } catch (const Error&) { throw; } catch (const std::exception& e) {
    fail(Code::kInternal, std::string("[cudnn] ") + what + ": " + e.what());
  }
}

fe::DataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return fe::DataType_t::FLOAT;
    case DType::kFloat16: return fe::DataType_t::HALF;
    case DType::kBFloat16: return fe::DataType_t::BFLOAT16;
    case DType::kFloat64: return fe::DataType_t::DOUBLE;
    case DType::kInt32: return fe::DataType_t::INT32;
    case DType::kInt64: return fe::DataType_t::INT64;
    case DType::kInt8: return fe::DataType_t::INT8;
    case DType::kUInt8: return fe::DataType_t::UINT8;
    case DType::kBool: return fe::DataType_t::BOOLEAN;
    default: fail(Code::kUnimplemented, "[cudnn] has no such dtype");
  }
}

// ---- plans

// A plan as it is remembered: the engine, then its knobs.
std::string text_of(int64_t engine, const std::unordered_map<fe::KnobType_t, int64_t>& knobs) {
  std::map<int64_t, int64_t> sorted;
  for (const auto& [knob, value] : knobs) sorted[static_cast<int64_t>(knob)] = value;
  std::string s = std::to_string(engine);
  for (const auto& [knob, value] : sorted)
    s += ' ' + std::to_string(knob) + '=' + std::to_string(value);
  return s;
}
bool parse_choice(const std::string& text, int64_t& engine,
                  std::unordered_map<fe::KnobType_t, int64_t>& knobs) {
  std::istringstream in(text);
  if (!(in >> engine)) return false;
  int64_t knob = 0, value = 0;
  char equals = 0;
  while (in >> knob >> equals >> value) knobs[static_cast<fe::KnobType_t>(knob)] = value;
  return in.eof();
}

class Plan : public DnnPlan {
 public:
  Plan(std::shared_ptr<fe::graph::Graph> graph, int64_t index, std::vector<int64_t> uids)
      : graph_(std::move(graph)), index_(index), uids_(std::move(uids)) {
    int64_t bytes = 0;
    check(graph_->get_workspace_size_plan_at_index(index_, bytes), "workspace");
    check(graph_->get_plan_name_at_index(index_, name_), "name");
    workspace_ = static_cast<size_t>(bytes);
  }
  size_t workspace() const override { return workspace_; }
  const std::string& name() const override { return name_; }

  void run(void* const* pointers, void* workspace, void* stream) const override {
    guarded("run", [&] {
      const DnnHandle handle(stream);
      std::unordered_map<int64_t, void*> pack;
      for (size_t i = 0; i < uids_.size(); ++i) pack[uids_[i]] = pointers[i];
      check(graph_->execute_plan_at_index(handle.get(), pack, workspace, index_), name_);
    });
  }

 private:
  std::shared_ptr<fe::graph::Graph> graph_;
  int64_t index_;
  std::vector<int64_t> uids_;
  size_t workspace_ = 0;
  std::string name_;
};

bool all_float32(const std::vector<DnnTensor>& tensors) {
  return std::none_of(tensors.begin(), tensors.end(), [](const DnnTensor& t) {
    return is_floating(t.dtype) && t.dtype != DType::kFloat32;
  });
}

void filter(fe::graph::Graph& graph, const std::vector<DnnTensor>& tensors,
            const DnnOptions& options) {
  const bool single = all_float32(tensors);
  std::vector<fe::NumericalNote_t> notes;
  if (single && !options.any_rounding) notes.push_back(fe::NumericalNote_t::DOWN_CONVERT_INPUTS);
  if (single && !options.tf32) notes.push_back(fe::NumericalNote_t::TENSOR_CORE);
  if (options.deterministic) notes.push_back(fe::NumericalNote_t::NONDETERMINISTIC);
  graph.deselect_numeric_notes(notes);
  if (options.precompiled) graph.deselect_behavior_notes({fe::BehaviorNote_t::RUNTIME_COMPILATION});
}

// Whom to ask for plans: the quick heuristics, the thorough ones as well, or those that name what
// works at all (slowly; exact float32 at large sizes has nothing else at times).
enum class Ask : uint8_t { kQuick, kAll, kFallback };

// The new plans' indices without repetitions, in cuDNN's order.
std::vector<int64_t> propose(fe::graph::Graph& graph, Ask ask) {
  const int64_t first = graph.get_execution_plan_count();
  const auto mode = ask == Ask::kFallback ? fe::HeurMode_t::FALLBACK : fe::HeurMode_t::A;
  const fe::error_t status = graph.create_execution_plans({mode});
  if (ask == Ask::kAll || (ask == Ask::kQuick && graph.get_execution_plan_count() == first))
    (void)graph.create_execution_plans({fe::HeurMode_t::B});
  const int64_t count = graph.get_execution_plan_count();
  if (count == first) check(status, "no engine");
  std::vector<int64_t> indices;
  std::vector<std::string> seen;
  for (int64_t i = first; i < count; ++i) {
    std::string name;
    if (graph.get_plan_name_at_index(i, name).is_bad()) continue;
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    seen.push_back(name);
    indices.push_back(i);
  }
  return indices;
}

struct Problem {
  std::string key;
  std::vector<DnnTensor> tensors;  // in the order of `uids`
  std::vector<int64_t> uids;
};

// The fastest of the built plans by time; -1 where memory for it lacks.
int64_t tune(const std::shared_ptr<fe::graph::Graph>& graph, const std::vector<int64_t>& built,
             const Problem& problem, Device& device) {
  std::vector<Storage> memory;
  std::vector<void*> pointers;
  std::vector<std::unique_ptr<Plan>> plans;
  size_t workspace = 1;
  for (const int64_t i : built) {
    plans.push_back(std::make_unique<Plan>(graph, i, problem.uids));
    workspace = std::max(workspace, plans.back()->workspace());
  }
  int64_t total = 0;
  try {
    for (const DnnTensor& t : problem.tensors) {
      memory.push_back(tuning_memory(device, t.dtype, t.bytes()));
      pointers.push_back(memory.back().data);
      total += t.bytes();
    }
    memory.push_back(device.allocate(static_cast<int64_t>(workspace), "a buffer of autotuning"));
  } catch (const Error& e) {
    if (e.code() != Code::kResourceExhausted) throw;
    return -1;
  }
  std::vector<Candidate> candidates;
  for (const auto& plan : plans)
    candidates.push_back(
        [&, p = plan.get()](void* stream) { p->run(pointers.data(), memory.back().data, stream); });
  const int best = fastest(device, candidates);
  memory.clear();
  constexpr int64_t kLarge = int64_t{256} << 20;
  if (total > kLarge) device.trim();  // a plan's arena has other sizes
  return best < 0 ? -1 : built[static_cast<size_t>(best)];
}

const DiskCache& disk() {
  static const DiskCache cache("cudnn");
  return cache;
}

}  // namespace

// ---- tensors

int64_t DnnTensor::bytes() const {
  int64_t last = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return 0;
    last += (dims[i] - 1) * strides[i];
  }
  return (last + 1) * static_cast<int64_t>(size_of(dtype));
}

DnnTensor dnn_plain(DType dtype, std::vector<int64_t> dims) {
  DnnTensor t{dtype, std::move(dims), {}};
  t.strides.resize(t.dims.size());
  int64_t step = 1;
  for (size_t i = t.dims.size(); i-- > 0; step *= t.dims[i]) t.strides[i] = step;
  return t;
}

DnnTensor dnn_channels_last(DType dtype, std::vector<int64_t> dims) {
  DnnTensor t{dtype, std::move(dims), {}};
  t.strides.resize(t.dims.size());
  t.strides[1] = 1;
  int64_t step = t.dims[1];
  for (size_t i = t.dims.size(); i-- > 2; step *= t.dims[i]) t.strides[i] = step;
  t.strides[0] = step;
  return t;
}

std::string dnn_version() {
  const size_t n = version_number();
  return std::to_string(n / 10000) + '.' + std::to_string(n % 10000 / 100) + '.' +
         std::to_string(n % 100);
}

// ---- graphs

struct DnnGraph::Impl {
  std::shared_ptr<fe::graph::Graph> graph = std::make_shared<fe::graph::Graph>();
  std::vector<Tensor> values;
  Problem problem;
  fe::DataType_t compute;

  Id keep(Tensor t) {
    values.push_back(std::move(t));
    return static_cast<Id>(values.size()) - 1;
  }
  const Tensor& at(Id id) const { return values[static_cast<size_t>(id)]; }
  void say(const std::string& line) { problem.key += line + '\n'; }

  void name_tensor(const Tensor& value, const DnnTensor& t, const char* role, Id id) {
    const int64_t uid = static_cast<int64_t>(problem.uids.size()) + 1;
    value->set_uid(uid).set_dim(t.dims).set_stride(t.strides).set_data_type(type_of(t.dtype));
    problem.uids.push_back(uid);
    problem.tensors.push_back(t);
    std::string line =
        std::string(role) + ' ' + std::to_string(id) + ' ' + std::string(name_of(t.dtype));
    for (const auto* list : {&t.dims, &t.strides}) {
      line += " [";
      for (const int64_t d : *list) line += std::to_string(d) + ' ';
      line.back() = ']';
    }
    say(line);
  }

  template <class A> A convolution(const DnnConv& g, const char* what, Id a, Id b) {
    const auto two = [](const std::array<int64_t, 2>& v) {
      return std::vector<int64_t>{v[0], v[1]};
    };
    std::string line = std::string(what) + ' ' + std::to_string(a) + ' ' + std::to_string(b);
    for (const auto& v : {g.before, g.after, g.stride, g.dilation})
      line += ' ' + std::to_string(v[0]) + ',' + std::to_string(v[1]);
    say(line);
    A attributes;
    attributes.set_pre_padding(two(g.before))
        .set_post_padding(two(g.after))
        .set_stride(two(g.stride))
        .set_dilation(two(g.dilation))
        .set_compute_data_type(compute);
    return attributes;
  }

  // Builds one remembered plan; null when this cuDNN does not have it.
  std::shared_ptr<const DnnPlan> from_choice(const std::string& text, int64_t limit) {
    int64_t engine = 0;
    std::unordered_map<fe::KnobType_t, int64_t> knobs;
    if (!parse_choice(text, engine, knobs)) return nullptr;
    const int64_t index = graph->get_execution_plan_count();
    if (graph->create_execution_plan(engine, knobs).is_bad()) return nullptr;
    if (graph->get_execution_plan_count() <= index) return nullptr;
    if (graph->build_plan_at_index(index).is_bad()) return nullptr;
    auto plan = std::make_shared<Plan>(graph, index, problem.uids);
    return static_cast<int64_t>(plan->workspace()) <= limit ? plan : nullptr;
  }

  void finish(cudnnHandle_t handle) {
    check(graph->validate(), "a graph that is not valid\n" + problem.key);
    check(handle ? graph->build_operation_graph(handle) : graph->build_operation_graph(),
          "a graph that is not supported\n" + problem.key);
  }

  std::vector<int64_t> build(const std::vector<int64_t>& indices, size_t most, std::string& why) {
    std::vector<int64_t> built;
    for (const int64_t i : indices) {
      if (built.size() >= most) break;
      fe::error_t status = graph->build_plan_at_index(i);
      if (status.is_good()) built.push_back(i);
      else why = status.get_message();
    }
    return built;
  }
};

DnnGraph::DnnGraph(DType compute, DType between) : impl_(std::make_unique<Impl>()) {
  version_number();
  impl_->compute = type_of(compute);
  impl_->graph->set_intermediate_data_type(type_of(between)).set_compute_data_type(impl_->compute);
  impl_->say("graph " + std::string(name_of(compute)) + ' ' + std::string(name_of(between)));
}
DnnGraph::~DnnGraph() = default;
DnnGraph::DnnGraph(DnnGraph&&) noexcept = default;
DnnGraph& DnnGraph::operator=(DnnGraph&&) noexcept = default;

const std::string& DnnGraph::text() const { return impl_->problem.key; }

DnnGraph::Id DnnGraph::input(const DnnTensor& tensor) {
  const Tensor value = std::make_shared<fe::graph::Tensor_attributes>();
  const Id id = impl_->keep(value);
  impl_->name_tensor(value, tensor, "in", id);
  return id;
}

void DnnGraph::output(Id id, const DnnTensor& tensor) {
  impl_->at(id)->set_output(true);
  impl_->name_tensor(impl_->at(id), tensor, "out", id);
}

DnnGraph::Id DnnGraph::conv(Id x, Id weight, const DnnConv& g) {
  Impl& m = *impl_;
  return m.keep(
      m.graph->conv_fprop(m.at(x), m.at(weight),
                          m.convolution<fe::graph::Conv_fprop_attributes>(g, "conv", x, weight)));
}

DnnGraph::Id DnnGraph::conv_dgrad(Id dy, Id weight, const DnnConv& g,
                                  const std::vector<int64_t>& x_dims) {
  Impl& m = *impl_;
  const Tensor dx = m.graph->conv_dgrad(
      m.at(dy), m.at(weight),
      m.convolution<fe::graph::Conv_dgrad_attributes>(g, "conv_dgrad", dy, weight));
  dx->set_dim(x_dims).set_stride(dnn_channels_last(DType::kFloat32, x_dims).strides);
  return m.keep(dx);
}

DnnGraph::Id DnnGraph::conv_wgrad(Id dy, Id x, const DnnConv& g,
                                  const std::vector<int64_t>& weight_dims) {
  Impl& m = *impl_;
  const Tensor dw = m.graph->conv_wgrad(
      m.at(dy), m.at(x), m.convolution<fe::graph::Conv_wgrad_attributes>(g, "conv_wgrad", dy, x));
  dw->set_dim(weight_dims);
  return m.keep(dw);
}

std::array<DnnGraph::Id, 2> DnnGraph::statistics(Id x) {
  Impl& m = *impl_;
  m.say("statistics " + std::to_string(x));
  const auto sums =
      m.graph->genstats(m.at(x), fe::graph::Genstats_attributes().set_compute_data_type(m.compute));
  return {m.keep(sums[0]), m.keep(sums[1])};
}

namespace {

fe::PointwiseMode_t mode_of(DnnOp op) {
  switch (op) {
    case DnnOp::kAdd: return fe::PointwiseMode_t::ADD;
    case DnnOp::kSub: return fe::PointwiseMode_t::SUB;
    case DnnOp::kMul: return fe::PointwiseMode_t::MUL;
    case DnnOp::kRelu:
    case DnnOp::kClip:
    case DnnOp::kLeakyRelu: return fe::PointwiseMode_t::RELU_FWD;
    case DnnOp::kSigmoid: return fe::PointwiseMode_t::SIGMOID_FWD;
    case DnnOp::kTanh: return fe::PointwiseMode_t::TANH_FWD;
    case DnnOp::kSwish: return fe::PointwiseMode_t::SWISH_FWD;
    case DnnOp::kGelu: return fe::PointwiseMode_t::GELU_FWD;
    case DnnOp::kIdentity: return fe::PointwiseMode_t::IDENTITY;
  }
  fail(Code::kInternal, "[cudnn] no such pointwise operation");
}

}  // namespace

DnnGraph::Id DnnGraph::pointwise(DnnOp op, Id x, double a, double b) {
  Impl& m = *impl_;
  fe::graph::Pointwise_attributes attributes;
  attributes.set_mode(mode_of(op)).set_compute_data_type(m.compute);
  if (op == DnnOp::kClip)
    attributes.set_relu_lower_clip(static_cast<float>(a))
        .set_relu_upper_clip(static_cast<float>(b));
  if (op == DnnOp::kLeakyRelu) attributes.set_relu_lower_clip_slope(static_cast<float>(a));
  if (op == DnnOp::kSwish) attributes.set_swish_beta(static_cast<float>(a));
  m.say("pointwise " + std::to_string(static_cast<int>(op)) + ' ' + std::to_string(x) + ' ' +
        std::to_string(a) + ' ' + std::to_string(b));
  return m.keep(m.graph->pointwise(m.at(x), attributes));
}

DnnGraph::Id DnnGraph::pointwise(DnnOp op, Id x, Id y) {
  Impl& m = *impl_;
  fe::graph::Pointwise_attributes attributes;
  attributes.set_mode(mode_of(op)).set_compute_data_type(m.compute);
  m.say("pointwise " + std::to_string(static_cast<int>(op)) + ' ' + std::to_string(x) + ' ' +
        std::to_string(y));
  return m.keep(m.graph->pointwise(m.at(x), m.at(y), attributes));
}

// ---- attention

namespace {

template <class A>
void describe(A& attributes, const std::vector<Tensor>& values, const DnnGraph::Attention& how) {
  const auto at = [&](DnnGraph::Id id) { return values[static_cast<size_t>(id)]; };
  attributes.set_attn_scale(static_cast<float>(how.scale));
  if (how.mask >= 0) attributes.set_bias(at(how.mask));
  if (how.causal) attributes.set_causal_mask(true);
  if (how.dropout > 0)
    attributes.set_dropout(static_cast<float>(how.dropout), at(how.seed), at(how.offset));
}

std::string text_of(const DnnGraph::Attention& how) {
  return std::to_string(how.scale) + ' ' + std::to_string(how.causal) + ' ' +
         std::to_string(how.dropout) + ' ' + std::to_string(how.mask);
}

}  // namespace

std::array<DnnGraph::Id, 2> DnnGraph::attention(Id q, Id k, Id v, const Attention& how) {
  Impl& m = *impl_;
  m.say("attention " + std::to_string(q) + ' ' + std::to_string(k) + ' ' + std::to_string(v) + ' ' +
        text_of(how));
  fe::graph::SDPA_attributes attributes;
  attributes.set_generate_stats(true);
  describe(attributes, m.values, how);
  const auto results = m.graph->sdpa(m.at(q), m.at(k), m.at(v), attributes);
  return {m.keep(results[0]), m.keep(results[1])};
}

std::array<DnnGraph::Id, 3> DnnGraph::attention_backward(Id q, Id k, Id v, Id out, Id dout, Id sums,
                                                         const Attention& how, bool deterministic) {
  Impl& m = *impl_;
  m.say("attention_backward " + std::to_string(deterministic) + ' ' + text_of(how));
  fe::graph::SDPA_backward_attributes attributes;
  attributes.set_deterministic_algorithm(deterministic);
  describe(attributes, m.values, how);
  const auto results = m.graph->sdpa_backward(m.at(q), m.at(k), m.at(v), m.at(out), m.at(dout),
                                              m.at(sums), attributes);
  return {m.keep(results[0]), m.keep(results[1]), m.keep(results[2])};
}

std::vector<std::string> DnnGraph::offered(const std::string& device_properties,
                                           const DnnOptions& options, int most) {
  return guarded("offered", [&] {
    const auto properties = std::make_shared<fe::DeviceProperties>();
    check(properties->deserialize({device_properties.begin(), device_properties.end()}),
          "device properties");
    impl_->graph->set_device_properties(properties);
    impl_->finish(nullptr);
    std::string why;
    std::vector<std::string> names;
    std::vector<int64_t> built;
    for (const Ask ask : {Ask::kAll, Ask::kFallback}) {
      if (!built.empty()) break;
      const std::vector<int64_t> indices = propose(*impl_->graph, ask);
      filter(*impl_->graph, impl_->problem.tensors, options);
      built = impl_->build(indices, static_cast<size_t>(most), why);
    }
    for (const int64_t i : built) {
      std::string name;
      (void)impl_->graph->get_plan_name_at_index(i, name);
      names.push_back(name);
    }
    return names;
  });
}

std::shared_ptr<const DnnPlan> DnnGraph::plan(Device& device, const DnnOptions& options) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<const DnnPlan>> in_use;
  static std::map<std::string, std::string> choices;
  Impl& m = *impl_;
  device.activate();
  const auto all_limits = workspace_limits(device);
  std::span<const int64_t> limits = all_limits;
  // Exact float32: the fast engines copy channels-last pictures, into scratch memory of that size.
  // Those that need none took up to 30 times as long.
  if (all_float32(m.problem.tensors) && !options.tf32) limits = limits.subspan(1);
  m.say("tf32 " + std::to_string(options.tf32) + " deterministic " +
        std::to_string(options.deterministic) + " precompiled " +
        std::to_string(options.precompiled) + " any_rounding " +
        std::to_string(options.any_rounding) + " workspace " + std::to_string(limits[0]));
  const std::string key = device.info().model + "\ncuDNN " + dnn_version() + '\n' + m.problem.key;
  const std::string here = device.name() + '\n' + key;
  std::string known;
  {
    const std::lock_guard lock(mutex);
    if (auto plan = in_use[here].lock()) return plan;
    if (const auto it = choices.find(key); it != choices.end()) known = it->second;
  }
  return guarded("plan", [&] {
    {
      const DnnHandle handle;
      m.finish(handle.get());
    }
    std::shared_ptr<const DnnPlan> plan;
    if (autotunes()) {
      if (known.empty()) known = disk().get(key).value_or("");
      if (!known.empty()) plan = m.from_choice(known, limits.back());
    }
    if (plan == nullptr) {
      known.clear();
      std::string why = "it has no engine for it";
      std::vector<int64_t> built;
      const Ask first = autotunes() && options.wide_search ? Ask::kAll : Ask::kQuick;
      for (const Ask ask : {first, Ask::kFallback}) {
        for (const int64_t most : limits) {
          if (!built.empty()) break;
          m.graph->deselect_workspace_greater_than(most);
          const std::vector<int64_t> indices = propose(*m.graph, ask);
          filter(*m.graph, m.problem.tensors, options);
          built = m.build(indices, autotunes() ? indices.size() : 1, why);
        }
      }
      if (built.empty())
        fail(Code::kUnimplemented, "[cudnn] no plan: " + why + "\n" + m.problem.key);
      const int64_t best = built.size() > 1 ? tune(m.graph, built, m.problem, device) : -1;
      const int64_t taken = best < 0 ? built.front() : best;
      plan = std::make_shared<Plan>(m.graph, taken, m.problem.uids);
      int64_t engine = 0;
      std::unordered_map<fe::KnobType_t, int64_t> knobs;
      const bool final = autotunes() && (best >= 0 || built.size() == 1);
      if (final && m.graph->get_engine_and_knobs_at_index(taken, engine, knobs).is_good()) {
        known = text_of(engine, knobs);
        disk().put(key, known);
      }
    }
    const std::lock_guard lock(mutex);
    if (!known.empty()) choices[key] = known;
    in_use[here] = plan;
    return plan;
  });
}

}  // namespace trireme::cuda
