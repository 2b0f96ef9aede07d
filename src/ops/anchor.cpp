// The CPU kernels of convolutions and matrix products: which implementation, which packed weights,
// which pointers.
#include "ops/anchor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "base/parallel.h"
#include "device/cpu/dnn.h"
#include "device/precision.h"
#include "ops/batch_matmul.h"
#include "ops/conv.h"
#include "ops/conv_reference.h"
#include "ops/elements.h"
#include "ops/matmul.h"
#include "ops/turn.h"
#include "ops/widened.h"

namespace trireme {
namespace {

// An implementation of one convolution together with the form of weights it wants.
struct Choice {
  std::shared_ptr<const cpu::Conv> conv;
  std::string tag;
  size_t packed_bytes = 0;
  std::function<void(const float*, void*)> pack;
};

std::string numbers(std::initializer_list<int64_t> values) {
  std::string s;
  for (int64_t v : values) s += ' ' + std::to_string(v);
  return s;
}

std::string own_tag(const cpu::ConvSpec& s) {
  return "own" + numbers({s.ic, s.oc, s.kh, s.kw, s.sh, s.sw, s.dh, s.dw, s.groups, s.transposed,
                          s.transposed ? s.top : 0, s.transposed ? s.left : 0,
                          static_cast<int64_t>(s.dtype), s.half_products});
}

void set_own_weights(Choice& c, const cpu::ConvSpec& s) {
  c.tag = own_tag(s);
  c.packed_bytes = cpu::Conv::packed_bytes(s);
  c.pack = [s](const float* weight, void* packed) { cpu::Conv::pack(s, weight, packed); };
}

Choice choose(const cpu::ConvSpec& s, const cpu::Epilogue& e) {
  Choice c;
  if (cpu::cpu_supports(s.dtype)) {
    c.conv = cpu::Conv::create(s, e);
    if (c.conv) {
      set_own_weights(c, s);
      return c;
    }
  }
  cpu::DnnConv dnn = cpu::dnn_conv(s, e);
  c.conv = dnn.conv;
  c.packed_bytes = dnn.packed_bytes;
  c.pack = dnn.pack;
  c.tag = "dnn" +
          numbers({s.n, s.h, s.w, s.ic, s.oh, s.ow, s.oc, s.kh, s.kw, s.sh, s.sw, s.dh, s.dw, s.top,
                   s.left, s.groups, s.transposed, s.x_planar, static_cast<int64_t>(s.dtype)});
  return c;
}

// Paddle's order for a matrix [K, N] seen as a 1x1 convolution: [N, K].
const float* convolution_order(const Node& node, const float* weight, std::vector<float>& storage) {
  if (node.op != &ops::matmul_op || node.get<MatmulAttrs>().transpose_y) return weight;
  const Shape& w = node.inputs[1]->type.shape;
  const int64_t k = w[0], n = w[1];
  storage.resize(static_cast<size_t>(k * n));
  constexpr int64_t kBlock = 32;
  parallel_for((n + kBlock - 1) / kBlock, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t j0 = begin * kBlock; j0 < std::min(end * kBlock, n); j0 += kBlock)
      for (int64_t i0 = 0; i0 < k; i0 += kBlock)
        for (int64_t j = j0; j < std::min(j0 + kBlock, n); ++j)
          for (int64_t i = i0; i < std::min(i0 + kBlock, k); ++i)
            storage[static_cast<size_t>(j * k + i)] = weight[i * n + j];
  });
  return storage.data();
}

// The packed weights of one node: shared when constant, else made in scratch memory at each run.
struct Weights {
  std::shared_ptr<const void> shared;
  size_t scratch = 0;
  std::function<void(const void*, void*)> pack;

  const void* get(const void* source, char* memory) const {
    if (shared) return shared.get();
    pack(source, memory);
    return memory;
  }
};

