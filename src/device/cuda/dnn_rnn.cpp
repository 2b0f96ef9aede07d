// cuDNN's recurrent networks: descriptors, the layout of its weight space, the choice of an
// algorithm.
#include "device/cuda/dnn_rnn.h"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <string>

#include "device/cuda/autotune.h"
#include "device/cuda/check.h"
#include "device/cuda/disk_cache.h"
#include "device/cuda/dnn_handle.h"
#include "trireme/error.h"

namespace trireme::cuda {
namespace {

cudnnDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return CUDNN_DATA_HALF;
    case DType::kBFloat16: return CUDNN_DATA_BFLOAT16;
    case DType::kFloat64: return CUDNN_DATA_DOUBLE;
    default: return CUDNN_DATA_FLOAT;
  }
}

cudnnRNNMode_t mode_of(RnnSpec::Mode mode) {
  switch (mode) {
    case RnnSpec::Mode::kRelu: return CUDNN_RNN_RELU;
    case RnnSpec::Mode::kTanh: return CUDNN_RNN_TANH;
    case RnnSpec::Mode::kGru: return CUDNN_GRU;
    default: return CUDNN_LSTM;
  }
}

int checked(int64_t n) {
  TRI_CHECK(n >= 0 && n <= std::numeric_limits<int>::max(), "[rnn] a size is too large for cuDNN");
  return static_cast<int>(n);
}

// Owners of descriptors.
#define TRI_DESCRIPTOR(Name, type, create, destroy)         \
  class Name {                                              \
   public:                                                  \
    Name() { TRI_DNN_CALL(create, &d_); }                   \
    ~Name() { (void)TRI_SYMBOL(Lib::kCudnn, destroy)(d_); } \
    Name(const Name&) = delete;                             \
    Name& operator=(const Name&) = delete;                  \
    type get() const { return d_; }                         \
                                                            \
   private:                                                 \
    type d_ = nullptr;                                      \
  }
TRI_DESCRIPTOR(RnnDescriptor, cudnnRNNDescriptor_t, cudnnCreateRNNDescriptor,
               cudnnDestroyRNNDescriptor);
TRI_DESCRIPTOR(DataDescriptor, cudnnRNNDataDescriptor_t, cudnnCreateRNNDataDescriptor,
               cudnnDestroyRNNDataDescriptor);
TRI_DESCRIPTOR(TensorDescriptor, cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor,
               cudnnDestroyTensorDescriptor);
TRI_DESCRIPTOR(DropoutDescriptor, cudnnDropoutDescriptor_t, cudnnCreateDropoutDescriptor,
               cudnnDestroyDropoutDescriptor);
#undef TRI_DESCRIPTOR

class Rnn : public DnnRnn {
 public:
  Rnn(const RnnSpec& spec, cudnnRNNAlgo_t algorithm, Device& device) : spec_(spec) {
    const DnnHandle handle(device.stream());
    describe(handle.get(), algorithm);
    TRI_DNN_CALL(cudnnGetRNNWeightSpaceSize, handle.get(), rnn_.get(), &weight_bytes_);
    TRI_DNN_CALL(cudnnGetRNNTempSpaceSizes, handle.get(), rnn_.get(), forward_mode(), x_.get(),
                 &workspace_, &reserve_);
    find_pieces(handle.get(), device);
  }

  size_t weight_bytes() const override { return weight_bytes_; }
  size_t reserve() const override { return reserve_; }
  size_t workspace() const override { return workspace_; }
  const std::vector<RnnPiece>& pieces() const override { return pieces_; }
  const RnnSpec& spec() const { return spec_; }

  void forward(const RnnForward& a, void* workspace, void* stream) const override {
    const DnnHandle handle(stream);
    const bool lstm = spec_.mode == RnnSpec::Mode::kLstm;
    TRI_DNN_CALL(cudnnRNNForward, handle.get(), rnn_.get(), forward_mode(), nullptr, x_.get(), a.x,
                 y_.get(), a.y, state_.get(), a.h0, a.h, state_.get(), lstm ? a.c0 : nullptr,
                 lstm ? a.c : nullptr, weight_bytes_, a.weights, workspace_, workspace, reserve_,
                 a.kept);
  }

  void backward(const RnnBackward& a, void* workspace, void* stream) const override {
    const DnnHandle handle(stream);
    const bool lstm = spec_.mode == RnnSpec::Mode::kLstm;
    TRI_DNN_CALL(cudnnRNNBackwardData_v8, handle.get(), rnn_.get(), nullptr, y_.get(), a.y, a.dy,
                 x_.get(), a.dx, state_.get(), a.h0, a.dh, a.dh0, state_.get(),
                 lstm ? a.c0 : nullptr, lstm ? a.dc : nullptr, lstm ? a.dc0 : nullptr,
                 weight_bytes_, a.weights, workspace_, workspace, reserve_, a.kept);
    TRI_CUDA_CALL(cudaMemsetAsync(a.dweights, 0, weight_bytes_, static_cast<cudaStream_t>(stream)));
    TRI_DNN_CALL(cudnnRNNBackwardWeights_v8, handle.get(), rnn_.get(), CUDNN_WGRAD_MODE_ADD,
                 nullptr, x_.get(), a.x, state_.get(), a.h0, y_.get(), a.y, weight_bytes_,
                 a.dweights, workspace_, workspace, reserve_, a.kept);
  }

