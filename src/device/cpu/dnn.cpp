// oneDNN: primitives are created once per plan; memory objects once per run.
#include "device/cpu/dnn.h"

#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "device/cpu/conv_wgrad.h"
#include "trireme/error.h"

namespace trireme::cpu {
namespace {

using dnnl::memory;
using dims = memory::dims;

const dnnl::engine& engine() {
  static const dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

memory::data_type type_of(DType dtype) {
  return dtype == DType::kBFloat16 ? memory::data_type::bf16 : memory::data_type::f32;
}

template <class F> auto guarded(const char* what, F&& f) {
  try {
    return f();
  } catch (const dnnl::error& e) {
    fail(e.status == dnnl_out_of_memory ? Code::kResourceExhausted : Code::kUnimplemented,
         std::string("oneDNN cannot do this ") + what + ": " + e.what());
  }
}

void append_act(dnnl::post_ops& ops, const Epilogue& e) {
  using dnnl::algorithm;
  switch (e.act) {
    case Act::kNone: return;
    case Act::kRelu: return ops.append_eltwise(algorithm::eltwise_relu, 0, 0);
    case Act::kClip: return ops.append_eltwise(algorithm::eltwise_clip, e.alpha, e.beta);
    case Act::kLeakyRelu: return ops.append_eltwise(algorithm::eltwise_relu, e.alpha, 0);
    case Act::kHardSwish: return ops.append_eltwise(algorithm::eltwise_hardswish, 1.0f / 6, 0.5f);
    case Act::kHardSigmoid:
      return ops.append_eltwise(algorithm::eltwise_hardsigmoid, e.alpha, e.beta);
    case Act::kSigmoid: return ops.append_eltwise(algorithm::eltwise_logistic, 0, 0);
    case Act::kSwish: return ops.append_eltwise(algorithm::eltwise_swish, 1, 0);
    case Act::kGelu: return ops.append_eltwise(algorithm::eltwise_gelu_erf, 0, 0);
    case Act::kTanh: return ops.append_eltwise(algorithm::eltwise_tanh, 0, 0);
  }
}

dnnl::primitive_attr attributes(const Epilogue& e, const memory::desc& dst) {
  dnnl::post_ops ops;
  if (e.residual == Epilogue::kBeforeAct) ops.append_binary(dnnl::algorithm::binary_add, dst);
  append_act(ops, e);
  if (e.scale != 1 || e.shift != 0)
    ops.append_eltwise(dnnl::algorithm::eltwise_linear, e.scale, e.shift);
  if (e.residual == Epilogue::kAfter) ops.append_binary(dnnl::algorithm::binary_add, dst);
  dnnl::primitive_attr attr;
  attr.set_post_ops(ops);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

// Channels-last pictures whose pixels are ld elements apart (rows and pictures follow from that).
memory::desc picture(int64_t n, int64_t c, int64_t h, int64_t w, int64_t ld, DType dtype,
                     bool planar = false) {
  if (planar) return {{n, c, h, w}, type_of(dtype), memory::format_tag::nchw};
  return {{n, c, h, w}, type_of(dtype), dims{h * w * ld, 1, w * ld, ld}};
}

class Implementation : public Conv {
 public:
  Implementation(const ConvSpec& s, const Epilogue& e) : spec_(s) {
    x_ = picture(s.n, s.ic, s.h, s.w, s.ldx ? s.ldx : s.ic, s.dtype, s.x_planar);
    y_ = picture(s.n, s.oc, s.oh, s.ow, s.ldy ? s.ldy : s.oc, s.dtype);
    bias_ = {{s.oc}, memory::data_type::f32, memory::format_tag::a};
    const memory::desc w(weight_dims(), type_of(s.dtype), memory::format_tag::any);
    const dims strides{s.sh, s.sw}, dilations{s.dh - 1, s.dw - 1}, before{s.top, s.left};
    const auto attr = attributes(e, y_);
    residual_index_ = e.residual == Epilogue::kNone ? -1 : residual_place(e);
    if (s.transposed) {
      const dims after{(s.h - 1) * s.sh + (s.kh - 1) * s.dh + 1 - s.oh - s.top,
                       (s.w - 1) * s.sw + (s.kw - 1) * s.dw + 1 - s.ow - s.left};
      const dnnl::deconvolution_forward::primitive_desc pd(
          engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::deconvolution_direct, x_,
          w, bias_, y_, strides, dilations, before, after, attr);
      finish(pd, dnnl::deconvolution_forward(pd));
    } else {
      const dims after{(s.oh - 1) * s.sh + (s.kh - 1) * s.dh + 1 - s.h - s.top,
                       (s.ow - 1) * s.sw + (s.kw - 1) * s.dw + 1 - s.w - s.left};
      const dnnl::convolution_forward::primitive_desc pd(
          engine(), dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, x_, w,
          bias_, y_, strides, dilations, before, after, attr);
      finish(pd, dnnl::convolution_forward(pd));
    }
  }

  size_t scratch_bytes() const override {
    return scratch_.get_size() + static_cast<size_t>(spec_.oc) * 4 + 64;
  }
  size_t packed_bytes() const { return weight_.get_size(); }

  void pack(const float* weight, void* packed) const {
    const bool grouped = spec_.groups > 1;
    dims strides;
    // Paddle keeps transposed weights as [ic, oc / groups, kh, kw]; oneDNN's logical order is
    // output first.
    const int64_t area = spec_.kh * spec_.kw, og = spec_.oc / spec_.groups,
                  ig = spec_.ic / spec_.groups;
    if (spec_.transposed) strides = {area, og * area, spec_.kw, 1};
    else strides = {ig * area, area, spec_.kw, 1};
    if (grouped)
      strides.insert(strides.begin(), spec_.transposed ? ig * og * area : og * ig * area);
    const memory::desc plain(weight_dims(), memory::data_type::f32, strides);
    dnnl::stream stream(engine());
    memory from(plain, engine(), const_cast<float*>(weight)), to(weight_, engine(), packed);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  }

  void run(const ConvArgs& a) const override {
    dnnl::stream stream(engine());
    const auto wrap = [](const memory::desc& d, const void* p) {
      return memory(d, engine(), const_cast<void*>(p));
    };
    char* scratch = static_cast<char*>(a.scratch);
    const float* bias = a.bias;
    if (bias == nullptr) {
      auto* zeros = reinterpret_cast<float*>(scratch + (scratch_.get_size() + 63) / 64 * 64);
      std::fill(zeros, zeros + spec_.oc, 0.0f);
      bias = zeros;
    }
    std::unordered_map<int, memory> args = {{DNNL_ARG_SRC, wrap(x_, a.x)},
                                            {DNNL_ARG_WEIGHTS, wrap(weight_, a.weight)},
                                            {DNNL_ARG_BIAS, wrap(bias_, bias)},
                                            {DNNL_ARG_DST, wrap(y_, a.y)},
                                            {DNNL_ARG_SCRATCHPAD, wrap(scratch_, scratch)}};
    if (residual_index_ >= 0)
      args.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(residual_index_) | DNNL_ARG_SRC_1,
                   wrap(y_, a.residual));
    primitive_.execute(stream, args);
    stream.wait();
  }

 private:
  dims weight_dims() const {
    if (spec_.groups > 1)
      return {spec_.groups, spec_.oc / spec_.groups, spec_.ic / spec_.groups, spec_.kh, spec_.kw};
    return {spec_.oc, spec_.ic, spec_.kh, spec_.kw};
  }

  static int residual_place(const Epilogue& e) {
    if (e.residual == Epilogue::kBeforeAct) return 0;
    return (e.act != Act::kNone ? 1 : 0) + (e.scale != 1 || e.shift != 0 ? 1 : 0);
  }

  template <class Desc> void finish(const Desc& pd, dnnl::primitive primitive) {
    primitive_ = std::move(primitive);
    weight_ = pd.weights_desc();
    scratch_ = pd.scratchpad_desc();
  }

  ConvSpec spec_;
  memory::desc x_, y_, bias_, weight_, scratch_;
  dnnl::primitive primitive_;
  int residual_index_ = -1;
};

// With dw in the library's own form first, then brought to ours.
class DnnWgrad : public ConvWgrad {
 public:
  explicit DnnWgrad(const ConvSpec& s) {
    x_ = picture(s.n, s.ic, s.h, s.w, s.ldx, s.dtype);
    dy_ = picture(s.n, s.oc, s.oh, s.ow, s.ldy, s.dtype);
    const int64_t og = s.oc / s.groups, ig = s.ic / s.groups;
    const dims shape =
        s.groups > 1 ? dims{s.groups, og, ig, s.kh, s.kw} : dims{s.oc, s.ic, s.kh, s.kw};
    plain_ = {shape, memory::data_type::f32,
              s.groups > 1 ? memory::format_tag::abcde : memory::format_tag::abcd};
    const memory::desc any(shape, memory::data_type::f32, memory::format_tag::any);
    const memory::desc any_w(shape, type_of(s.dtype), memory::format_tag::any);
    const dims strides{s.sh, s.sw}, dilations{s.dh - 1, s.dw - 1}, before{s.top, s.left};
    const dims after{(s.oh - 1) * s.sh + (s.kh - 1) * s.dh + 1 - s.h - s.top,
                     (s.ow - 1) * s.sw + (s.kw - 1) * s.dw + 1 - s.w - s.left};
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::convolution_forward::primitive_desc hint(
        engine(), dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, x_, any_w,
        dy_, strides, dilations, before, after, attr);
    const dnnl::convolution_backward_weights::primitive_desc pd(
        engine(), dnnl::algorithm::convolution_direct, x_, any, dy_, strides, dilations, before,
        after, hint, attr);
    primitive_ = dnnl::convolution_backward_weights(pd);
    dw_ = pd.diff_weights_desc();
    scratch_ = pd.scratchpad_desc();
    offset_ = (scratch_.get_size() + 63) / 64 * 64;
  }

  size_t scratch_bytes() const override { return offset_ + dw_.get_size(); }

  void run(const void* x, const void* dy, float* dw, void* scratch) const override {
    dnnl::stream stream(engine());
    const auto wrap = [](const memory::desc& d, const void* p) {
      return memory(d, engine(), const_cast<void*>(p));
    };
    const memory own = wrap(dw_, static_cast<char*>(scratch) + offset_), plain = wrap(plain_, dw);
    primitive_.execute(stream, {{DNNL_ARG_SRC, wrap(x_, x)},
                                {DNNL_ARG_DIFF_DST, wrap(dy_, dy)},
                                {DNNL_ARG_DIFF_WEIGHTS, own},
                                {DNNL_ARG_SCRATCHPAD, wrap(scratch_, scratch)}});
    memory from = own, to = plain;
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
  }

 private:
  memory::desc x_, dy_, dw_, plain_, scratch_;
  dnnl::primitive primitive_;
  size_t offset_ = 0;
};

}  // namespace

std::unique_ptr<ConvWgrad> dnn_conv_wgrad(const ConvSpec& spec) {
  return guarded("gradient of a convolution's weights",
                 [&] { return std::make_unique<DnnWgrad>(spec); });
}

DnnConv dnn_conv(const ConvSpec& spec, const Epilogue& epilogue) {
  return guarded("convolution", [&] {
    const auto conv = std::make_shared<Implementation>(spec, epilogue);
    return DnnConv{conv, conv->packed_bytes(),
                   [conv](const float* weight, void* packed) { conv->pack(weight, packed); }};
  });
}

DnnMatmul dnn_matmul(const BatchMatmulSpec& s, bool with_bias) {
  return guarded("matrix product", [&] {
    const auto type = type_of(s.dtype);
    const auto operand = [&](const MatrixStrides& v, int64_t rows, int64_t columns) {
      // Broadcast dimensions have the size 1; their stride then means nothing but must not be 0.
      const int64_t outer = v.outer ? s.outer : 1, inner = v.inner ? s.inner : 1;
      const int64_t whole = rows * columns;
      return memory::desc(
          {outer, inner, rows, columns}, type,
          dims{v.outer ? v.outer : inner * whole, v.inner ? v.inner : whole, v.row, v.column});
    };
    const auto a = operand(s.a, s.m, s.k), b = operand(s.b, s.k, s.n);
    const memory::desc c({s.outer, s.inner, s.m, s.n}, type,
                         dims{s.c.outer ? s.c.outer : s.inner * s.m * s.n,
                              s.c.inner ? s.c.inner : s.m * s.n, s.c.row, s.c.column});
    const memory::desc bias({1, 1, 1, s.n}, memory::data_type::f32, dims{s.n, s.n, s.n, 1});
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const auto pd = with_bias ? dnnl::matmul::primitive_desc(engine(), a, b, bias, c, attr)
                              : dnnl::matmul::primitive_desc(engine(), a, b, c, attr);
    const dnnl::matmul primitive(pd);
    const memory::desc scratch = pd.scratchpad_desc();
    const auto run = [=](const void* pa, const void* pb, const float* pbias, void* pc,
                         void* memory_for_scratch) {
      dnnl::stream stream(engine());
      const auto wrap = [](const memory::desc& d, const void* p) {
        return memory(d, engine(), const_cast<void*>(p));
      };
      std::unordered_map<int, memory> args = {
          {DNNL_ARG_SRC, wrap(a, pa)},
          {DNNL_ARG_WEIGHTS, wrap(b, pb)},
          {DNNL_ARG_DST, wrap(c, pc)},
          {DNNL_ARG_SCRATCHPAD, wrap(scratch, memory_for_scratch)}};
      if (with_bias) args.emplace(DNNL_ARG_BIAS, wrap(bias, pbias));
      primitive.execute(stream, args);
      stream.wait();
    };
    return DnnMatmul{run, scratch.get_size()};
  });
}

std::string dnn_version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + '.' + std::to_string(v->minor) + '.' + std::to_string(v->patch);
}

}  // namespace trireme::cpu
