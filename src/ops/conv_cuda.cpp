// Convolutions on the GPU: cuDNN's plans on channels-last pictures, our own kernels for depthwise
// ones and, where that is faster, for few channels and for few pixels.
#include "ops/conv_cuda.h"

#include <algorithm>
#include <optional>

#include "base/switches.h"
#include "device/cuda/cudnn.h"
#include "device/precision.h"
#include "ops/conv.h"
#include "ops/conv_1x1.h"
#include "ops/conv_few_pixels.h"
#include "ops/conv_folded.h"
#include "ops/conv_operands.h"
#include "ops/cuda_choice.h"
#include "ops/cuda_kernels.h"
#include "ops/elements.h"

namespace trireme {
namespace cuda {

DnnOptions dnn_conv_options() {
  return {.tf32 = allows_tf32(Products::kConvolutions), .deterministic = cudnn_deterministic(true)};
}

namespace {

bool is_half(DType dtype) { return dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

// Tensor cores take channels in eights of halves (the first convolution's few in fours), in fours
// of float32.
int64_t padded_channels(int64_t c, DType dtype, int64_t groups, bool input) {
  const auto up = [c](int64_t n) { return (c + n - 1) / n * n; };
  if (groups > 1) return c;
  if (is_half(dtype)) return input && c <= 4 ? 4 : up(8);
  return dtype == DType::kFloat32 && allows_tf32(Products::kConvolutions) ? up(4) : c;
}

// What one kernel computes, and where its operands are among the node's inputs (-1: absent).
struct Parts {
  const Node* anchor;
  const Type* result;
  int x = 0, weight = 1, bias = -1, residual = -1;
  const Type* residual_type = nullptr;
  cpu::Epilogue epilogue;
  bool sums = false;  // the result's statistics as a second output
  const void* in(const Launch& l, int i) const { return i < 0 ? nullptr : l.in[i]; }
  Conv1x1 one_tap() const {
    return {anchor, result, x, weight, bias, residual, residual_type, epilogue};
  }
};

DnnConv geometry_of(const Conv2dAttrs& a) {
  return {{a.paddings[0], a.paddings[2]},
          {a.paddings[1], a.paddings[3]},
          {a.strides[0], a.strides[1]},
          {a.dilations[0], a.dilations[1]}};
}

DType compute_of(DType dtype) { return dtype == DType::kFloat64 ? dtype : DType::kFloat32; }

// cuDNN's.
Kernel library_forward(const Prepare& p, const Parts& parts) {
  const Node& n = *parts.anchor;
  const auto& a = n.get<Conv2dAttrs>();
  const Type &x = n.inputs[0]->type, &w = n.inputs[1]->type;
  const DType dtype = x.dtype;
  const int64_t channels = padded_channels(x.shape[1], dtype, a.groups, true),
                outputs = padded_channels(w.shape[0], dtype, a.groups, false);
  Scratch scratch;
  const Picture in(x, channels, x.shape[2], x.shape[3], scratch);
  const Picture out(*parts.result, outputs, parts.result->shape[2], parts.result->shape[3],
                    scratch);
  const WeightCopy form{w.dtype,
                        dtype,
                        {w.shape[0], w.shape[1], w.shape[2], w.shape[3]},
                        outputs,
                        channels / a.groups};
  const Weight weight = weight_of(p, parts.weight, form, scratch);
  const bool act = parts.epilogue.act == cpu::Act::kRelu;
  // The fused engines want a bias; one that is not there is zeros.
  const bool biased = parts.bias >= 0 || parts.residual >= 0 || act;
  const Bias bias = biased ? bias_of(p, parts.bias, w.shape[0], dtype, outputs, scratch) : Bias();
  Picture residual;

  DnnGraph graph(compute_of(dtype), compute_of(dtype));
  const int gx = graph.input(in.tensor());
  const int gw = graph.input(dnn_channels_last(dtype, {outputs, form.c, w.shape[2], w.shape[3]}));
  int y = graph.conv(gx, gw, geometry_of(a));
  if (parts.residual >= 0) {
    const Shape& s = parts.residual_type->shape;
    residual = Picture(*parts.residual_type, outputs, s[2], s[3], scratch);
    y = graph.pointwise(DnnOp::kAdd, y, graph.input(residual.tensor()));
  }
  if (biased) {
    const int b = graph.input(dnn_channels_last(dtype, {1, outputs, 1, 1}));
    y = graph.pointwise(DnnOp::kAdd, y, b);
  }
  if (act) y = graph.pointwise(DnnOp::kRelu, y);
  graph.output(y, out.tensor());
  if (parts.sums)
    for (const int sum : graph.statistics(y))
      graph.output(sum, dnn_channels_last(DType::kFloat32, {1, outputs, 1, 1}));
  const auto plan = graph.plan(*p.device, dnn_conv_options());
  const size_t workspace = scratch.take(plan->workspace());
  return {[=](const Launch& l) {
            char* memory = static_cast<char*>(l.scratch);
            void* pointers[6] = {in.given(l, l.in[parts.x]), weight.given(l, l.in[parts.weight])};
            int k = 2;
            if (parts.residual >= 0) pointers[k++] = residual.given(l, l.in[parts.residual]);
            if (biased) pointers[k++] = const_cast<void*>(bias.given(l));
            pointers[k] = out.place(l, l.out[0]);
            if (parts.sums) {
              pointers[k + 1] = l.out[1];
              pointers[k + 2] = static_cast<float*>(l.out[1]) + outputs;
            }
            plan->run(pointers, memory + workspace, l.stream);
            if (out.copied) out.copy.take_back(pointers[k], l.out[0], nullptr, dtype, l.stream);
          },
          scratch.bytes()};
}

// ---- few channels

// The kernel of our own, where there is one. With parts.sums the second output is theirs.
std::optional<Kernel> few_channels(const Prepare& p, const Parts& parts) {
  const Node& n = *parts.anchor;
  const Type &x = n.inputs[0]->type, &w = n.inputs[1]->type;
  const cpu::Epilogue& e = parts.epilogue;
  if (n.op == &ops::conv2d_transpose_op || parts.residual >= 0 || !channels_last(*parts.result) ||
      (e.act != cpu::Act::kNone && e.act != cpu::Act::kRelu))
    return std::nullopt;
  const FewChannels c{conv_spec(n), x.dtype, strides_of(x)};
  if (!takes_few_channels(c)) return std::nullopt;
  Scratch scratch;
  const WeightCopy form{
      w.dtype, x.dtype, {w.shape[0], w.shape[1], w.shape[2], w.shape[3]}, w.shape[0], 4};
  const Weight weight = weight_of(p, parts.weight, form, scratch);
  const size_t sums_at = parts.sums ? scratch.take(few_channels_scratch(c)) : 0;
  // As it lies, but through bias_of(): once another kernel of this node has packed a constant bias,
  // the input is not there.
  const DType bias_dtype =
      parts.bias >= 0 ? p.in(static_cast<size_t>(parts.bias)).dtype : DType::kFloat32;
  const Bias bias =
      parts.bias < 0 ? Bias() : bias_of(p, parts.bias, w.shape[0], bias_dtype, w.shape[0], scratch);
  return Kernel{
      [=, relu = e.act == cpu::Act::kRelu](const Launch& l) {
        const FewChannelsArgs args{
            l.in[parts.x], weight.given(l, l.in[parts.weight]), bias.given(l), bias_dtype, relu,
            l.out[0],      parts.sums ? l.out[1] : nullptr};
        few_channels_forward(c, args, static_cast<char*>(l.scratch) + sums_at, l.stream);
      },
      scratch.bytes()};
}

// ---- few pixels

int small(int64_t v) { return static_cast<int>(std::min<int64_t>(v, 1 << 30)); }

FewPixelsConv few_pixels_of(const Parts& parts) {
  const Node& n = *parts.anchor;
  const auto& a = n.get<Conv2dAttrs>();
  const Shape &x = n.inputs[0]->type.shape, &w = n.inputs[1]->type.shape, &y = parts.result->shape;
  return {.dtype = n.inputs[0]->type.dtype,
          .n = small(x[0]),
          .h = small(x[2]),
          .w = small(x[3]),
          .c = small(x[1]),
          .oh = small(y[2]),
          .ow = small(y[3]),
          .o = small(w[0]),
          .kh = small(w[2]),
          .kw = small(w[3]),
          .stride_h = small(a.strides[0]),
          .stride_w = small(a.strides[1]),
          .top = small(a.paddings[0]),
          .left = small(a.paddings[2]),
          .relu = parts.epilogue.act == cpu::Act::kRelu};
}

// Whether our own kernel may stand in for cuDNN's: weights and bias are constants, pictures are
// channels-last, and there are no more pixels than where it could still win.
bool may_be_few_pixels(const Prepare& p, const Parts& parts) {
  constexpr int64_t kMostPixels = 8 * 56 * 56;
  const Node& n = *parts.anchor;
  const auto& a = n.get<Conv2dAttrs>();
  const Shape& y = parts.result->shape;
  const auto constant = [&](int input) {
    return input < 0 || p.constant(static_cast<size_t>(input)) != nullptr;
  };
  const auto fits = [](const Type* t) { return t == nullptr || strides_of(*t)[1] == 1; };
  return !parts.sums && is_half(n.inputs[0]->type.dtype) && a.groups == 1 && a.dilations[0] == 1 &&
         a.dilations[1] == 1 && y[0] * y[2] * y[3] <= kMostPixels && constant(parts.weight) &&
         constant(parts.bias) && fits(&n.inputs[0]->type) && fits(parts.result) &&
         fits(parts.residual_type) && p.device->info().major >= 9;
}

// Our own kernel in every way that is worth timing; none where it does not serve.
std::vector<Alternative> few_pixels(const Prepare& p, const Parts& parts) {
  std::vector<Alternative> all;
  if (!may_be_few_pixels(p, parts)) return all;
  const DType dtype = parts.result->dtype;
  const FewPixelsConv conv = few_pixels_of(parts);
  const auto tilings = likely_tilings(conv, p.device->info().multiprocessors);
  if (tilings.empty()) return all;
  const Shape& w = parts.anchor->inputs[1]->type.shape;
  Scratch none;
  const Weight weight = weight_of(
      p, parts.weight,
      {parts.anchor->inputs[1]->type.dtype, dtype, {w[0], w[1], w[2], w[3]}, w[0], w[1]}, none);
  const Bias bias =
      parts.bias < 0 ? Bias() : bias_of(p, parts.bias, w[0], DType::kFloat32, w[0], none);
  for (const FewPixelsTiling& tiling : tilings)
    if (const auto run = few_pixels_kernel(conv, tiling))
      all.push_back({tiling.str(), {[=](const Launch& l) {
                       run({l.in[parts.x], weight.given(l, l.in[parts.weight]), bias.given(l),
                            parts.in(l, parts.residual), l.out[0]},
                           l.stream);
                     }}});
  return all;
}

void append(std::vector<Alternative>& all, std::vector<Alternative> more) {
  for (Alternative& a : more) all.push_back(std::move(a));
}

// The fastest of our own ways and the library's; TRIREME_DISABLE=cudnn_conv: of our own, where
// there are any.
Kernel best_of(const Prepare& p, std::vector<Alternative> all,
               const std::function<Kernel()>& library) {
  if (!all.empty() && is_disabled("cudnn_conv")) return all[fastest_of(p, all, "our own")].kernel;
  all.insert(all.begin(), {"cuDNN", library()});
  return all[fastest_of(p, all, "cuDNN or our own")].kernel;
}

Kernel forward(const Prepare& p, const Parts& parts) {
  std::vector<Alternative> all = few_pixels(p, parts);
  if (const auto own = few_channels(p, parts)) all.push_back({"few channels", *own});
  const bool plain = parts.bias < 0 && parts.residual < 0 && parts.epilogue.act == cpu::Act::kNone;
  if (plain) append(all, folded_conv(p, *parts.anchor, *parts.result, parts.x, parts.weight));
  if (!parts.sums) append(all, conv_1x1(p, parts.one_tap()));
  return best_of(p, std::move(all), [&] { return library_forward(p, parts); });
}

// The transposed convolution: the gradient of a convolution by its input. Engines with a bias would
// compile at run time: it is added behind.
Kernel library_dgrad(const Prepare& p, const Parts& parts) {
  const Node& n = *parts.anchor;
  const auto& a = n.get<Conv2dAttrs>();
  const Type &dy = n.inputs[0]->type, &w = n.inputs[1]->type, &dx = *parts.result;
  const DType dtype = dy.dtype;
  const int64_t channels = padded_channels(dx.shape[1], dtype, a.groups, true),
                outputs = padded_channels(dy.shape[1], dtype, a.groups, false);
  // More output padding than a stride can hide lies outside of the convolution: zeros.
  std::array<int64_t, 2> seen{};
  for (int i = 0; i < 2; ++i) {
    const auto u = static_cast<size_t>(i);
    const int64_t extent = a.dilations[u] * (w.shape[2 + i] - 1) + 1;
    seen[u] = std::min(dx.shape[2 + i], dy.shape[2 + i] * a.strides[u] + extent - 1 -
                                            a.paddings[2 * u] - a.paddings[2 * u + 1]);
  }
  Scratch scratch;
  const Picture in(dy, outputs, dy.shape[2], dy.shape[3], scratch);
  const Picture out(dx, channels, seen[0], seen[1], scratch);
  const WeightCopy form{w.dtype,
                        dtype,
                        {w.shape[0], w.shape[1], w.shape[2], w.shape[3]},
                        outputs,
                        channels / a.groups};
  const Weight weight = weight_of(p, parts.weight, form, scratch);
  DnnGraph graph(compute_of(dtype), compute_of(dtype));
  const int gy = graph.input(in.tensor());
  const int gw = graph.input(dnn_channels_last(dtype, {outputs, form.c, w.shape[2], w.shape[3]}));
  graph.output(graph.conv_dgrad(gy, gw, geometry_of(a), out.tensor().dims), out.tensor());
  const auto plan = graph.plan(*p.device, dnn_conv_options());
  const size_t workspace = scratch.take(plan->workspace());
  const DType bias_dtype = parts.bias >= 0 ? p.in(static_cast<size_t>(parts.bias)).dtype : dtype;
  return {[=](const Launch& l) {
            void* pointers[3] = {in.given(l, l.in[parts.x]), weight.given(l, l.in[parts.weight]),
                                 out.place(l, l.out[0])};
            plan->run(pointers, static_cast<char*>(l.scratch) + workspace, l.stream);
            if (out.copied || parts.bias >= 0)
              out.copy.take_back(pointers[2], l.out[0], parts.in(l, parts.bias), bias_dtype,
                                 l.stream);
          },
          scratch.bytes()};
}

Kernel dgrad(const Prepare& p, const Parts& parts) {
  return best_of(p, conv_1x1(p, parts.one_tap()), [&] { return library_dgrad(p, parts); });
}

Kernel wgrad(const Prepare& p) {
  const auto& a = p.attrs<Conv2dAttrs>();
  const Type &x = p.in(0), &dy = p.in(1), &dw = p.out();
  const DType dtype = x.dtype;
  const int64_t channels = padded_channels(x.shape[1], dtype, a.groups, true),
                outputs = padded_channels(dy.shape[1], dtype, a.groups, false);
  Scratch scratch;
  const Picture in(x, channels, x.shape[2], x.shape[3], scratch);
  const Picture out(dy, outputs, dy.shape[2], dy.shape[3], scratch);
  const Shape& s = dw.shape;
  const WeightCopy form{dtype, dtype, {s[0], s[1], s[2], s[3]}, outputs, channels / a.groups};
  const bool copied = s[2] * s[3] > 1 || outputs != s[0] || form.c != s[1];
  const size_t at = copied ? scratch.take(form.bytes()) : 0;
  DnnGraph graph(compute_of(dtype), compute_of(dtype));
  const int gy = graph.input(out.tensor()), gx = graph.input(in.tensor());
  const std::vector<int64_t> dims{outputs, form.c, s[2], s[3]};
  graph.output(graph.conv_wgrad(gy, gx, geometry_of(a), dims), dnn_channels_last(dtype, dims));
  const auto plan = graph.plan(*p.device, dnn_conv_options());
  const size_t workspace = scratch.take(plan->workspace());
  return {[=](const Launch& l) {
            char* memory = static_cast<char*>(l.scratch);
            void* pointers[3] = {out.given(l, l.in[1]), in.given(l, l.in[0]),
                                 copied ? memory + at : l.out[0]};
            plan->run(pointers, memory + workspace, l.stream);
            if (copied) form.take_back(pointers[2], l.out[0], l.stream);
          },
          scratch.bytes()};
}

// The convolution whose gradient by its weights the node is.
cpu::ConvSpec wgrad_spec(const Prepare& p) {
  const auto& a = p.attrs<Conv2dAttrs>();
  const Type &x = p.in(0), &y = p.in(1);
  cpu::ConvSpec s;
  s.n = x.shape[0], s.ic = x.shape[1], s.oc = y.shape[1], s.groups = a.groups;
  s.h = x.shape[2], s.w = x.shape[3], s.oh = y.shape[2], s.ow = y.shape[3];
  s.kh = a.kernel[0], s.kw = a.kernel[1], s.sh = a.strides[0], s.sw = a.strides[1];
  s.dh = a.dilations[0], s.dw = a.dilations[1], s.top = a.paddings[0], s.left = a.paddings[2];
  return s;
}

std::optional<Kernel> few_channels_wgrad_kernel(const Prepare& p) {
  const FewChannels c{wgrad_spec(p), p.in(0).dtype, strides_of(p.in(0))};
  if (!channels_last(p.in(1)) || !takes_few_channels(c)) return std::nullopt;
  return Kernel{[c](const Launch& l) {
                  few_channels_wgrad(c, l.in[0], l.in[1], l.out[0], l.scratch, l.stream);
                },
                few_channels_wgrad_scratch(c)};
}

// ---- depthwise

Depthwise depthwise_of(const cpu::ConvSpec& spec, const Type& x, const Type& y) {
  return {spec, x.dtype, {strides_of(x)}, {strides_of(y)}};
}

Kernel depthwise(const Prepare& p, const Parts& parts) {
  const Node& n = *parts.anchor;
  const bool turned = n.op == &ops::conv2d_transpose_op;
  const Type &in = n.inputs[0]->type, &w = n.inputs[1]->type;
  cpu::ConvSpec spec = conv_spec(n);
  if (turned) std::swap(spec.h, spec.oh), std::swap(spec.w, spec.ow);
  const Depthwise d =
      turned ? depthwise_of(spec, *parts.result, in) : depthwise_of(spec, in, *parts.result);
  Scratch scratch;
  // [kh, kw, C]: the channels seen as one output's.
  const WeightCopy form{w.dtype, in.dtype, {1, w.shape[0], w.shape[2], w.shape[3]}, 1, w.shape[0]};
  const Weight weight = weight_of(p, parts.weight, form, scratch);
  const DType sums = depthwise_sums(in.dtype);
  const DType bias_dtype = parts.bias >= 0 ? p.in(static_cast<size_t>(parts.bias)).dtype : sums;
  const size_t bias_at =
      bias_dtype == sums ? 0 : scratch.take(static_cast<size_t>(spec.ic) * size_of(sums));
  return {[=, epilogue = parts.epilogue](const Launch& l) {
            const void* bias = parts.in(l, parts.bias);
            if (bias_dtype != sums) {
              void* to = static_cast<char*>(l.scratch) + bias_at;
              copy_vector(bias, bias_dtype, d.spec.ic, to, sums, d.spec.ic, l.stream);
              bias = to;
            }
            const DepthwiseArgs args{l.in[parts.x], weight.given(l, l.in[parts.weight]), bias,
                                     parts.in(l, parts.residual), l.out[0]};
            (turned ? depthwise_dgrad : depthwise_forward)(d, epilogue, args, l.stream);
          },
          scratch.bytes()};
}

Kernel depthwise_wgrad_kernel(const Prepare& p) {
  const Depthwise d = depthwise_of(wgrad_spec(p), p.in(0), p.in(1));
  return {
      [d](const Launch& l) { depthwise_wgrad(d, l.in[0], l.in[1], l.out[0], l.scratch, l.stream); },
      depthwise_wgrad_scratch(d)};
}

Kernel convolution(const Prepare& p, const Parts& parts) {
  const Node& n = *parts.anchor;
  if (is_own_depthwise(n)) return depthwise(p, parts);
  return n.op == &ops::conv2d_transpose_op ? dgrad(p, parts) : forward(p, parts);
}

// The convolution and its sums in one kernel, where there is one.
std::optional<Kernel> with_sums(const Prepare& p, Parts parts) {
  const Type &x = p.in(0), &y = p.out();
  parts.sums = true;
  if (const auto own = few_channels(p, parts)) return own;
  if (x.dtype != DType::kFloat16 || is_own_depthwise(p.node) ||
      padded_channels(y.shape[1], y.dtype, 1, false) != y.shape[1])
    return std::nullopt;
  try {
    return library_forward(p, parts);
  } catch (const Error& e) {
    if (e.code() != Code::kUnimplemented) throw;
    return std::nullopt;
  }
}

void check_dtype(const Node& n) {
  const DType dtype = n.inputs[0]->type.dtype;
  if (!is_floating(dtype))
    fail(Code::kUnimplemented, message(n.op->name, "has no CUDA kernel for ", dtype), n.where);
}

}  // namespace
}  // namespace cuda

Kernel cuda_conv2d(const Prepare& p) {
  cuda::check_dtype(p.node);
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  if (p.in(0).shape.numel() == 0 || p.in(1).shape.numel() == 0) {
    TRI_CHECK(!p.has(2), message(p.node.op->name, "input without channels cannot have a bias"));
    return cuda_zero_outputs(p);
  }
  return cuda::convolution(p, {.anchor = &p.node, .result = &p.out(), .bias = p.has(2) ? 2 : -1});
}

// Sums in the convolution's own kernel (cuDNN's for float16 alone) are not always to advantage:
// whichever is faster with a pass over the result is taken.
Kernel cuda_conv2d_statistics(const Prepare& p) {
  cuda::check_dtype(p.node);
  if (p.in(0).shape.numel() == 0 || p.out().shape.numel() == 0) return cuda_zero_outputs(p);
  const cuda::Parts parts{.anchor = &p.node, .result = &p.out()};
  const Kernel conv = cuda::convolution(p, parts);
  const size_t at = (conv.scratch + 255) / 256 * 256;
  const Kernel apart{[conv, at, y = p.out()](const Launch& l) {
                       conv.run(l);
                       cuda::channel_sums(y, l.out[0], l.out[1], static_cast<char*>(l.scratch) + at,
                                          l.stream);
                     },
                     at + cuda::channel_sums_scratch(p.out())};
  const std::optional<Kernel> joined = cuda::with_sums(p, parts);
  return joined && cuda::is_faster(p, *joined, apart, "sums joined or apart") ? *joined : apart;
}

Kernel cuda_conv2d_wgrad(const Prepare& p) {
  cuda::check_dtype(p.node);
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  if (p.in(0).shape.numel() == 0 || p.in(1).shape.numel() == 0) return cuda_zero_outputs(p);
  if (is_own_depthwise(p.node)) return cuda::depthwise_wgrad_kernel(p);
  std::vector<cuda::Alternative> all = cuda::folded_conv_wgrad(p, cuda::wgrad_spec(p));
  if (const auto own = cuda::few_channels_wgrad_kernel(p)) all.push_back({"few channels", *own});
  cuda::append(all, cuda::conv_1x1_wgrad(p, cuda::wgrad_spec(p)));
  return cuda::best_of(p, std::move(all), [&] { return cuda::wgrad(p); });
}

Kernel cuda_fused_conv(const Prepare& p, const Graph& body, const AnchorMatch& m) {
  cuda::Parts parts{.anchor = m.anchor, .result = &m.result->type};
  if (p.out().shape.numel() == 0) return {[](const Launch&) {}};
  parts.x = place_among_inputs(p, &body, m.x);
  parts.weight = place_among_inputs(p, &body, m.anchor->inputs[1]);
  if (m.anchor->inputs.size() > 2) parts.bias = place_among_inputs(p, &body, m.anchor->inputs[2]);
  parts.residual = place_among_inputs(p, &body, m.residual);
  if (m.residual != nullptr) parts.residual_type = &m.residual->type;
  parts.epilogue = m.epilogue;
  return cuda::convolution(p, parts);
}

}  // namespace trireme
