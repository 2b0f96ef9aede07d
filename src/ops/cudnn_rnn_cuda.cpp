// rnn, cudnn_rnn and its gradient by cuDNN: weights go into its own order and gradients come out of
// it.
#include "ops/cudnn_rnn.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "device/cuda/check.h"
#include "device/cuda/dnn_rnn.h"
#include "device/precision.h"
#include "ops/cuda_kernels.h"
#include "ops/cudnn_rnn_pieces.h"
#include "ops/elements.h"
#include "ops/rnn_layer.h"

namespace trireme {
namespace {

using cuda::DnnRnn;
using cuda::RnnPiece;
using cuda::RnnSpec;

constexpr size_t kAlign = 256;
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

RnnSpec::Mode mode_of(const RnnAttrs& a) {
  switch (rnn_mode(a)) {
    case RnnMode::kLstm: return RnnSpec::Mode::kLstm;
    case RnnMode::kGru: return RnnSpec::Mode::kGru;
    case RnnMode::kTanh: return RnnSpec::Mode::kTanh;
    default: return RnnSpec::Mode::kRelu;
  }
}

// Of values, as rnn takes them.
RnnSpec spec_of(std::span<Value* const> in, const RnnAttrs& a, bool training) {
  const Type& x = in[RnnIn::kX]->type;
  RnnSpec s{.mode = mode_of(a),
            .dtype = x.dtype,
            .steps = x.shape[0],
            .batch = x.shape[1],
            .width = x.shape[2],
            .hidden = a.hidden_size,
            .layers = a.num_layers,
            .both_ways = a.is_bidirec,
            .training = training,
            .tf32 = allows_tf32(Products::kMatrices)};
  const Value* lengths = in[RnnIn::kLengths];
  if (lengths == nullptr) return s;
  const Array* known = constant_of(lengths);
  if (known == nullptr)
    fail(Code::kUnimplemented,
         "[rnn] lengths that are known only on the GPU: cuDNN wants them beforehand; leave them "
         "out and mask the result, or compute this layer on the CPU");
  const Array numbers = known->to(DType::kInt64);
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t n = numbers.as<int64_t>()[b];
    TRI_CHECK(n >= 1 && n <= s.steps,
              message("rnn", "length ", b, " expects 1 to ", s.steps, " on a GPU, got ", n));
    s.lengths.push_back(static_cast<int32_t>(n));
  }
  return s;
}

// The weights in cuDNN's order: made once of constants, else at each run.
class Weights {
 public:
  Weights(const Prepare& p, const std::shared_ptr<const DnnRnn>& rnn, size_t first)
      : rnn_(rnn), first_(first), element_(size_of(p.in(first).dtype)) {
    size_t count = 0;
    for (const RnnPiece& piece : rnn->pieces())
      count = std::max(count, static_cast<size_t>(piece.input) + 1);
    bool constant = p.upload != nullptr;
    for (size_t k = 0; k < count; ++k) constant = constant && p.constant(first + k);
    if (constant) keep(p, count);
  }

  size_t scratch() const { return kept_ ? 0 : aligned(rnn_->weight_bytes()); }

  const void* get(const Launch& l, void* space) const {
    if (kept_) return kept_.get();
    std::vector<cuda::MovedPiece> moves;
    for (const RnnPiece& p : rnn_->pieces())
      moves.push_back(
          {at(l.in[first_ + static_cast<size_t>(p.input)], p.from), at(space, p.to), p.count});
    cuda::run_move_pieces(moves, element_, l.stream);
    return space;
  }

  // The other way, into the outputs from `first` on.
  void spread(const Launch& l, void* space, size_t first) const {
    std::vector<cuda::MovedPiece> moves;
    for (const RnnPiece& p : rnn_->pieces())
      moves.push_back(
          {at(space, p.to), at(l.out[first + static_cast<size_t>(p.input)], p.from), p.count});
    cuda::run_move_pieces(moves, element_, l.stream);
  }

 private:
  void* at(void* base, int64_t element) const {
    return static_cast<char*>(base) + static_cast<size_t>(element) * element_;
  }

  void keep(const Prepare& p, size_t count) {
    std::vector<Array> sources;
    std::string key = "weights of cudnn_rnn " + std::to_string(rnn_->weight_bytes());
    for (size_t k = 0; k < count; ++k) {
      sources.push_back(*p.constant(first_ + k));
      key += ' ' + std::to_string(reinterpret_cast<uintptr_t>(sources.back().data()));
    }
    for (const RnnPiece& piece : rnn_->pieces()) key += ',' + std::to_string(piece.to);
    const Shape size{static_cast<int64_t>(rnn_->weight_bytes())};
    const auto make = [&] {
      Array space(DType::kUInt8, size);
      std::memset(space.data(), 0, space.bytes());
      for (const RnnPiece& piece : rnn_->pieces())
        std::memcpy(
            at(space.data(), piece.to),
            at(const_cast<void*>(sources[static_cast<size_t>(piece.input)].data()), piece.from),
            static_cast<size_t>(piece.count) * element_);
      return p.upload(space);
    };
    if (p.cache == nullptr) {
      kept_ = make();
      return;
    }
    kept_ = p.cache
                ->get(
                    key, sources,
                    [&] {
                      const auto there = make();
                      return Array(DType::kUInt8, size, const_cast<void*>(there.get()), there);
                    },
                    false)
                .owner();
  }

