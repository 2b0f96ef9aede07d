// conv2d_wgrad: the gradient of a convolution by its weight.
#include "device/cpu/conv_wgrad.h"

#include "ops/anchor.h"
#include "ops/conv.h"
#include "ops/conv_reference.h"
#include "ops/cuda_kernels.h"
#include "ops/turn.h"
#include "ops/widened.h"

namespace trireme {
namespace {

void infer(const Infer& i) {
  const auto& a = i.attrs<Conv2dAttrs>();
  const Shape &x = i.shape(0), &y = i.shape(1);
  TRI_CHECK(is_floating(i.dtype(0)) && i.dtype(1) == i.dtype(0),
            message(i.op.name, "x and dout expect one floating dtype, got ", i.dtype(0), " and ",
                    i.dtype(1)));
  TRI_CHECK(x.rank() == 4 && y.rank() == 4 && x[0] == y[0],
            message(i.op.name, "x and dout expect as many pictures, got ", x, " and ", y));
  TRI_CHECK(a.kernel.size() == 2 && a.kernel[0] > 0 && a.kernel[1] > 0,
            message(i.op.name, "kernel expects two positive values"));
  TRI_CHECK(a.strides.size() == 2 && a.dilations.size() == 2 && a.paddings.size() == 4 &&
                a.strides[0] > 0 && a.strides[1] > 0 && a.dilations[0] > 0 && a.dilations[1] > 0,
            message(i.op.name, "strides and dilations expect 2 positive numbers, paddings 4"));
  TRI_CHECK(a.groups > 0 && x[1] % a.groups == 0 && y[1] % a.groups == 0,
            message(i.op.name, a.groups, " groups do not divide the channels of ", x, " and ", y));
  for (size_t d = 0; d < 2; ++d) {
    const int64_t in = x[static_cast<int>(d) + 2], out = y[static_cast<int>(d) + 2];
    const int64_t room =
        in + a.paddings[2 * d] + a.paddings[2 * d + 1] - a.dilations[d] * (a.kernel[d] - 1) - 1;
    TRI_CHECK(room >= 0 && room / a.strides[d] + 1 == out,
              message(i.op.name, "dout of shape ", y, " does not belong to x of shape ", x));
  }
  i.out(i.dtype(0), Shape{y[1], x[1] / a.groups, a.kernel[0], a.kernel[1]});
}

void grad(Grad& g) {
  const auto& a = g.attrs<Conv2dAttrs>();
  Conv2dAttrs forward = a;
  forward.kernel.clear();
  if (g.wants(0)) g.set(0, ops::conv2d_dgrad(g.in(1), g.dout(), g.in(0), a));
  if (g.wants(1)) g.set(1, ops::conv2d(g.in(0), g.dout(), nullptr, forward));
}

cpu::ConvSpec spec_of(const Prepare& p) {
  const auto& a = p.attrs<Conv2dAttrs>();
  const Shape &x = p.in(0).shape, &y = p.in(1).shape;
  cpu::ConvSpec s;
  s.n = x[0], s.ic = x[1], s.h = x[2], s.w = x[3];
  s.oc = y[1], s.oh = y[2], s.ow = y[3];
  s.kh = a.kernel[0], s.kw = a.kernel[1], s.sh = a.strides[0], s.sw = a.strides[1];
  s.dh = a.dilations[0], s.dw = a.dilations[1], s.top = a.paddings[0], s.left = a.paddings[2];
  s.groups = a.groups;
  s.dtype = p.in(0).dtype;
  return s;
}

Kernel prepare(const Prepare& p) {
  if (any_float16(p)) return widened(p, prepare);
  const DType dtype = p.in(0).dtype;
  const int64_t count = p.out().shape.numel();
  if (count == 0 || p.in(0).shape.numel() == 0) {
    return {[bytes = p.out().bytes()](const Launch& l) {
      if (bytes > 0) std::memset(l.out[0], 0, bytes);
    }};
  }
  if (dtype != DType::kFloat32 && dtype != DType::kBFloat16) return reference_conv(p);
  const std::shared_ptr<const cpu::ConvWgrad> wgrad = cpu::ConvWgrad::create(spec_of(p));
  Turn turns[2];
  size_t at[2] = {0, 0}, scratch = align_up(wgrad->scratch_bytes());
  for (size_t i = 0; i < 2; ++i) {
    if (!lies_planar(p.node.inputs[i])) continue;
    turns[i] = Turn(p.in(i).shape, size_of(dtype), true);
    at[i] = scratch;
    scratch += turns[i].bytes();
  }
  const size_t wide = scratch;  // bfloat16: the result in float32
  const bool narrow = dtype == DType::kBFloat16;
  if (narrow) scratch += align_up(static_cast<size_t>(count) * sizeof(float));
  const auto run = [=, x_turn = turns[0], y_turn = turns[1], x_at = at[0],
                    y_at = at[1]](const Launch& l) {
    char* memory = static_cast<char*>(l.scratch);
    const auto turned = [&](size_t i, const Turn& turn, size_t to) -> const void* {
      if (!turn.needed()) return l.in[i];
      turn.run(l.in[i], memory + to);
      return memory + to;
    };
    const void *x = turned(0, x_turn, x_at), *dy = turned(1, y_turn, y_at);
    auto* dw = narrow ? reinterpret_cast<float*>(memory + wide) : l.output<float>();
    wgrad->run(x, dy, dw, memory);
    if (narrow)
      for (int64_t i = 0; i < count; ++i) l.output<BFloat16>()[i] = BFloat16(dw[i]);
  };
  return {run, scratch};
}

}  // namespace

namespace ops {

const Op conv2d_wgrad_op{.name = "conv2d_wgrad",
                         .inputs = 2,
                         .attrs = &attr_info<Conv2dAttrs>,
                         .infer = infer,
                         .grad = grad,
                         .cpu = prepare,
                         .cuda = TRI_CUDA(cuda_conv2d_wgrad),
                         .amp = Amp::kHalf,
                         .layouts = Layouts::kReadsChannelsLast};

Value* conv2d_wgrad(Value* x, Value* dout, const Conv2dAttrs& attrs) {
  return record1(conv2d_wgrad_op, {x, dout}, attrs);
}

}  // namespace ops
}  // namespace trireme