// Weights that decayed below the smallest normal number count as zero: a processor takes a hundred
// times as long for them.
Array without_denormals(const Array& t) {
  const auto tiny = [](float v) {
    return v != 0 && std::abs(v) < std::numeric_limits<float>::min();
  };
  const auto* from = t.as<float>();
  if (std::none_of(from, from + t.numel(), tiny)) return t;
  Array clean(DType::kFloat32, t.shape());
  std::replace_copy_if(from, from + t.numel(), clean.as<float>(), tiny, 0.0f);
  return clean;
}

Weights prepare_weights(const Prepare& p, size_t input, const Node* node, const Choice& c) {
  const auto pack = [node, c](const float* weight, void* packed) {
    std::vector<float> storage;
    c.pack(convolution_order(*node, weight, storage), packed);
  };
  Weights w;
  if (p.constant(input)) {
    const bool turned = node->op == &ops::matmul_op && !node->get<MatmulAttrs>().transpose_y;
    w.shared = p.packed(input, c.tag + (turned ? " turned" : ""), c.packed_bytes,
                        [&](const Array& t, void* packed) {
                          const Array source = without_denormals(t.to(DType::kFloat32));
                          pack(source.as<float>(), packed);
                        });
    return w;
  }
  const Type& type = node->inputs[1]->type;
  TRI_CHECK(
      type.dtype == DType::kFloat32 || type.dtype == DType::kBFloat16,
      message(node->op->name, "a computed weight expects float32 or bfloat16, got ", type.dtype));
  w.scratch = align_up(c.packed_bytes);
  w.pack = [pack, type](const void* weight, void* packed) {
    if (type.dtype == DType::kFloat32) return pack(static_cast<const float*>(weight), packed);
    const auto* narrow = static_cast<const BFloat16*>(weight);
    const std::vector<float> wide(narrow, narrow + type.shape.numel());
    pack(wide.data(), packed);
  };
  return w;
}

Kernel turned_convolution(Kernel inner, size_t count, int x, const Turn& in, const Turn& out) {
  const size_t own = align_up(inner.scratch), in_bytes = in.needed() ? in.bytes() : 0;
  const size_t out_bytes = out.needed() ? out.bytes() : 0;
  return {[=, run = std::move(inner.run)](const Launch& launch) {
            char* scratch = static_cast<char*>(launch.scratch);
            std::vector<void*> inputs(launch.in, launch.in + count);
            void* result = out.needed() ? scratch + own + in_bytes : launch.out[0];
            if (in.needed()) {
              in.run(launch.in[x], scratch + own);
              inputs[static_cast<size_t>(x)] = scratch + own;
            }
            run(Launch{inputs.data(), &result, scratch});
            if (out.needed()) out.run(result, launch.out[0]);
          },
          own + in_bytes + out_bytes};
}