  std::shared_ptr<const DnnRnn> rnn_;
  size_t first_, element_;
  std::shared_ptr<const void> kept_;
};

Kernel forward(const Prepare& p, bool training) {
  const auto& a = p.attrs<RnnAttrs>();
  const auto rnn = DnnRnn::create(spec_of(p.node.inputs, a, training), *p.device);
  TRI_CHECK(!training || std::cmp_equal(rnn->reserve(), a.reserve_bytes),
            message("cudnn_rnn", "reserve_bytes expects ", static_cast<int64_t>(rnn->reserve()),
                    " on this device, got ", a.reserve_bytes));
  const Weights weights(p, rnn, RnnIn::kWeights);
  const bool lstm = rnn_mode(a) == RnnMode::kLstm, h0 = p.has(RnnIn::kH0), c0 = p.has(RnnIn::kC0);
  const size_t own = weights.scratch(), states = p.node.outputs[1]->type.bytes();
  return {[=](const Launch& l) {
            auto* scratch = static_cast<char*>(l.scratch);
            const void* w = weights.get(l, scratch);
            rnn->forward(
                {l.in[RnnIn::kX], h0 ? l.in[RnnIn::kH0] : nullptr, c0 ? l.in[RnnIn::kC0] : nullptr,
                 l.out[0], l.out[1], l.out[2], w, training ? l.out[3] : nullptr},
                scratch + own, l.stream);
            if (!lstm)
              TRI_CUDA_CALL(cudaMemcpyAsync(l.out[2], l.out[1], states, cudaMemcpyDeviceToDevice,
                                            static_cast<cudaStream_t>(l.stream)));
          },
          own + rnn->workspace()};
}

}  // namespace

int64_t cuda_rnn_reserve(std::span<Value* const> inputs, const RnnAttrs& attrs, Device& gpu) {
  for (const size_t k : {RnnIn::kX, RnnIn::kLengths})
    if (inputs.size() <= k || (k == RnnIn::kX && inputs[k]->type.shape.rank() != 3)) return 0;
  if (inputs[RnnIn::kX]->type.shape.numel() == 0) return 0;  // the rule says what is wrong
  return static_cast<int64_t>(DnnRnn::create(spec_of(inputs, attrs, true), gpu)->reserve());
}

Kernel cuda_rnn(const Prepare& p) {
  if (p.in(0).shape.numel() == 0)
    fail(Code::kUnimplemented, "[rnn] an empty x has no kernel for a GPU", p.node.where);
  return forward(p, false);
}

Kernel cuda_cudnn_rnn(const Prepare& p) { return forward(p, true); }

Kernel cuda_cudnn_rnn_grad(const Prepare& p) {
  const auto& a = p.attrs<RnnAttrs>();
  const size_t count = p.node.inputs.size() - 5;  // of cudnn_rnn
  const std::span<Value* const> own(p.node.inputs.data() + 1, count);
  const auto rnn = DnnRnn::create(spec_of(own, a, true), *p.device);
  const Weights weights(p, rnn, 1 + RnnIn::kWeights);
  const auto given = [&](size_t k) { return p.has(k) ? static_cast<int>(k) : -1; };
  const int h0 = given(1 + RnnIn::kH0), c0 = given(1 + RnnIn::kC0), dh = given(count + 3),
            dc = given(count + 4);
  const bool lstm = rnn_mode(a) == RnnMode::kLstm;
  const size_t kept = p.node.outputs[0]->type.bytes(), states = p.node.outputs[3]->type.bytes();
  const size_t w_at = 0, dw_at = weights.scratch(),
               workspace_at = dw_at + aligned(rnn->weight_bytes());
  return {
      [=](const Launch& l) {
        auto* scratch = static_cast<char*>(l.scratch);
        const auto stream = static_cast<cudaStream_t>(l.stream);
        const auto input = [&](int k) { return k < 0 ? nullptr : l.in[static_cast<size_t>(k)]; };
        if (l.out[0] != l.in[0])
          TRI_CUDA_CALL(cudaMemcpyAsync(l.out[0], l.in[0], kept, cudaMemcpyDeviceToDevice, stream));
        const void* w = weights.get(l, scratch + w_at);
        rnn->backward(
            {l.in[1], input(h0), input(c0), l.in[count + 1], w, l.in[count + 2], input(dh),
             input(dc), l.out[1], l.out[2], l.out[3], scratch + dw_at, l.out[0]},
            scratch + workspace_at, l.stream);
        weights.spread(l, scratch + dw_at, 4);
        if (!lstm) TRI_CUDA_CALL(cudaMemsetAsync(l.out[3], 0, states, stream));
      },
      workspace_at + rnn->workspace()};
}

}  // namespace trireme
