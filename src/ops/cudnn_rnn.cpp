// cudnn_rnn: its rules. The CPU has rnn_layer.
#include "ops/cudnn_rnn.h"

#include <utility>

#include "ops/cuda_kernels.h"
#include "ops/elements.h"
#include "ops/pointwise.h"
#include "ops/rnn_layer.h"
#include "ops/shape.h"

namespace trireme {
namespace {

// The inputs of rnn, which begin at `first`; -> the type of a state.
Type check_inputs(const Infer& i, size_t first, size_t count) {
  const auto& a = i.attrs<RnnAttrs>();
  const Type& x = i.type(first);
  TRI_CHECK(
      is_floating(x.dtype) && x.shape.rank() == 3 && x.shape.numel() > 0,
      message(i.op.name, "x expects a floating dtype and [T, B, I], not empty, got ", x.str()));
  TRI_CHECK(a.hidden_size > 0 && a.num_layers > 0 && a.hidden_size < (int64_t{1} << 24) &&
                a.num_layers < 1024,
            message(i.op.name, "hidden_size and num_layers expect positive values, got ",
                    a.hidden_size, " and ", a.num_layers));
  const int64_t d = a.is_bidirec ? 2 : 1, cells = d * a.num_layers, h = a.hidden_size;
  const int64_t gates = rnn_gates(rnn_mode(a)) * h;
  TRI_CHECK(std::cmp_equal(count, 4 + 4 * cells),
            message(i.op.name, "expects ", 4 * cells, " weights, got ", count - 4));
  const Type state{x.dtype, Shape{cells, x.shape[1], h}};
  const auto expect = [&](size_t at, const Shape& want) {
    TRI_CHECK(i.dtype(first + at) == x.dtype && i.shape(first + at) == want,
              message(i.op.name, "input ", first + at, " expects ", x.dtype, want, ", got ",
                      i.type(first + at).str()));
  };
  for (const size_t k : {RnnIn::kH0, RnnIn::kC0})
    if (i.has(first + k)) expect(k, state.shape);
  if (i.has(first + RnnIn::kLengths)) {
    check_index_dtype(i, first + RnnIn::kLengths);
    TRI_CHECK(i.shape(first + RnnIn::kLengths) == Shape{x.shape[1]},
              message(i.op.name, "lengths expects [", x.shape[1], "]"));
  }
  for (int64_t k = 0; k < 2 * cells; ++k) {
    const int64_t width = k < 2 * d ? x.shape[2] : d * h;
    expect(RnnIn::kWeights + static_cast<size_t>(k), Shape{gates, k % 2 == 0 ? width : h});
    expect(RnnIn::kWeights + static_cast<size_t>(2 * cells + k), Shape{gates});
  }
  return state;
}

void infer(const Infer& i) {
  const Type state = check_inputs(i, 0, i.inputs.size());
  const Shape& x = i.shape(0);
  const auto& a = i.attrs<RnnAttrs>();
  i.out(state.dtype, Shape{x[0], x[1], (a.is_bidirec ? 2 : 1) * a.hidden_size});
  i.out(state.dtype, state.shape);
  i.out(state.dtype, state.shape);
  i.out(DType::kUInt8, Shape{a.reserve_bytes});
}

void infer_grad(const Infer& i) {
  TRI_CHECK(i.inputs.size() > 9, message(i.op.name, "expects what cudnn_rnn took and gave"));
  const size_t own = i.inputs.size() - 5;
  const Type state = check_inputs(i, 1, own);
  i.out(DType::kUInt8, i.shape(0));
  i.out(state.dtype, i.shape(1));
  i.out(state.dtype, state.shape);
  i.out(state.dtype, state.shape);
  for (size_t k = RnnIn::kWeights; k < own; ++k) i.out(state.dtype, i.shape(1 + k));
}

void grad(Grad& g) {
  const bool lstm = rnn_mode(g.attrs<RnnAttrs>()) == RnnMode::kLstm;
  TRI_CHECK(g.dout(3) == nullptr,
            message(g.op.name, "what is kept for the gradient has none itself"));
  Value *dy = g.dout(0), *dh = g.dout(1), *dc = g.dout(2);
  if (dy == nullptr) {
    const Shape& s = g.out(0)->type.shape;
    dy = ops::full({s.begin(), s.end()}, 0, g.out(0)->type.dtype);
  }
  if (!lstm) {  // the third result is the second again
    dh = dh && dc ? ops::add(dh, dc) : dh ? dh : dc;
    dc = nullptr;
  }
  std::vector<Value*> in{g.out(3)};
  in.insert(in.end(), g.inputs.begin(), g.inputs.end());
  in.insert(in.end(), {g.out(0), dy, dh, dc});
  const std::vector<Value*> back = record(ops::cudnn_rnn_grad_op, in, g.attributes);
  g.set(RnnIn::kX, back[1]);
  if (g.wants(RnnIn::kH0)) g.set(RnnIn::kH0, back[2]);
  if (g.wants(RnnIn::kC0)) g.set(RnnIn::kC0, back[3]);
  for (size_t k = RnnIn::kWeights; k < g.inputs.size(); ++k) g.set(k, back[k]);
}

}  // namespace

namespace ops {

constinit const Op cudnn_rnn_op{.name = "cudnn_rnn",
                                .inputs = -1,
                                .outputs = 4,
                                .attrs = &attr_info<RnnAttrs>,
                                .infer = infer,
                                .grad = grad,
                                .cuda = TRI_CUDA(cuda_cudnn_rnn)};

constinit const Op cudnn_rnn_grad_op{.name = "cudnn_rnn_grad",
                                     .inputs = -1,
                                     .outputs = -1,
                                     .attrs = &attr_info<RnnAttrs>,
                                     .infer = infer_grad,
                                     .cuda = TRI_CUDA(cuda_cudnn_rnn_grad),
                                     .in_place = 1};

std::vector<Value*> cudnn_rnn(const std::vector<Value*>& inputs, const RnnAttrs& attrs,
                              Device& gpu) {
#ifdef TRIREME_CUDA
  RnnAttrs a = attrs;
  a.reserve_bytes = cuda_rnn_reserve(inputs, attrs, gpu);
  return record(cudnn_rnn_op, inputs, a);
#else
  (void)inputs, (void)attrs, (void)gpu;
  fail(Code::kInternal, "[cudnn_rnn] this build is without CUDA");
#endif
}

}  // namespace ops
}  // namespace trireme
