// Convolutions of one tap by cuBLASLt: [pixels, ic] by [ic, oc].
#include "ops/conv_1x1.h"

#include <cuda_runtime_api.h>

#include "device/cuda/check.h"
#include "device/cuda/cublaslt.h"
#include "device/precision.h"
#include "ops/conv.h"
#include "ops/conv_operands.h"
#include "ops/elements.h"

namespace trireme::cuda {
namespace {

bool serves(const cpu::ConvSpec& s, DType dtype) {
  const bool fours = s.ic % 4 == 0 && s.oc % 4 == 0;  // what tensor cores take
  return dtype == DType::kFloat32 && s.kh * s.kw == 1 && s.groups == 1 && s.top == 0 &&
         s.left == 0 && (fours || !allows_tf32(Products::kConvolutions));
}

bool is_rows(const Type& t) { return strides_of(t)[1] == 1; }

ProductSpec product_of(int64_t m, int64_t n, int64_t k) {
  ProductSpec s;
  s.m = m, s.n = n, s.k = k;
  s.a.ld = k;
  s.b.ld = s.c.ld = s.residual.ld = n;
  s.tf32 = allows_tf32(Products::kConvolutions);
  return s;
}

constexpr const char* kName = "cuBLASLt";

}  // namespace

std::vector<Alternative> conv_1x1(const Prepare& p, const Conv1x1& c) {
  const Node& n = *c.conv;
  const bool turned = n.op == &ops::conv2d_transpose_op;
  const cpu::ConvSpec s = conv_spec(n);
  const Type &x = n.inputs[0]->type, &w = n.inputs[1]->type, &y = *c.result;
  const cpu::Act act = c.epilogue.act;
  const bool plain = c.bias < 0 && c.residual < 0 && act == cpu::Act::kNone;
  if (!serves(s, x.dtype) || !is_rows(x) || !is_rows(y)) return {};
  if ((turned && !plain) || (act != cpu::Act::kNone && act != cpu::Act::kRelu)) return {};
  if (c.residual >= 0 && (c.epilogue.residual != cpu::Epilogue::kBeforeAct ||
                          !is_rows(*c.residual_type) || c.residual_type->dtype != x.dtype))
    return {};

  Scratch scratch;
  const Shape& small = turned ? x.shape : y.shape;
  const Picture seen = Picture::every(turned ? y : x, {s.sh, s.sw}, small[2], small[3], scratch);
  const Weight weight = weight_of(
      p, c.weight, {w.dtype, x.dtype, {w.shape[0], w.shape[1], 1, 1}, w.shape[0], w.shape[1]},
      scratch);
  const Bias bias =
      c.bias < 0 ? Bias() : bias_of(p, c.bias, y.shape[1], x.dtype, y.shape[1], scratch);
  ProductSpec to = product_of(small[0] * small[2] * small[3], y.shape[1], x.shape[1]);
  to.b = {!turned, turned ? to.n : to.k, 0};
  to.has_bias = c.bias >= 0, to.has_residual = c.residual >= 0;
  if (act == cpu::Act::kRelu) to.act = ProductSpec::Act::kRelu;
  const auto product = Product::create(to, *p.device);
  if (!product) return {};
  const size_t workspace = scratch.take(product->workspace());
  const auto bytes = static_cast<size_t>(y.shape.numel()) * sizeof(float);
  return {
      {kName,
       {[=](const Launch& l) {
          ProductArgs args{l.in[c.x], weight.given(l, l.in[c.weight]),
                           c.residual < 0 ? nullptr : l.in[c.residual], bias.given(l), l.out[0]};
          turned ? args.c = seen.place(l, l.out[0]) : args.a = seen.given(l, args.a);
          product->run(args, static_cast<char*>(l.scratch) + workspace, l.stream);
          if (!turned || !seen.copied) return;
          TRI_CUDA_CALL(cudaMemsetAsync(l.out[0], 0, bytes, static_cast<cudaStream_t>(l.stream)));
          seen.copy.take_back(args.c, l.out[0], nullptr, DType::kFloat32, l.stream);
        },
        scratch.bytes()}}};
}

std::vector<Alternative> conv_1x1_wgrad(const Prepare& p, const cpu::ConvSpec& conv) {
  const Type &x = p.in(0), &dy = p.in(1);
  if (!serves(conv, x.dtype) || !is_rows(x) || !is_rows(dy)) return {};
  Scratch scratch;
  const Picture seen = Picture::every(x, {conv.sh, conv.sw}, dy.shape[2], dy.shape[3], scratch);
  ProductSpec to = product_of(conv.oc, conv.ic, conv.n * conv.oh * conv.ow);
  to.a = {true, conv.oc, 0};
  const auto product = Product::create(to, *p.device);
  if (!product) return {};
  const size_t workspace = scratch.take(product->workspace());
  return {{kName,
           {[=](const Launch& l) {
              product->run({l.in[1], seen.given(l, l.in[0]), nullptr, nullptr, l.out[0]},
                           static_cast<char*>(l.scratch) + workspace, l.stream);
            },
            scratch.bytes()}}};
}

}  // namespace trireme::cuda