 private:
  cudnnForwardMode_t forward_mode() const {
    return spec_.training ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE;
  }

  void describe(cudnnHandle_t handle, cudnnRNNAlgo_t algorithm) {
    const RnnSpec& s = spec_;
    const cudnnDataType_t type = type_of(s.dtype);
    const bool half = size_of(s.dtype) == 2, wide = s.dtype == DType::kFloat64;
    const cudnnMathType_t math = half     ? CUDNN_TENSOR_OP_MATH
                                 : s.tf32 ? CUDNN_DEFAULT_MATH
                                          : CUDNN_FMA_MATH;
    TRI_DNN_CALL(cudnnSetDropoutDescriptor, dropout_.get(), handle, 0.f, nullptr, 0, 0);
    TRI_DNN_CALL(cudnnSetRNNDescriptor_v8, rnn_.get(), algorithm, mode_of(s.mode),
                 CUDNN_RNN_DOUBLE_BIAS, s.both_ways ? CUDNN_BIDIRECTIONAL : CUDNN_UNIDIRECTIONAL,
                 CUDNN_LINEAR_INPUT, type, wide ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT, math,
                 checked(s.width), checked(s.hidden), checked(s.hidden), checked(s.layers),
                 dropout_.get(), CUDNN_RNN_PADDED_IO_ENABLED);
    std::vector<int> lengths(s.lengths.begin(), s.lengths.end());
    if (lengths.empty()) lengths.assign(static_cast<size_t>(s.batch), checked(s.steps));
    double zero = 0;  // wide enough for each dtype
    const auto data = [&](const DataDescriptor& d, int64_t size) {
      TRI_DNN_CALL(cudnnSetRNNDataDescriptor, d.get(), type,
                   CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, checked(s.steps), checked(s.batch),
                   checked(size), lengths.data(), &zero);
    };
    data(x_, s.width);
    data(y_, s.directions() * s.hidden);
    const int dims[] = {checked(s.cells()), checked(s.batch), checked(s.hidden)};
    const int strides[] = {dims[1] * dims[2], dims[2], 1};
    TRI_DNN_CALL(cudnnSetTensorNdDescriptor, state_.get(), type, 3, dims, strides);
  }

  // Where each gate's matrices and biases stand.
  void find_pieces(cudnnHandle_t handle, Device& device) {
    const RnnSpec& s = spec_;
    const Storage space = device.allocate(static_cast<int64_t>(weight_bytes_), "weights of an rnn");
    const auto element = static_cast<int64_t>(size_of(s.dtype));
    const TensorDescriptor matrix, bias;
    for (int64_t cell = 0; cell < s.cells(); ++cell) {
      const int64_t width = cell < s.directions() ? s.width : s.directions() * s.hidden;
      for (int64_t id = 0; id < 2 * s.gates(); ++id) {
        void *m = nullptr, *b = nullptr;
        TRI_DNN_CALL(cudnnGetRNNWeightParams, handle, rnn_.get(), static_cast<int32_t>(cell),
                     weight_bytes_, space.data, static_cast<int32_t>(id), matrix.get(), &m,
                     bias.get(), &b);
        const bool hidden = id >= s.gates();
        const int64_t gate = id % s.gates(), row = hidden ? s.hidden : width;
        const auto at = [&](const void* p) {
          return (static_cast<const char*>(p) - static_cast<const char*>(space.data)) / element;
        };
        add({2 * cell + hidden, gate * s.hidden * row, at(m), s.hidden * row});
        add({2 * (s.cells() + cell) + hidden, gate * s.hidden, at(b), s.hidden});
      }
    }
    std::sort(pieces_.begin(), pieces_.end(), [](const RnnPiece& a, const RnnPiece& b) {
      return std::pair(a.input, a.from) < std::pair(b.input, b.from);
    });
    std::vector<RnnPiece> merged;
    for (const RnnPiece& p : pieces_) {
      if (!merged.empty() && merged.back().input == p.input &&
          merged.back().from + merged.back().count == p.from &&
          merged.back().to + merged.back().count == p.to)
        merged.back().count += p.count;
      else merged.push_back(p);
    }
    pieces_ = std::move(merged);
  }
  void add(const RnnPiece& p) { pieces_.push_back(p); }

  const RnnSpec spec_;
  DropoutDescriptor dropout_;
  RnnDescriptor rnn_;
  DataDescriptor x_, y_;
  TensorDescriptor state_;
  size_t weight_bytes_ = 0, workspace_ = 0, reserve_ = 0;
  std::vector<RnnPiece> pieces_;
};

// ---- the choice