Kernel convolution(const Prepare& p, const Graph* body, const AnchorMatch& m) {
  const Node& anchor = *m.anchor;
  cpu::ConvSpec spec = conv_spec(anchor);
  const size_t element = size_of(spec.dtype);
  Turn turn_in, turn_out;
  // Only our own kernels read a picture's planes as they lie; oneDNN would fall back to its
  // reference code.
  const bool reads_planes =
      cpu::cpu_supports(spec.dtype) && spec.ic <= 4 && spec.groups == 1 && !spec.transposed;
  if (lies_planar(m.x) && !reads_planes) {
    turn_in = Turn(m.x->type.shape, element, true);
    spec.x_planar = false;
  }
  if (lies_planar(m.result)) turn_out = Turn(m.result->type.shape, element, false);
  const int weight = place_among_inputs(p, body, anchor.inputs[1]);
  spec.half_products = allows_half_products() && p.constant(static_cast<size_t>(weight));
  Choice choice;
  Weights dw_weights;
  int dw_bias = -1;
  if (m.depthwise) {
    const cpu::ConvSpec dw = conv_spec(*m.depthwise);
    choice.conv = cpu::Conv::create(dw, m.depthwise_epilogue, spec, m.epilogue);
    if (!choice.conv) {  // float16 deals out wider panels, which may not be worth fusing
      spec.half_products = false;
      choice.conv = cpu::Conv::create(dw, m.depthwise_epilogue, spec, m.epilogue);
    }
    set_own_weights(choice, spec);
    Choice first;
    set_own_weights(first, dw);
    dw_weights =
        prepare_weights(p, static_cast<size_t>(place_among_inputs(p, body, m.depthwise->inputs[1])),
                        m.depthwise, first);
    if (m.depthwise->inputs.size() > 2)
      dw_bias = place_among_inputs(p, body, m.depthwise->inputs[2]);
  } else {
    choice = choose(spec, m.epilogue);
  }
  const Weights weights = prepare_weights(p, static_cast<size_t>(weight), &anchor, choice);
  const int x = place_among_inputs(p, body, m.x),
            residual = place_among_inputs(p, body, m.residual),
            scale = place_among_inputs(p, body, m.input_scale);
  const int bias = anchor.inputs.size() > 2 ? place_among_inputs(p, body, anchor.inputs[2]) : -1;
  // Of a model in half precision they are bfloat16; kernels take float32.
  const Param<float> bias_of(p, static_cast<size_t>(bias)),
      dw_bias_of(p, static_cast<size_t>(dw_bias));
  const int64_t bias_floats = bias_of.scratch() + dw_bias_of.scratch();
  const bool scale_is_bf16 = m.input_scale && m.input_scale->type.dtype == DType::kBFloat16;
  const int64_t scales = m.input_scale ? m.input_scale->type.shape.numel() : 0;
  const size_t conv_scratch = align_up(choice.conv->scratch_bytes());

  Kernel kernel;
  const size_t floats_at = conv_scratch + weights.scratch;
  kernel.scratch =
      floats_at + static_cast<size_t>(bias_floats + (scale_is_bf16 ? scales : 0)) * 4 + 64;
  kernel.run = [=, conv = choice.conv](const Launch& launch) {
    const auto input = [&](int i) { return i < 0 ? nullptr : launch.in[i]; };
    char* scratch = static_cast<char*>(launch.scratch);
    cpu::ConvArgs args;
    args.x = input(x);
    args.y = launch.out[0];
    args.weight = weights.get(input(weight), scratch + conv_scratch);
    auto* floats = reinterpret_cast<float*>(scratch + floats_at);
    args.bias = bias_of.get(launch, floats);
    args.residual = input(residual);
    args.ldr = spec.oc;
    if (scale_is_bf16) {
      const auto* narrow = static_cast<const uint16_t*>(input(scale));
      args.input_scale = floats;
      for (int64_t i = 0; i < scales; ++i) *floats++ = bf16_to_float(narrow[i]);
    } else {
      args.input_scale = static_cast<const float*>(input(scale));
    }
    args.dw_weight = dw_weights.shared.get();
    args.dw_bias = dw_bias_of.get(launch, floats);
    args.scratch = scratch;
    conv->run(args);
  };
  if (turn_in.needed() || turn_out.needed())
    return turned_convolution(std::move(kernel), p.node.inputs.size(), x, turn_in, turn_out);
  return kernel;
}

}  // namespace

int place_among_inputs(const Prepare& p, const Graph* body, const Value* v) {
  if (v == nullptr) return -1;
  const std::vector<Value*>& list = body ? body->inputs : p.node.inputs;
  const auto it = std::find(list.begin(), list.end(), v);
  if (it == list.end())
    fail(Code::kInternal, "[fused] a value of the pattern is not an input of the node");
  return static_cast<int>(it - list.begin());
}

Kernel prepare_anchor(const Prepare& p) {
  if (any_float16(p)) return widened(p, prepare_anchor);
  const DType dtype = p.in(0).dtype;
  const auto match = match_anchor({&p.node});
  if (!match && p.node.op == &ops::matmul_op) return batch_matmul(p);
  if (dtype != DType::kFloat32 && dtype != DType::kBFloat16) {
    return p.node.op == &ops::matmul_op ? batch_matmul(p) : reference_conv(p);
  }
  return convolution(p, nullptr, *match);
}

Kernel prepare_fused_anchor(const Prepare& p, const Graph& body, const AnchorMatch& match) {
  return convolution(p, &body, match);
}

}  // namespace trireme
