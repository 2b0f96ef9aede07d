// conv2d, conv2d_transpose: shape rules and gradients. The kernels are chosen in anchor.cpp, which
// fused nodes share.
#include "ops/conv.h"

#include "ops/anchor.h"
#include "ops/cuda_kernels.h"
#include "ops/reduce.h"

namespace trireme {
namespace {

std::string text(const char* op, const std::string& message) {
  return '[' + std::string(op) + "] " + message;
}

void check_geometry(const char* op, const Conv2dAttrs& a) {
  TRI_CHECK(a.strides.size() == 2 && a.dilations.size() == 2 && a.paddings.size() == 4,
            text(op, "strides and dilations expect 2 numbers, paddings 4"));
  for (int i = 0; i < 2; ++i) {
    const auto u = static_cast<size_t>(i);
    TRI_CHECK(a.strides[u] > 0 && a.dilations[u] > 0,
              text(op, "strides and dilations must be positive"));
  }
  for (int64_t p : a.paddings)
    TRI_CHECK(p >= 0 && p < (1 << 20), text(op, "paddings must not be negative or absurd"));
  TRI_CHECK(a.groups > 0, text(op, "groups must be positive, got " + std::to_string(a.groups)));
}

void check_bias(const Infer& in, const char* op, int64_t channels) {
  if (!in.has(2)) return;
  TRI_CHECK(
      in.shape(2) == Shape{channels},
      text(op, "bias expects shape [" + std::to_string(channels) + "], got " + in.shape(2).str()));
}

void infer_conv(const Infer& in) {
  constexpr const char* kName = "conv2d";
  const auto& a = in.attrs<Conv2dAttrs>();
  check_geometry(kName, a);
  const Shape &x = in.shape(0), &w = in.shape(1);
  TRI_CHECK(x.rank() == 4, text(kName, "input expects 4 dimensions [N, C, H, W], got " + x.str()));
  TRI_CHECK(w.rank() == 4,
            text(kName, "weight expects 4 dimensions [O, C / groups, kh, kw], got " + w.str()));
  TRI_CHECK(x[1] == w[1] * a.groups,
            text(kName, "weight expects " + std::to_string(w[1] * a.groups) +
                            " input channels, got " + std::to_string(x[1])));
  TRI_CHECK(w[0] % a.groups == 0,
            text(kName, std::to_string(w[0]) + " output channels do not split into " +
                            std::to_string(a.groups) + " groups"));
  check_bias(in, kName, w[0]);
  Shape out{x[0], w[0]};
  for (int i = 0; i < 2; ++i) {
    const auto u = static_cast<size_t>(i);
    const int64_t padded = x[2 + i] + a.paddings[2 * u] + a.paddings[2 * u + 1];
    const int64_t extent = a.dilations[u] * (w[2 + i] - 1) + 1;
    TRI_CHECK(w[2 + i] > 0 && padded >= extent,
              text(kName, "the kernel " + w.str() + " is larger than the padded input " + x.str()));
    out.push_back((padded - extent) / a.strides[u] + 1);
  }
  in.out(in.dtype(0), out);
}

void infer_transpose(const Infer& in) {
  constexpr const char* kName = "conv2d_transpose";
  const auto& a = in.attrs<Conv2dAttrs>();
  check_geometry(kName, a);
  const Shape &x = in.shape(0), &w = in.shape(1);
  TRI_CHECK(x.rank() == 4, text(kName, "input expects 4 dimensions [N, C, H, W], got " + x.str()));
  TRI_CHECK(w.rank() == 4 && x[1] == w[0],
            text(kName, "weight expects [" + std::to_string(x[1]) + ", O / groups, kh, kw], got " +
                            w.str()));
  TRI_CHECK(x[1] % a.groups == 0,
            text(kName, std::to_string(x[1]) + " input channels do not split into " +
                            std::to_string(a.groups) + " groups"));
  check_bias(in, kName, w[1] * a.groups);
  Shape out{x[0], w[1] * a.groups};
  for (int i = 0; i < 2; ++i) {
    const auto u = static_cast<size_t>(i);
    const int64_t extra = a.output_padding.size() == 2 ? a.output_padding[u] : 0;
    const int64_t size = (x[2 + i] - 1) * a.strides[u] - a.paddings[2 * u] - a.paddings[2 * u + 1] +
                         a.dilations[u] * (w[2 + i] - 1) + 1 + extra;
    TRI_CHECK(size > 0, text(kName, "the paddings leave nothing of the output"));
    out.push_back(size);
  }
  in.out(in.dtype(0), out);
}

// Over all pictures and pixels.
void set_bias_grad(Grad& g) {
  if (g.wants(2)) g.set(2, ops::reduce(ops::sum_op, g.dout(), {0, 2, 3}, false));
}

std::vector<int64_t> kernel_of(const Value* weight) {
  return {weight->type.shape[2], weight->type.shape[3]};
}

void conv_grad(Grad& g) {
  Conv2dAttrs a = g.attrs<Conv2dAttrs>();
  if (g.wants(0)) g.set(0, ops::conv2d_dgrad(g.dout(), g.in(1), g.in(0), a));
  a.kernel = kernel_of(g.in(1));
  if (g.wants(1)) g.set(1, ops::conv2d_wgrad(g.in(0), g.dout(), a));
  set_bias_grad(g);
}

// The transposed convolution is linear as well, with the roles of picture and result exchanged.
void transpose_grad(Grad& g) {
  Conv2dAttrs a = g.attrs<Conv2dAttrs>();
  a.output_padding = {0, 0};
  if (g.wants(0)) g.set(0, ops::conv2d(g.dout(), g.in(1), nullptr, a));
  a.kernel = kernel_of(g.in(1));
  if (g.wants(1)) g.set(1, ops::conv2d_wgrad(g.dout(), g.in(0), a));
  set_bias_grad(g);
}

}  // namespace

namespace ops {

const Op conv2d_op{.name = "conv2d",
                   .inputs = 3,
                   .attrs = &attr_info<Conv2dAttrs>,
                   .infer = infer_conv,
                   .grad = conv_grad,
                   .cpu = prepare_anchor,
                   .cuda = TRI_CUDA(cuda_conv2d),
                   .amp = Amp::kHalf,
                   .fuse = Fuse::kAnchor,
                   .layouts = Layouts::kPrefersChannelsLast};
const Op conv2d_transpose_op{.name = "conv2d_transpose",
                             .inputs = 3,
                             .attrs = &attr_info<Conv2dAttrs>,
                             .infer = infer_transpose,
                             .grad = transpose_grad,
                             .cpu = prepare_anchor,
                             .cuda = TRI_CUDA(cuda_conv2d),
                             .amp = Amp::kHalf,
                             .fuse = Fuse::kAnchor,
                             .layouts = Layouts::kPrefersChannelsLast};

Value* conv2d(Value* x, Value* weight, Value* bias, const Conv2dAttrs& attrs) {
  return record1(conv2d_op, {x, weight, bias}, attrs);
}
Value* conv2d_transpose(Value* x, Value* weight, Value* bias, const Conv2dAttrs& attrs) {
  return record1(conv2d_transpose_op, {x, weight, bias}, attrs);
}

Value* conv2d_dgrad(Value* dout, Value* weight, const Value* like, const Conv2dAttrs& attrs) {
  Conv2dAttrs a = attrs;
  a.kernel.clear();
  for (int i = 0; i < 2; ++i) {
    const auto u = static_cast<size_t>(i);
    const int64_t seen = (dout->type.shape[2 + i] - 1) * a.strides[u] +
                         a.dilations[u] * (weight->type.shape[2 + i] - 1) + 1;
    a.output_padding[u] =
        like->type.shape[2 + i] + a.paddings[2 * u] + a.paddings[2 * u + 1] - seen;
  }
  return conv2d_transpose(dout, weight, nullptr, a);
}

}  // namespace ops
}  // namespace trireme
