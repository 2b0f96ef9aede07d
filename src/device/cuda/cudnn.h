// cuDNN: graphs of its operations, the plans that run them, and which plan is taken. No header of
// cuDNN in here: its frontend is included by cudnn.cpp alone.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "trireme/types.h"

namespace trireme::cuda {

// A tensor as cuDNN sees it: logical dimensions (N, C, H, W) and, for each, the elements from
// neighbour to neighbour.
struct DnnTensor {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> dims, strides;
  int64_t bytes() const;
};
// Row-major.
DnnTensor dnn_plain(DType dtype, std::vector<int64_t> dims);
// Dimension 1 innermost.
DnnTensor dnn_channels_last(DType dtype, std::vector<int64_t> dims);

// Height and width each.
struct DnnConv {
  std::array<int64_t, 2> before{0, 0}, after{0, 0}, stride{1, 1}, dilation{1, 1};
};

// One or two operands. kClip: relu with a lower and an upper border.
enum class DnnOp {
  kAdd,
  kSub,
  kMul,
  kRelu,
  kClip,
  kLeakyRelu,
  kSigmoid,
  kTanh,
  kSwish,
  kGelu,
  kIdentity
};

struct DnnOptions {
  bool tf32 = false;          // float32 products may be taken in TF32
  bool deterministic = true;  // the same inputs give the same bits
  bool precompiled = true;    // no engines that compile at run time (they take up to seconds)
  bool any_rounding = false;  // engines may round inputs or partial sums to fewer bits
  bool wide_search = true;    // ask for everything, not for the likely plans alone
};

// Runs a graph. Immutable; threads may run it at the same time.
class DnnPlan {
 public:
  virtual ~DnnPlan() = default;
  virtual size_t workspace() const = 0;         // bytes of scratch memory that run() needs
  virtual const std::string& name() const = 0;  // engine and knobs
  // `pointers`: of the graph's tensors, in the order of input() and output() calls. Only gives work
  // to the stream (a cudaStream_t); can be captured. The device is current on this thread.
  virtual void run(void* const* pointers, void* workspace, void* stream) const = 0;
};

// A graph under construction. Operations return virtual values; output() makes one real. Every
// error is an Error: kUnavailable without cuDNN, kUnimplemented for what it does not support.
class DnnGraph {
 public:
  using Id = int;

  // What is between operations is kept in `between`, sums are taken in `compute`.
  explicit DnnGraph(DType compute = DType::kFloat32, DType between = DType::kFloat32);
  ~DnnGraph();
  DnnGraph(DnnGraph&&) noexcept;
  DnnGraph& operator=(DnnGraph&&) noexcept;

  Id input(const DnnTensor& tensor);
  void output(Id id, const DnnTensor& tensor);

  // Weights are [O, C / groups, kh, kw] in any strides (channels-last ones are KRSC).
  Id conv(Id x, Id weight, const DnnConv& geometry);
  Id conv_dgrad(Id dy, Id weight, const DnnConv& geometry, const std::vector<int64_t>& x_dims);
  Id conv_wgrad(Id dy, Id x, const DnnConv& geometry, const std::vector<int64_t>& weight_dims);
  // Each channel's sums of x and of x * x: float32 [1, C, 1, 1].
  std::array<Id, 2> statistics(Id x);
  // a, b: numbers of kClip (borders), kLeakyRelu (slope), kSwish (beta).
  Id pointwise(DnnOp op, Id x, double a = 0, double b = 0);
  Id pointwise(DnnOp op, Id x, Id y);

  // softmax(q k^T scale + mask) v of [B, H, S, D] tensors in any strides whose last is 1. Keys and
  // values may have fewer heads. Absent values are -1; mask: [B or 1, H or 1, Sq, Sk], added; seed
  // and offset: int64 [1, 1, 1, 1], of the dropout's random numbers.
  struct Attention {
    double scale = 1;
    bool causal = false;  // query i sees the keys 0 to i
    double dropout = 0;
    Id mask = -1, seed = -1, offset = -1;
  };
  // The result, and the logarithms of the softmax's sums, float32 [B, H, Sq, 1].
  std::array<Id, 2> attention(Id q, Id k, Id v, const Attention& how);
  // Gradients of q, k and v. `deterministic`: the same inputs give the same bits, more slowly.
  std::array<Id, 3> attention_backward(Id q, Id k, Id v, Id out, Id dout, Id sums,
                                       const Attention& how, bool deterministic);

  // The plan for this device. Among all that cuDNN proposes within workspace_limits() the fastest
  // is looked for by time, once; the choice is kept on disk by device model, cuDNN's version, graph
  // and options. Plans in use are shared. The graph can be used once.
  std::shared_ptr<const DnnPlan> plan(Device& device, const DnnOptions& options = {});

  // Names of the plans that can be built for a device of these properties (cuDNN's JSON form), in
  // cuDNN's order, `most` at most. Needs no GPU. The graph can be used once.
  std::vector<std::string> offered(const std::string& device_properties,
                                   const DnnOptions& options = {}, int most = 3);

  const std::string& text() const;  // the whole problem, as the cache's key has it

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// "9.19.0"; throws kUnavailable without cuDNN.
std::string dnn_version();

}  // namespace trireme::cuda
