// What the passes may do for a GPU.
#include "ops/cuda_target.h"

#include "graph/op.h"
#include "ops/anchor.h"
#include "ops/conv.h"
#include "ops/cuda_kernels.h"
#include "ops/matmul.h"

namespace trireme {
namespace {

class CudaTarget : public Target {
 public:
  bool fuses(const std::vector<const Node*>& nodes) const override { return cuda_fuses(nodes); }
  bool branches() const override { return false; }
  bool fuses_norms() const override { return true; }
  // cuDNN does behind those of float16 alone, our own kernels behind the first one of a network.
  bool sums_behind(const Node& conv) const override {
    const Type& x = conv.inputs[0]->type;
    return conv.get<Conv2dAttrs>().groups == 1 &&
           (x.dtype == DType::kFloat16 || (x.dtype == DType::kBFloat16 && x.shape[1] <= 4));
  }
  // Tensor cores want channels innermost; a picture's few planes are read as they lie, since the
  // first convolution pads them anyway.
  Layout input_layout(const Node& anchor) const override {
    const bool conv = anchor.op == &ops::conv2d_op || anchor.op == &ops::conv2d_wgrad_op;
    if (conv && anchor.inputs[0]->type.shape[1] <= 4 && anchor.get<Conv2dAttrs>().groups == 1)
      return Layout::kPlain;
    const bool picture =
        anchor.op->layouts != Layouts::kPlainOnly && anchor.inputs[0]->type.shape.rank() == 4;
    return picture ? Layout::kChannelsLast : Layout::kPlain;
  }
};

// Depthwise convolutions are our own kernels, which take the whole pattern. For the others it is
// what cuDNN has precompiled engines for: [+ residual] -> + bias -> [relu].
bool fuses_conv(const std::vector<const Node*>& nodes) {
  const auto m = match_anchor(nodes);
  if (!m || m->depthwise || m->input_scale || m->anchor->op == &ops::matmul_op) return false;
  const DType dtype = m->x->type.dtype;
  const bool known = dtype == DType::kFloat32 || size_of(dtype) == 2;
  if (!known || !is_floating(dtype)) return false;
  if (is_own_depthwise(*m->anchor))
    return m->residual == nullptr || lies_planar(m->residual) == lies_planar(m->result);
  const cpu::Epilogue& e = m->epilogue;
  return m->anchor->op == &ops::conv2d_op && e.scale == 1 && e.shift == 0 &&
         (e.act == cpu::Act::kNone || e.act == cpu::Act::kRelu) &&
         e.residual != cpu::Epilogue::kAfter;
}

}  // namespace

bool cuda_fuses(const std::vector<const Node*>& nodes) {
#ifdef TRIREME_CUDA
  if (cuda_fuses_matmul(nodes)) return true;
#endif
  return fuses_conv(nodes);
}

const Target& cuda_target() {
  static const CudaTarget target;
  return target;
}

const Target& target_of(const std::string& device) {
  return device == "cpu" ? cpu_target() : cuda_target();
}

}  // namespace trireme