std::string key_of(const RnnSpec& s, const Device& device) {
  std::string key = device.info().model + " cuDNN " + library(Lib::kCudnn).version + ' ' +
                    std::string(name_of(s.dtype));
  for (const int64_t v : {static_cast<int64_t>(s.mode), s.steps, s.batch, s.width, s.hidden,
                          s.layers, int64_t{s.both_ways}, int64_t{s.training}, int64_t{s.tf32}})
    key += ' ' + std::to_string(v);
  for (const int32_t n : s.lengths) key += ',' + std::to_string(n);
  return key;
}

struct Trial {
  std::vector<Storage> held;
  RnnForward forward{};
  RnnBackward backward{};
  void* workspace = nullptr;

  Trial(const RnnSpec& s, size_t weights, size_t work, size_t reserve, Device& device) {
    const auto take = [&](int64_t elements) {
      held.push_back(
          tuning_memory(device, s.dtype, elements * static_cast<int64_t>(size_of(s.dtype))));
      return held.back().data;
    };
    const auto raw = [&](size_t bytes) {
      held.push_back(device.allocate(static_cast<int64_t>(bytes) + 1, "a buffer of autotuning"));
      return held.back().data;
    };
    const int64_t rows = s.steps * s.batch, states = s.cells() * s.batch * s.hidden;
    const int64_t out = rows * s.directions() * s.hidden;
    void *x = take(rows * s.width), *h0 = take(states), *c0 = take(states), *y = take(out),
         *h = take(states), *c = take(states), *w = raw(weights), *kept = raw(reserve);
    device.copy(w, take(static_cast<int64_t>(weights / size_of(s.dtype))), weights);
    forward = {x, h0, c0, y, h, c, w, kept};
    workspace = raw(work);
    if (!s.training) return;
    backward = {x,
                h0,
                c0,
                y,
                w,
                take(out),
                h,
                c,
                take(rows * s.width),
                take(states),
                take(states),
                raw(weights),
                kept};
  }
};

// -1: it cannot be measured.
int measure(const std::vector<std::shared_ptr<const Rnn>>& list, Device& device) {
  size_t weights = 0, work = 0, reserve = 0;
  for (const auto& r : list) {
    weights = std::max(weights, r->weight_bytes());
    work = std::max(work, r->workspace());
    reserve = std::max(reserve, r->reserve());
  }
  try {
    const Trial t(list.front()->spec(), weights, work, reserve, device);
    std::vector<Candidate> candidates;
    for (const auto& r : list)
      candidates.push_back([&, rnn = r.get()](void* stream) {
        rnn->forward(t.forward, t.workspace, stream);
        if (rnn->spec().training) rnn->backward(t.backward, t.workspace, stream);
      });
    return fastest(device, candidates);
  } catch (const Error& e) {
    if (e.code() != Code::kResourceExhausted) throw;
    return -1;
  }
}

const DiskCache& disk() {
  static const DiskCache cache("rnn");
  return cache;
}

std::shared_ptr<const Rnn> make(const RnnSpec& spec, cudnnRNNAlgo_t algorithm, Device& device) {
  try {
    return std::make_shared<const Rnn>(spec, algorithm, device);
  } catch (const Error& e) {
    if (e.code() != Code::kUnimplemented && e.code() != Code::kInternal) throw;
    if (algorithm == CUDNN_RNN_ALGO_STANDARD) throw;
    return nullptr;
  }
}

std::shared_ptr<const Rnn> choose(const RnnSpec& spec, const std::string& key, Device& device) {
  const std::vector<cudnnRNNAlgo_t> ways = {CUDNN_RNN_ALGO_STANDARD, CUDNN_RNN_ALGO_PERSIST_STATIC,
                                            CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H};
  if (autotunes()) {
    const std::string known = disk().get(key).value_or("");
    for (const cudnnRNNAlgo_t way : ways)
      if (known == std::to_string(way))
        if (auto rnn = make(spec, way, device)) return rnn;
  }
  std::vector<std::shared_ptr<const Rnn>> list;
  std::vector<cudnnRNNAlgo_t> of;
  for (const cudnnRNNAlgo_t way : ways) {
    if (!list.empty() && (!autotunes() || !spec.lengths.empty())) break;
    if (auto rnn = make(spec, way, device)) {
      list.push_back(std::move(rnn));
      of.push_back(way);
    }
  }
  const int best = list.size() > 1 ? measure(list, device) : -1;
  if (best >= 0) disk().put(key, std::to_string(of[static_cast<size_t>(best)]));
  return list[best < 0 ? 0 : static_cast<size_t>(best)];
}

}  // namespace

std::shared_ptr<const DnnRnn> DnnRnn::create(const RnnSpec& spec, Device& device) {
  static std::mutex mutex;
  static auto& made = *new std::map<std::string, std::shared_ptr<const DnnRnn>>;
  device.activate();
  const std::string key = key_of(spec, device), here = device.name() + ' ' + key;
  const std::lock_guard lock(mutex);
  if (const auto it = made.find(here); it != made.end()) return it->second;
  return made[here] = choose(spec, key, device);
}

}  // namespace trireme::cuda
