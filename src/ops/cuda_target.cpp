// What the passes may do for a GPU.
#include "ops/cuda_target.h"

#include "graph/op.h"
#include "ops/anchor.h"
#include "ops/cuda_kernels.h"

namespace trireme {
namespace {

class CudaTarget : public Target {
 public:
  bool fuses(const std::vector<const Node*>& nodes) const override { return cuda_fuses(nodes); }
  bool fuses_norms() const override { return true; }
  // Tensor cores want channels innermost.
  Layout input_layout(const Node& anchor) const override {
    const bool picture = anchor.op->layouts == Layouts::kPrefersChannelsLast &&
                         anchor.inputs[0]->type.shape.rank() == 4;
    return picture ? Layout::kChannelsLast : Layout::kPlain;
  }
};

}  // namespace

bool cuda_fuses(const std::vector<const Node*>& nodes) {
#ifdef TRIREME_CUDA
  return cuda_fuses_matmul(nodes);
#else
  (void)nodes;
  return false;
#endif
}

const Target& cuda_target() {
  static const CudaTarget target;
  return target;
}

const Target& target_of(const std::string& device) {
  return device == "cpu" ? cpu_target() : cuda_target();
}

}  // namespace trireme
